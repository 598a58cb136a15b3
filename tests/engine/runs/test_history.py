"""A week of readings at 1 Hz: small on disk, quick to chart, flat in memory."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.ledger.energy import EnergyMeter
from engine.records import MinuteRow, SensorRow, Series, StepRow
from engine.runs.store import RunStore
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
