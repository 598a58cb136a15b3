"""Speed, time left and use of the peak: of the stretch that is going on, whatever earlier ones did."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.records import (
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    MeasuredPeak,
    Origin,
    RunState,
    Status,
    StepRow,
    TextSampleRow,
)
from engine.runs.folder import RunFolder, create
from engine.runs.samples import read_samples
from engine.runs.store import RunStore
from engine.runs.view import read_snapshot, read_status
from engine.settings import Settings
from engine.train.journal import Journal
from tests.engine.train.conftest import make_plan

PLAN = make_plan(steps=1000)
PER_STEP = PLAN.tokens_per_step


class Recorded:
    """A run's rows as its processes write them."""

    def __init__(self, workspace: Path) -> None:
        self.folder: RunFolder = create(workspace, Settings(), PLAN, {}, "test")
        self.store: RunStore = self.folder.open(read_only=False)
        self.store.set_state(RunState.RUNNING)

    def starts(self, attempt: int, from_step: int) -> None:
        """The supervisor starts a trainer."""
        self.store.put(AttemptRow(attempt=attempt, at=time.time(), pid=1, from_step=from_step))

    def goes_on(self, attempt: int, step: int, rollbacks: int = 0) -> None:
        """The trainer has loaded a checkpoint."""
        self.store.set_meta(origin=Origin(attempt=attempt, rollbacks=rollbacks, step=step))

    def steps(self, attempt: int, first: int, last: int, seconds: float, rollbacks: int = 0) -> None:
        for step in range(first, last + 1):
            self.store.put(
                StepRow(
                    step=step,
                    at=time.time(),
                    tokens=step * PER_STEP,
                    loss=3.0,
                    learning_rate=1e-3,
                    tokens_per_s=PER_STEP / seconds,
                    micro_batch=4,
                    grad_accum=2,
                    attempt=attempt,
                    rollbacks=rollbacks,
                )
            )

    @property
    def status(self) -> Status:
        return read_status(self.folder)


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_after_a_resume_at_another_speed_the_time_left_is_of_the_new_one(run: Recorded) -> None:
    run.starts(1, 0)
    run.goes_on(1, 0)
    run.steps(1, 1, 300, 1.0)
    assert run.status.eta_s == pytest.approx(700 * 1.0)

    # Killed at 300 and started again from the checkpoint of 250: until it has done a step, the old speed is known.
    run.starts(2, 250)
    assert (run.status.step, run.status.eta_s) == (250, pytest.approx(750 * 1.0))
    run.goes_on(2, 250)
    assert (run.status.step, run.status.tokens) == (250, 250 * PER_STEP)
    assert run.status.eta_s == pytest.approx(750 * 1.0)

    # Its first step is all there is, then left out: it took the start.
    run.steps(2, 251, 251, 9.0)
    assert (run.status.step, run.status.eta_s) == (251, pytest.approx(749 * 9.0))
    run.steps(2, 252, 252, 4.0)
    assert (run.status.step, run.status.eta_s) == (252, pytest.approx(748 * 4.0))
    run.steps(2, 253, 290, 4.0)
    assert run.status.tokens_per_second == pytest.approx(PER_STEP / 4.0)
    assert run.status.eta_s == pytest.approx(710 * 4.0)


def test_a_checkpoint_older_than_was_thought_counts_once_the_trainer_says_so(run: Recorded) -> None:
    run.starts(1, 0)
    run.goes_on(1, 0)
    run.steps(1, 1, 300, 1.0)
    run.starts(2, 250)
    run.goes_on(2, 200)  # step-250 was damaged
    assert (run.status.step, run.status.eta_s) == (200, pytest.approx(800 * 1.0))


def test_back_at_a_checkpoint_the_steps_beyond_it_do_not_count(run: Recorded) -> None:
    run.starts(1, 0)
    run.goes_on(1, 0)
    run.steps(1, 1, 120, 2.0)
    run.goes_on(1, 100, rollbacks=1)
    assert (run.status.step, run.status.eta_s) == (100, pytest.approx(900 * 2.0))
    run.steps(1, 101, 103, 3.0, rollbacks=1)
    assert (run.status.step, run.status.eta_s) == (103, pytest.approx(897 * 3.0))
    run.goes_on(1, 0, rollbacks=2)
    assert run.status.step is None and run.status.eta_s is None


