"""run.db: rows that come back as they went in, writers that wait for nobody, readers that stall nobody."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.records import AcknowledgementRow, EventRow, MinuteRow, RunState, SensorRow, StateRow, StepRow
from engine.runs.store import RunStore
from engine.sqlite import BusyError


def step(number: int, loss: float = 1.0) -> StepRow:
    return StepRow(
        step=number,
        at=float(number),
        tokens=number * 100,
        loss=loss,
        learning_rate=1e-3,
        tokens_per_s=1e4,
        micro_batch=4,
        grad_accum=2,
    )


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "run.db")


def test_rows_come_back_equal_and_unknown_stays_none(store: RunStore) -> None:
    sensor = SensorRow(at=5.0, gpu_celsius=None, cpu_load_frac=0.5, is_on_ac=True)
    store.put(step(1), sensor)
    assert store.rows(StepRow) == [step(1)]
    assert store.rows(SensorRow) == [sensor]


def test_a_step_that_is_done_again_replaces_its_row(store: RunStore) -> None:
    store.put(step(1, 9.0), step(2, 8.0))
    store.put(step(2, 7.5))
    assert [row.loss for row in store.rows(StepRow, "ORDER BY step")] == [9.0, 7.5]


def test_states_are_appended_once_a_change(store: RunStore) -> None:
    store.set_state(RunState.RUNNING)
    store.set_state(RunState.RUNNING)
    store.set_state(RunState.PAUSED, "hot")
    assert [(row.state, row.reason) for row in store.rows(StateRow)] == [("running", ""), ("paused", "hot")]


def test_commands_are_history_and_answered_once(store: RunStore) -> None:
    first, second = store.post_command("pause", "a"), store.post_command("stop", "b")
    assert [command.verb for command in store.open_commands()] == ["pause", "stop"]
    store.acknowledge(first, "paused")
    assert [command.id for command in store.open_commands()] == [second]
    answer = store.acknowledgement(first)
    assert isinstance(answer, AcknowledgementRow)
    assert answer.is_done
    assert store.acknowledgement(second) is None


def test_a_locked_store_keeps_queued_rows_for_later(tmp_path: Path) -> None:
    writer = RunStore(tmp_path / "run.db", busy_ms=20)
    other = RunStore(tmp_path / "run.db")
    writer.queue(step(1), step(2))
    with other._database.transaction():
        started = time.monotonic()
        assert writer.flush() is False
        assert time.monotonic() - started < 1.0
        with pytest.raises(BusyError):
            writer.put(step(3))
    assert writer.flush() is True
    assert other.num_rows(StepRow) == 2


def test_a_reader_sees_a_snapshot_while_a_writer_writes(tmp_path: Path) -> None:
    writer = RunStore(tmp_path / "run.db")
    writer.put(step(1))
    reader = RunStore(tmp_path / "run.db", read_only=True)
    assert reader.num_rows(StepRow) == 1
    writer.put(step(2))
    assert reader.num_rows(StepRow) == 2
    with pytest.raises(BusyError):
        reader.put(step(3))


def test_meta_is_typed(store: RunStore) -> None:
    store.set_meta(waivers={"power": "UPS"})
    assert store.meta("waivers", dict[str, str]) == {"power": "UPS"}
    with pytest.raises(StoreError):
        store.meta("waivers", list[int])
    with pytest.raises(StoreError):
        store.meta("plan", dict[str, str])


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not there"):
        RunStore(tmp_path / "none.db", read_only=True)
    (tmp_path / "junk.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match="junk"):
        RunStore(tmp_path / "junk.db", read_only=True)
    with pytest.raises(StoreError, match="junk"):
        RunStore(tmp_path / "junk.db")
    assert (tmp_path / "junk.db").read_bytes().startswith(b"this is no database")


def test_series_reduce_to_low_mean_high_and_leave_unknown_stretches_out(store: RunStore) -> None:
    readings = [10.0, 20.0, None, None, 30.0, 50.0, 40.0, 40.0]
    store.put(*(SensorRow(at=0.0, elapsed_s=float(i), gpu_watts=watts) for i, watts in enumerate(readings)))
    series = store.series("gpu_watts", 4)
    assert [(bucket.index, bucket.low, bucket.mean, bucket.high) for bucket in series.buckets] == [
        (0, 10.0, 15.0, 20.0),
        (2, 30.0, 40.0, 50.0),
        (3, 40.0, 40.0, 40.0),
    ]
    assert (series.now, series.low, series.high) == (40.0, 10.0, 50.0)
    assert store.series("gpu_celsius", 4).buckets == ()
    assert store.series("gpu_celsius", 4).mean is None


def test_a_long_run_is_charted_from_its_minutes_with_the_same_result(tmp_path: Path) -> None:
    store, raw = RunStore(tmp_path / "rolled.db"), RunStore(tmp_path / "raw.db")
    rows = [
        SensorRow(at=0.0, elapsed_s=float(i), gpu_watts=500.0 + i // 10, cpu_load_frac=0.5)
        for i in range(7300)
    ]
    store.put(*rows)
    raw.put(*rows)
    store.roll_up()
    num_minutes = store.num_rows(MinuteRow)
    store.roll_up()
    assert store.num_rows(MinuteRow) == num_minutes == 2 * (7300 // 60)
    reduced, exact = store.series("gpu_watts", 10), raw.series("gpu_watts", 10)
    assert (reduced.low, reduced.high, reduced.now) == (exact.low, exact.high, exact.now)
    assert [bucket.index for bucket in reduced.buckets] == list(range(10))
    for bucket, other in zip(reduced.buckets, exact.buckets, strict=True):
        assert bucket.mean == pytest.approx(other.mean, rel=0.05)


def test_losses_are_thinned_to_means_over_equal_stretches(store: RunStore) -> None:
    store.put(*(step(number, float(number)) for number in range(1, 101)))
    points = store.train_losses(10)
    assert len(points) == 10
    assert points[0].loss == pytest.approx(5.5)
    assert points[-1].tokens == 10_000


def test_events_come_with_their_number_so_that_none_is_shown_twice(store: RunStore) -> None:
    for text in ("a", "b", "c"):
        store.put(EventRow(at=0.0, level="info", source="trainer", kind="k", text=text))
    events = store.events()
    assert [event.text for _, event in events] == ["a", "b", "c"]
    assert [event.text for _, event in store.events(after=events[1][0])] == ["c"]
