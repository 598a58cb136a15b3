"""What a run tells: the log in windows, the samples, and the digest of what nobody saw."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from engine.errors import StoreError
from engine.records import (
    EnergyRow,
    EvaluationRow,
    EventRow,
    FurtherSampleRow,
    LogMarkRow,
    RunState,
    SensorRow,
    StepRow,
    TextSampleRow,
)
from engine.runs import digest as digests
from engine.runs import folder as folders
from engine.runs.digest import Visit, look
from engine.runs.folder import RunFolder
from engine.runs.logs import BLOCK_BYTES, WINDOW_BYTES, LogReader
from engine.runs.samples import generate_argv, read_samples
from engine.settings import Settings
from engine.story import AFTER, BEFORE, OUTPUT
from tests.tui.recorded import CPU, plan


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return folders.create(tmp_path, Settings(), plan(CPU), {}, "test")


def tell(run: RunFolder, at: float, text: str, level: str = "info", kind: str = "told") -> None:
    store = run.open(read_only=False)
    store.put(EventRow(at=at, level=level, source="trainer", kind=kind, text=text))
    store.close()


# --- the log --------------------------------------------------------------------------------------------------


def test_events_and_output_are_one_story_in_the_order_of_time(run: RunFolder) -> None:
    run.log_path.write_text("first\nsecond\n", "utf-8")
    store = run.open(read_only=False)
    store.put(LogMarkRow(offset=6, at=100.0), LogMarkRow(offset=13, at=300.0))
    store.close()
    tell(run, 50.0, "began")
    tell(run, 200.0, "between")
    view = LogReader(run).poll()
    assert view is not None
    assert [line.text for line in view.lines] == ["began", "first", "between", "second"]
    assert [line.at for line in view.lines] == [50.0, 100.0, 200.0, 300.0]


def test_the_log_is_followed_and_a_line_that_grows_is_not_told_twice(run: RunFolder) -> None:
    reader = LogReader(run)
    assert reader.poll() is None
    with run.log_path.open("a") as file:
        for piece, told in (("one\ntw", ["one", "tw"]), ("o\nthree\n", ["one", "two", "three"])):
            file.write(piece)
            file.flush()
            view = reader.poll()
            assert view is not None and [line.text for line in view.lines] == told
    assert reader.poll() is None
    tell(run, time.time(), "news")
    view = reader.poll()
    assert view is not None and "news" in [line.text for line in view.lines]


def test_a_large_log_is_read_in_windows_from_end_to_end(run: RunFolder) -> None:
    lines = [f"line {number} of many, with a few more words in it" for number in range(100_000)]
    run.log_path.write_text("\n".join(lines) + "\n", "utf-8")
    size = run.log_path.stat().st_size
    assert size > 4 * WINDOW_BYTES
    reader = LogReader(run)
    view = reader.poll()
    assert view is not None and view.lines[-1].text == lines[-1] and view.bytes_after == 0
    seen = {line.text for line in view.lines if not line.kind}
    while view.bytes_before:
        assert view.lines[0].kind == BEFORE
        view = reader.earlier()
        assert sum(len(line.text) + 1 for line in view.lines if not line.kind) <= WINDOW_BYTES + BLOCK_BYTES
        seen |= {line.text for line in view.lines if not line.kind}
    assert seen == set(lines) and view.lines[0].text == lines[0] and view.lines[-1].kind == AFTER
    while view.bytes_after:
        view = reader.later()
    assert view.lines[-1].text == lines[-1]
    numbers = [line.number for line in view.lines if not line.kind]
    assert numbers == sorted(numbers)


def test_what_is_searched_for_is_found_both_ways_beyond_the_window(run: RunFolder) -> None:
    lines = [f"line {number}" + " and so on" * 20 for number in range(40_000)]
    lines[3] = "Traceback (most recent call last)"
    lines[7_000] = "another traceback"
    run.log_path.write_text("\n".join(lines) + "\n", "utf-8")
    reader = LogReader(run)
    view = reader.poll()
    assert view is not None
    going = threading.Event()
    found = reader.find("TRACEBACK", view.bytes_before, True, going)
    assert found is not None
    view = reader.go_to(found)
    at = max(line.number for line in view.lines if line.source == OUTPUT and line.number <= found)
    assert next(line.text for line in view.lines if line.number == at) == lines[7_000]
    earlier = reader.find("TRACEBACK", at, True, going)
    assert earlier is not None and earlier < at
    assert reader.find("traceback", earlier, False, going) == found
    assert reader.find("traceback", found, False, going) is None
    going.set()
    assert reader.find("traceback", view.total_bytes, True, going) is None


def test_a_line_without_an_end_and_bytes_that_are_no_text_do_no_harm(run: RunFolder) -> None:
    run.log_path.write_bytes(b"\xff\xfe\x00" * 400_000)
    reader = LogReader(run)
    view = reader.poll()
    assert view is not None
    while view.bytes_before:
        before = view.bytes_before
        view = reader.earlier()
        assert view.bytes_before < before
    run.log_path.write_text("new\n", "utf-8")
    view = reader.poll()
    assert view is not None and [line.text for line in view.lines] == ["new"]


# --- samples --------------------------------------------------------------------------------------------------


def test_samples_carry_the_loss_of_their_step(run: RunFolder) -> None:
    store = run.open(read_only=False)
    step = StepRow(
        step=20,
        at=1.0,
        tokens=400,
        loss=3.5,
        learning_rate=0.1,
        tokens_per_s=9.0,
        micro_batch=1,
        grad_accum=1,
    )
    store.put(
        step,
        EvaluationRow(step=10, at=1.0, tokens=200, val_loss=4.0),
        TextSampleRow(step=5, at=1.0, prompt="a", text="b"),
        TextSampleRow(step=20, at=2.0, prompt="a", text="c"),
        FurtherSampleRow(key="20:2", step=20, number=2, at=2.0, prompt="f", text="e"),
        FurtherSampleRow(key="20:1", step=20, number=1, at=2.0, prompt="e", text="d"),
    )
    store.close()
    (first, second, *further) = read_samples(run).samples
    assert [(sample.step, sample.prompt, sample.loss) for sample in further] == [
        (20, "e", 3.5),
        (20, "f", 3.5),
    ]
    assert (first.step, first.loss, first.val_loss) == (5, None, None)
    assert (second.step, second.loss, second.val_loss, second.tokens) == (20, 3.5, 4.0, 400)


def test_a_text_is_had_from_what_is_there(run: RunFolder) -> None:
    wish = {"max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 3}
    with pytest.raises(StoreError, match="no checkpoint yet"):
        generate_argv(run, "x", **wish)
    for name in ("step-9", "step-10", ".old-step-8.3"):
        (run.checkpoints / name).mkdir(parents=True)
    assert read_samples(run).sources == ("step-10", "step-9")
    run.model.mkdir()
    assert read_samples(run).sources[0] == "model"
    assert "--source=step-9" in generate_argv(run, "x", **wish, source="step-9")
    with pytest.raises(StoreError, match="no step-8 any more"):
        generate_argv(run, "x", **wish, source="step-8")


# --- while nobody looked --------------------------------------------------------------------------------------


def train(run: RunFolder, tokens: int, loss: float, joules: float, celsius: float, at_s: float) -> None:
    store = run.open(read_only=False)
    store.set_state(RunState.RUNNING)
    store.put(
        StepRow(
            step=tokens // 4096,
            at=time.time(),
            tokens=tokens,
            loss=loss,
            learning_rate=0.1,
            tokens_per_s=1000.0,
            micro_batch=1,
            grad_accum=1,
        ),
        EnergyRow(
            segment=1,
            at=time.time(),
            elapsed_s=at_s,
            covered_s=at_s,
            machine_j=joules,
            machine_source="estimate",
        ),
        SensorRow(at=time.time(), elapsed_s=at_s, cpu_celsius=celsius),
    )
    store.close()


def let_pass(run: RunFolder, seconds: float) -> None:
    """Make the look before older."""
    path = digests._path_of(run)
    visit = msgspec.json.decode(path.read_bytes(), type=Visit)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(visit, at=visit.at - seconds)))


def test_who_was_away_is_told_what_came_meanwhile(run: RunFolder) -> None:
    train(run, 409_600, 5.0, 3_600_000.0, 90.0, 60.0)
    tell(run, time.time(), "seen already", "warning", "restart")
    assert look(run) is None
    let_pass(run, 300)
    train(run, 819_200, 4.5, 5_000_000.0, 70.0, 120.0)
    assert look(run) is None, "five minutes are no absence"
    train(run, 1_228_800, 4.0, 7_200_000.0, 75.0, 180.0)
    for _ in range(2):
        tell(run, time.time(), "the sensor is gone", "warning", "sensor-fault")
    tell(run, time.time(), "saving failed", "error", "checkpoint-failed")
    let_pass(run, 3600)
    told = look(run)
    assert told is not None and told.since is not None and told.away_s >= 3600
    assert (told.tokens, told.loss_then, told.loss) == (409_600, 4.5, 4.0)
    assert told.machine_energy_j == 2_200_000.0 and told.cost == pytest.approx(2.2 / 3.6 * 0.17, abs=1e-6)
    assert told.cpu_celsius_max == 75.0 and told.gpu_celsius_max is None and told.throttled_s is None
    assert [(i.kind, i.num) for i in told.incidents] == [("checkpoint-failed", 1), ("sensor-fault", 2)]
    assert look(run) is None


def test_nothing_new_is_no_news(run: RunFolder) -> None:
    train(run, 409_600, 5.0, 3_600_000.0, 90.0, 60.0)
    look(run)
    let_pass(run, 7200)
    assert look(run) is None


def test_a_run_that_nobody_ever_saw_is_told_from_its_beginning(run: RunFolder) -> None:
    train(run, 409_600, 5.0, 3_600_000.0, 90.0, 60.0)
    store = run.open(read_only=False)
    store.set_meta(created_at=time.time() - 5000)
    store.close()
    told = look(run)
    assert told is not None and told.since is None and told.tokens == 409_600 and told.away_s >= 5000


def test_a_look_that_cannot_be_kept_tells_nothing(run: RunFolder, home: Path) -> None:
    train(run, 409_600, 5.0, 3_600_000.0, 90.0, 60.0)
    (home / ".local").write_text("in the way", "utf-8")
    assert look(run) is None