def test_back_at_a_checkpoint_nothing_is_shown_of_the_branch_that_was_given_up(run: Recorded) -> None:
    def looked_at(step: int, loss: float, rollbacks: int = 0) -> None:
        which = {"step": step, "at": time.time(), "attempt": 1, "rollbacks": rollbacks}
        run.store.put(
            EvaluationRow(tokens=step * PER_STEP, val_loss=loss, **which),
            TextSampleRow(prompt="", text=f"{loss}", **which),
        )

    def saved(step: int) -> None:
        row = CheckpointRow(
            step=step, at=time.time(), tokens=0, folder=f"step-{step}", total_bytes=1, write_s=1.0
        )
        run.store.put(row)

    def seen() -> tuple[list[int], list[float], str, int | None, float | None]:
        found = read_snapshot(run.folder, 1000, 10)
        assert found.text_sample is not None
        steps = [point.tokens // PER_STEP for point in found.train_losses]
        val_losses = [point.loss for point in found.val_losses]
        checkpoint = found.checkpoint.step if found.checkpoint else None
        return steps, val_losses, found.text_sample.text, checkpoint, found.status.val_loss

    run.starts(1, 0)
    journal = Journal(run.folder.store_path)
    journal.begin_stretch(0, 0)
    run.steps(1, 1, 120, 2.0)
    looked_at(50, 4.0)
    looked_at(110, 9.0)
    saved(100)
    saved(115)
    assert seen() == ([*range(1, 121)], [4.0, 9.0], "9.0", 115, 9.0)

    journal.begin_stretch(1, 100)  # step-115 was damaged
    assert seen() == ([*range(1, 101)], [4.0], "4.0", 100, 4.0)
    run.steps(1, 101, 104, 2.0, rollbacks=1)
    run.steps(1, 106, 112, 2.0, rollbacks=1)  # and 105 was left out
    assert seen() == ([*range(1, 105), *range(106, 113)], [4.0], "4.0", 100, 4.0)
    looked_at(112, 3.5, rollbacks=1)
    saved(112)
    assert seen()[1:] == ([4.0, 3.5], "3.5", 112, 3.5)
    assert [sample.text for sample in read_samples(run.folder).samples] == ["4.0", "3.5"]

    run.starts(2, 112)
    assert seen()[0] == [*range(1, 105), *range(106, 113)]
    journal.attempt = 2
    journal.begin_stretch(1, 112)
    run.steps(2, 113, 118, 2.0, rollbacks=1)
    saved(115)
    assert seen() == ([*range(1, 105), *range(106, 119)], [4.0, 3.5], "3.5", 115, 3.5)
    journal.close()


def test_of_many_steps_too_those_of_a_branch_that_was_given_up_are_left_out(run: Recorded) -> None:
    run.starts(1, 0)
    journal = Journal(run.folder.store_path)
    journal.begin_stretch(0, 0)
    run.steps(1, 1, 900, 2.0)
    journal.begin_stretch(1, 600)
    journal.close()
    assert run.store.train_losses(10)[-1].tokens == 600 * PER_STEP


def test_use_of_the_peak_is_the_models_own_arithmetic_and_unknown_without_one(run: Recorded) -> None:
    run.starts(1, 0)
    run.goes_on(1, 0)
    assert run.status.mfu_frac is None and run.status.peak_flops is None
    run.steps(1, 1, 5, 0.5)
    assert run.status.mfu_frac is None, "the peak was not measured: no table stands in for it"
    flops = PLAN.shape.flops_per_token * PER_STEP / 0.5
    for factor, expected in ((4.0, 0.25), (0.8, None)):
        run.store.set_meta(peak=MeasuredPeak(flops=flops * factor, precision="fp32", at=time.time()))
        assert run.status.mfu_frac == (expected and pytest.approx(expected))
        assert run.status.peak_flops == pytest.approx(flops * factor)


def test_rows_of_before_stretches_were_told_apart_still_count(run: Recorded) -> None:
    run.starts(1, 0)
    run.steps(1, 1, 40, 2.0)
    assert (run.status.step, run.status.eta_s) == (40, pytest.approx(960 * 2.0))
