"""A week of readings at 1 Hz: small on disk, quick to chart, flat in memory."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.ledger.energy import EnergyMeter
from engine.records import MinuteRow, SensorRow, Series, StepRow, TimeSpan
from engine.runs.curves import CurveMemory
from engine.runs.store import RunStore
from engine.runs.stretch import shown_span
from engine.telemetry.reading import GpuPower, Reading

WEEK_S = 7 * 24 * 3600


def readings(num: int) -> Iterator[SensorRow]:
    return map(reading, range(num))


def reading(second: int) -> SensorRow:
    """Every sensor known, none of them steady."""
    wave = math.sin(second / 600)
    return SensorRow(
        at=1.7e9 + second + 0.123,
        elapsed_s=second + (second % 7) * 0.001,
        gpu_celsius=62.0 + round(9 * wave),
        gpu_watts=31.4 + 7.77 * wave + (second % 13) / 10,
        gpu_limit_watts=35.0,
        gpu_util_frac=0.97 - second % 3 / 100,
        gpu_memory_used_bytes=3_400_000_000 + second % 100 * 2**20,
        gpu_memory_total_bytes=4 << 30,
        cpu_celsius=71.25 + 6 * wave,
        cpu_watts=18.3 + 4 * wave,
        cpu_load_frac=0.35 + 0.1 * wave,
        machine_watts=81.2 + 12 * wave,
        gpu_watts_source="nvml",
        cpu_watts_source="rapl",
        machine_watts_source="partly measured",
        memory_used_bytes=6_000_000_000 + second * 997 % 2**30,
        battery_frac=0.8,
        is_on_ac=True,
        gpu_throttle="power limit" if second % 600 else "power limit, thermal slowdown",
        gpu_clock_mhz=1200.0 + second % 200,
        gpu_fan_frac=0.4,
    )


def test_a_week_is_small_on_disk_quick_to_chart_and_as_fine_as_its_sensors(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    writer = RunStore(path)
    writer.put(*readings(WEEK_S))
    writer.roll_up()
    writer.close()
    num_bytes = sum(file.stat().st_size for file in tmp_path.glob("run.db*"))
    assert num_bytes < 60e6, f"{num_bytes / 1e6:.1f} MB"
    store = RunStore(path, read_only=True)
    assert store.num_rows(SensorRow) == WEEK_S
    took_s, series = min((charted(store) for _ in range(3)), key=lambda one: one[0])
    assert took_s < 0.1
    assert [bucket.index for bucket in series.buckets] == list(range(200))
    truth = [row.gpu_watts or 0.0 for row in readings(WEEK_S // 200)]
    first = series.buckets[0]
    assert (first.low, first.high) == pytest.approx((min(truth), max(truth)), abs=0.2)
    assert first.mean == pytest.approx(sum(truth) / len(truth), abs=0.2)
    newest = store.newest(SensorRow, "elapsed_s")
    assert newest is not None
    assert_as_fine(newest, reading(WEEK_S - 1))


def charted(store: RunStore) -> tuple[float, Series]:
    """How long one chart of 200 columns takes, in CPU seconds, and the chart."""
    began_s = time.process_time()
    series = store.series("gpu_watts", 200)
    return time.process_time() - began_s, series


def assert_as_fine(kept_row: SensorRow, true_row: SensorRow) -> None:
    for field in SensorRow.__struct_fields__:
        kept, true = getattr(kept_row, field), getattr(true_row, field)
        if isinstance(true, (str, bool)):
            assert kept == true, field
        else:
            assert kept == pytest.approx(true, abs=2**20 if field.endswith("_bytes") else 0.05), field
    assert isinstance(kept_row.gpu_memory_used_bytes, int)


def test_a_sensor_that_was_never_known_costs_no_minutes(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.db")
    store.put(*(SensorRow(at=0.0, elapsed_s=float(s), cpu_load_frac=0.5) for s in range(600)))
    store.roll_up()
    assert store.num_rows(MinuteRow) == 9
    assert store.series("gpu_watts", 10).buckets == ()


def test_the_losses_of_a_million_steps_are_read_quickly(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.db")
    num_steps = 200_000
    store.put(
        *(
            StepRow(
                step=n,
                at=0.0,
                tokens=n * 1024,
                loss=10.0 - 9.0 * n / num_steps,
                learning_rate=1e-3,
                tokens_per_s=1e4,
                micro_batch=1,
                grad_accum=1,
            )
            for n in range(1, num_steps + 1)
        )
    )
    began_s = time.process_time()
    points = store.train_losses(400)
    assert time.process_time() - began_s < 0.1
    assert 400 <= len(points) <= 401
    assert points[-1].tokens == num_steps * 1024
    for point in points[:: len(points) // 10]:
        assert point.loss == pytest.approx(10.0 - 9.0 * point.tokens / 1024 / num_steps, abs=0.05)


def test_the_meter_keeps_nothing_of_what_it_has_counted() -> None:
    meter = EnergyMeter(1)

    def count(first: int, last: int) -> None:
        for second in range(first, last):
            watts = 590.0 if second % 5 == 0 else 25.0
            row = SensorRow(at=0.0, machine_watts=60.0, machine_watts_source="partly measured")
            powers = {"GPU-1": GpuPower(watts, 25.0 * (second % 5000), 35.0)}
            meter.add(Reading(at=0.0, monotonic_s=float(second), row=row, gpus=powers))
            meter.faults()

    count(0, 2_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        count(2_000, 60_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert meter.row(0.0).gpu_j == pytest.approx(25.0 * 60_000, rel=0.01)


def steps_at_one_a_second(store: RunStore, first: int, last: int) -> None:
    store.put(
        *(
            StepRow(
                step=n,
                at=1.7e9 + n,
                tokens=n * 1024,
                loss=3.0,
                learning_rate=1e-3,
                tokens_per_s=1024.0,
                micro_batch=1,
                grad_accum=1,
            )
            for n in range(first, last + 1)
        )
    )


def test_a_stretch_of_a_long_run_shows_its_own_readings_and_steps(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.db")
    num_s = 40_000
    store.put(*readings(num_s))
    store.roll_up()
    steps_at_one_a_second(store, 1, num_s)
    for span, is_exact in (
        (TimeSpan(width_s=300.0), True),
        (TimeSpan(width_s=3600.0, until_s=10_000.0), True),
    ):
        shown = shown_span(store, span, 60)
        assert shown is not None and shown.until_s - shown.from_s == pytest.approx(span.width_s)
        end_s = span.until_s or num_s - 1.0
        assert end_s <= shown.until_s <= end_s + span.width_s / 60 + 0.01
        series = store.series("gpu_celsius", 60, shown.from_s, shown.until_s)
        truth = [reading(s).gpu_celsius for s in range(int(shown.from_s) + 1, min(num_s, int(shown.until_s)))]
        assert series.high == max(truth) and series.low == min(truth) and is_exact
        first = store.first_step_since(shown.from_at or 0.0)
        assert first == pytest.approx(shown.from_s, abs=2)
    by_minutes = store.series("gpu_celsius", 60, 20_000.0, 36_000.0)
    assert [bucket.index for bucket in by_minutes.buckets] == list(range(60))
    points = store.train_losses(100, 501, 800)
    assert points[-1].step == 800 and points[0].step is not None and points[0].step > 500


def test_one_step_more_changes_only_the_newest_point(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.db")
    for num_steps in (1_005, 30_005):
        steps_at_one_a_second(store, 1, num_steps)
        before = store.train_losses(100)
        steps_at_one_a_second(store, num_steps + 1, num_steps + 1)
        assert store.train_losses(100)[:-1] == before[: len(store.train_losses(100)) - 1]


def test_the_range_of_the_time_left_goes_by_slow_and_fast_places(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.db")
    steps_at_one_a_second(store, 1, 63)
    assert store.seconds_a_token(1, 63, 8, 8) == []
    steps_at_one_a_second(store, 64, 640)
    found = store.seconds_a_token(1, 640, 8, 8)
    assert len(found) == 8 and found == pytest.approx([1 / 1024] * 8)


def test_curves_are_kept_while_their_newest_column_fills_and_the_newest_reading_is_not(
    tmp_path: Path,
) -> None:
    store, memory = RunStore(tmp_path / "run.db"), CurveMemory()
    store.put(*readings(6000))

    def look() -> dict[str, Series]:
        newest = store.newest(SensorRow, "elapsed_s")
        return memory.sensors("run", store, 40, shown_span(store, TimeSpan(), 40), newest)

    before = look()
    store.put(msgspec.structs.replace(reading(6001), gpu_celsius=99.0))
    after = look()
    assert after["gpu_celsius"].buckets is before["gpu_celsius"].buckets
    assert (after["gpu_celsius"].now, after["gpu_celsius"].high) == (99.0, 99.0)
    store.put(*map(reading, range(6002, 6200)))
    assert look()["gpu_celsius"].buckets[-1].index >= before["gpu_celsius"].buckets[-1].index
    assert max(bucket.high for bucket in look()["gpu_celsius"].buckets) == 99.0, "another column: read again"
