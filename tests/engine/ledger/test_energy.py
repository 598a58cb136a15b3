"""The energy meter on readings whose truth is known: within 1 % with a counter, 2 % without."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engine.ledger.energy import EnergyMeter
from engine.records import SensorRow
from engine.telemetry.power import PowerSum, beat_s
from engine.telemetry.reading import GpuPower, Reading

GPU = "GPU-1"
LIMIT = 35.0


def reading(
    at_s: float,
    watts: float | None,
    counter_j: float | None = None,
    machine_watts: float | None = None,
    source: str = "estimate",
    **more: object,
) -> Reading:
    row = SensorRow(
        at=at_s,
        machine_watts=machine_watts,
        machine_watts_source=source if machine_watts is not None else None,
    )
    gpus = {GPU: GpuPower(watts, counter_j, LIMIT)}
    return Reading(at=at_s, monotonic_s=1000.0 + at_s, row=row, gpus=gpus, **more)  # type: ignore[arg-type]


def measure(readings: Iterator[Reading] | list[Reading]) -> EnergyMeter:
    meter = EnergyMeter(1)
    for one in readings:
        meter.add(one)
    return meter


with_and_without_counter = pytest.mark.parametrize(
    "has_counter", [True, False], ids=["counter", "no counter"]
)


@with_and_without_counter
def test_steady_power(has_counter: bool) -> None:
    row = measure([reading(t, 20.0, 500 + 20.0 * t if has_counter else None) for t in range(61)]).row(60.0)
    assert row.gpu_j == pytest.approx(1200.0)
    assert row.gpu_integrated_j == pytest.approx(1200.0)
    assert row.gpu_counter_j == (pytest.approx(1200.0) if has_counter else None)
    assert row.gpu_source == ("counter" if has_counter else "integrated")
    assert (row.elapsed_s, row.gap_s, row.segment, row.at) == (
        60.0,
        60.0,
        1,
        60.0,
    )  # the machine was never known


@with_and_without_counter
def test_a_square_wave_of_0_7_s_through_the_samplers_means(has_counter: bool) -> None:
    def low_then_high(at_s: float) -> float:
        return 9.0 if at_s % 0.7 < 0.35 else 40.0

    def readings() -> Iterator[Reading]:
        power, second, joules, seconds = PowerSum(), 0, 0.0, 0.0
        for count in range(1201):
            at_s = beat_s(count, 0.1)
            power.add(at_s, low_then_high(at_s), 62.5)
            if at_s >= second:
                took_s = power.seconds - seconds
                watts = (power.joules - joules) / took_s if took_s else low_then_high(at_s)
                joules, seconds = power.joules, power.seconds
                yield reading(at_s, watts, 24.5 * at_s if has_counter else None, is_mean=True)
                second += 1

    row = measure(readings()).row(0.0)
    truth_j = 24.5 * row.elapsed_s
    assert row.gpu_j == pytest.approx(truth_j, rel=0.01 if has_counter else 0.02)
    assert row.gpu_integrated_j == pytest.approx(truth_j, rel=0.02)


@with_and_without_counter
def test_spikes_of_590_w_in_one_reading_of_five_are_left_out(has_counter: bool) -> None:
    meter = measure(
        [reading(t, 590.0 if t % 5 == 2 else 25.0, 25.0 * t if has_counter else None) for t in range(301)]
    )
    row = meter.row(300.0)
    assert row.gpu_j == pytest.approx(7500.0, rel=0.01 if has_counter else 0.02)
    assert row.gpu_integrated_j == pytest.approx(7500.0, rel=0.02)
    faults = meter.faults()
    assert len(faults) == 1 and "590 W" in faults[0] and GPU in faults[0]
    assert meter.faults() == []


def test_a_frozen_588_w_is_no_energy_and_a_counter_stands_in_for_it() -> None:
    blind = measure([reading(t, 588.0) for t in range(61)])
    assert (blind.row(60.0).gpu_j, blind.row(60.0).gpu_source) == (None, None)
    assert blind.row(60.0).gap_s == pytest.approx(60.0)
    assert "588 W" in blind.faults()[0]
    seeing = measure([reading(t, 588.0, 30.0 * t) for t in range(61)]).row(60.0)
    assert (seeing.gpu_j, seeing.gpu_source) == (pytest.approx(1800.0), "counter")
    assert seeing.gpu_integrated_j is None
    fooled = measure([reading(t, 588.0, 588.0 * t) for t in range(61)]).row(60.0)
    assert fooled.gpu_j is None, "a counter that counts the frozen figure is no better"


def test_a_sampler_that_rejected_every_sample_is_frozen_and_some_is_not() -> None:
    def rejected(at_s: float, watts: float | None) -> Reading:
        one = reading(at_s, watts, is_mean=True)
        one.gpus[GPU] = GpuPower(watts, None, LIMIT, 62.5, 588.0)
        return one

    some = measure([rejected(t, 20.0) for t in range(31)])
    assert some.row(30.0).gpu_j == pytest.approx(600.0)
    assert len(some.faults()) == 1
    now_and_then = measure([rejected(t, None if t % 4 == 3 else 20.0) for t in range(31)])
    assert now_and_then.row(30.0).gpu_j == pytest.approx(600.0)
    assert measure([rejected(t, None) for t in range(31)]).row(30.0).gpu_j is None


def test_a_gpu_lost_for_5_s_of_15_leaves_a_gap_without_a_counter() -> None:
    lost = [reading(t, None if 5 < t <= 10 else 30.0, None, None if 5 < t <= 10 else 60.0) for t in range(16)]
    row = measure(lost).row(15.0)
    assert row.gpu_j == pytest.approx(30.0 * 10, rel=0.02)
    assert row.machine_j == pytest.approx(60.0 * 10, rel=0.02)
    assert (row.gap_s, row.covered_s, row.elapsed_s) == (5.0, 10.0, 15.0)


def test_a_counter_that_went_on_measured_the_gap_too_and_one_that_restarted_did_not() -> None:
    def readings(counter: Callable[[int], float]) -> list[Reading]:
        return [
            reading(t, None if 5 < t <= 10 else 30.0, None if 5 < t <= 10 else counter(t), 60.0)
            for t in range(16)
        ]

    went_on = measure(readings(lambda t: 1000 + 30.0 * t)).row(15.0)
    assert (went_on.gpu_j, went_on.gap_s) == (pytest.approx(450.0, rel=0.01), 0.0)
    restarted = measure(readings(lambda t: 1000 + 30.0 * t if t < 8 else 30.0 * (t - 10)))
    row = restarted.row(15.0)
    assert (row.gpu_j, row.gap_s) == (pytest.approx(300.0, rel=0.01), 5.0)
    assert any("started anew" in fault for fault in restarted.faults())


def test_a_counter_reset_falls_back_on_the_integral_for_that_interval() -> None:
    row = measure(
        [reading(t, 25.0, 5000 + 25.0 * t if t < 100 else 25.0 * (t - 100)) for t in range(201)]
    ).row(0)
    assert row.gpu_j == pytest.approx(5000.0, rel=0.01)
    assert row.gpu_counter_j == pytest.approx(5000.0 - 25.0)
    assert row.gpu_source == "counter"


def test_a_counter_that_stands_still_under_load_is_not_believed() -> None:
    meter = measure([reading(t, 25.0, 100.0) for t in range(61)])
    assert (meter.row(60.0).gpu_j, meter.row(60.0).gpu_source) == (pytest.approx(1500.0), "integrated")
    assert any("stands still" in fault for fault in meter.faults())
    for t in range(61, 121):  # it moves again, from where it stood
        meter.add(reading(t, 25.0, 100.0 + 25.0 * (t - 60)))
    assert meter.row(120.0).gpu_j == pytest.approx(3000.0, rel=0.01)


def test_a_counter_that_stops_within_an_interval_loses_nothing() -> None:
    for stopped_s in (7.0, 7.1, 7.5, 7.9):
        meter = measure([reading(t, 25.0, 100.0 + 25.0 * min(t, stopped_s)) for t in range(16)])
        assert meter.row(15.0).gpu_j == pytest.approx(375.0, rel=0.01), stopped_s
        for t in range(16, 31):  # it had only been slow: it catches up
            meter.add(reading(t, 25.0, 100.0 + 25.0 * t))
        assert meter.row(30.0).gpu_j == pytest.approx(750.0, rel=0.01), stopped_s


@with_and_without_counter
def test_samples_count_by_their_own_time_and_one_that_is_seen_twice_counts_once(has_counter: bool) -> None:
    def sampled(second: int) -> Reading:
        at_s = 1000.0 + second - second % 3 - 0.2
        one = reading(second, 20.0)
        counter_j = 20.0 * (at_s - 999.0) if has_counter else None
        one.gpus[GPU] = GpuPower(20.0, counter_j, LIMIT, at_s=at_s)
        return one

    row = measure([sampled(second) for second in range(61)]).row(60.0)
    assert row.gpu_j == pytest.approx(20.0 * 60)


def test_a_slow_counter_is_believed_and_a_leaping_one_is_not() -> None:
    slow = measure([reading(t, 25.0, 25.0 * (t - t % 5)) for t in range(101)]).row(0)
    assert (slow.gpu_j, slow.gpu_source) == (pytest.approx(2500.0), "counter")
    leap = measure([reading(t, 25.0, 25.0 * t + (1e6 if t > 50 else 0)) for t in range(301)])
    assert leap.row(0).gpu_j == pytest.approx(7500.0, rel=0.01)
    assert any("leapt" in fault for fault in leap.faults())


def test_a_pause_of_the_supervisor_is_a_gap_unless_the_counter_saw_it() -> None:
    times = [0, 1, 2, 3, 33, 34, 35]
    without = measure([reading(t, 20.0, None, 50.0) for t in times]).row(35.0)
    assert (without.gpu_j, without.machine_j, without.gap_s) == (100.0, 250.0, 30.0)
    counted = measure([reading(t, 20.0, 20.0 * t, 50.0) for t in times]).row(35.0)
    assert (counted.gpu_j, counted.machine_j, counted.gap_s) == (700.0, 250.0, 30.0)


def test_the_interval_decides_what_is_a_pause() -> None:
    meter = EnergyMeter(3, interval_s=10.0)
    for t in (0, 10, 20, 40):
        meter.add(reading(t, 20.0, None, 50.0))
    row = meter.row(40.0)
    assert (row.segment, row.gpu_j, row.machine_j, row.gap_s) == (3, 800.0, 2000.0, 0.0)


def test_suspend_is_a_gap_that_the_clock_does_not_show() -> None:
    readings = [reading(t, 20.0, None, 50.0, suspended_s=3600.0 if t >= 5 else 0.0) for t in range(11)]
    row = measure(readings).row(0.0)
    assert (row.gpu_j, row.machine_j, row.gap_s, row.elapsed_s) == (200.0, 500.0, 3600.0, 10.0)


def test_the_machines_source_is_the_weakest_that_went_in() -> None:
    def row_of(*sources: str) -> str | None:
        return (
            measure([reading(t, 1.0, None, 50.0, source) for t, source in enumerate(sources)])
            .row(0)
            .machine_source
        )

    assert row_of("battery", "battery") == "battery"
    assert row_of("battery", "partly measured", "battery") == "partly measured"
    assert row_of("battery", "estimate", "partly measured") == "estimate"


def test_nothing_known_is_none_and_not_zero() -> None:
    row = EnergyMeter(1).row(7.0)
    assert (row.gpu_j, row.machine_j, row.gpu_source, row.machine_source) == (None, None, None, None)
    row = measure([reading(t, None) for t in range(5)]).row(4.0)
    assert (row.gpu_j, row.gpu_counter_j, row.gpu_integrated_j, row.machine_j) == (None, None, None, None)
    assert (row.covered_s, row.gap_s) == (0.0, 4.0)


def test_two_gpus_are_summed_and_one_that_was_never_known_makes_the_sum_unknown() -> None:
    def both(at_s: float, second: GpuPower) -> Reading:
        one = reading(at_s, 20.0, None, 50.0)
        one.gpus["GPU-2"] = second
        return one

    known = measure([both(t, GpuPower(300.0, 300.0 * t, 350.0)) for t in range(11)]).row(10.0)
    assert known.gpu_j == pytest.approx(3200.0)
    assert known.gpu_source == "integrated" and known.gpu_counter_j is None
    assert measure([both(t, GpuPower(None, None, None)) for t in range(11)]).row(10.0).gpu_j is None


def test_a_reading_that_is_not_later_changes_nothing() -> None:
    meter = measure([reading(t, 20.0, None, 50.0) for t in (0, 1, 2, 2, 1)])
    assert meter.row(2.0).gpu_j == 40.0
