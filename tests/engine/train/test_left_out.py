"""Steps that are left out, and steps whose memory ran out: the run goes on and ends as if nothing had been."""

from __future__ import annotations

import json

import pytest
import torch

from engine.errors import TrainerExit
from engine.records import TextSampleRow
from engine.train import matmul_probe, observe
from engine.train.checkpoint import verify
from engine.train.loop import Training
from tests.engine.train.conftest import MakeRun
from tests.engine.train.watched import Watched, events, good_steps, step_rows

pytestmark = pytest.mark.usefixtures("signals", "quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts and a short look at the device: they are not what is looked at here."""
    monkeypatch.setattr(observe, "SAMPLE_TOKENS", 3)
    monkeypatch.setitem(matmul_probe.BUDGET_S, "cpu", 0.01)
    # A processor without products in fp16 takes seconds for a large one.
    monkeypatch.setitem(matmul_probe._SHAPES, "cpu", ((64, 64, 64),))


def test_a_last_step_that_is_left_out_ends_the_run_well(make_run: MakeRun):
    run = make_run(steps=9)
    training = Watched(run)

    def break_last() -> None:
        if training.step == 8:
            training.break_gradient_once()

    training.happens = break_last
    assert training.go() is TrainerExit.FINISHED
    assert len(events(run, "non-finite")) == 1 and not events(run, "rolled-back")
    assert good_steps(run) == [9] and run.model.is_dir()
    assert step_rows(run)[-1].step == 8


def test_a_stop_after_a_step_that_was_left_out_saves(make_run: MakeRun):
    run = make_run(steps=30)
    training = Watched(run, saves_at=(4,))
    store = run.open(read_only=False)

    def break_and_stop() -> None:
        if training.step == 6:
            training.break_gradient_once()
        if training.stepper.skipped_in_a_row == 1:
            store.post_command("stop", "test@here")
            training.control._polled_at = 0.0

    training.happens = break_and_stop
    assert training.go() is TrainerExit.STOPPED
    (event,) = events(run, "trainer-left")
    assert event.level == "info" and "Saved step-7" in event.text
    assert good_steps(run) == [4, 7]


def test_weights_that_can_say_nothing_end_no_run(make_run: MakeRun):
    run = make_run(steps=6)
    training = Watched(run)

    def sample_what_is_broken() -> None:
        if training.step == 3:
            kept = training.model.model.norm.weight.detach().clone()
            training.poison()
            training.sample()
            with torch.no_grad():
                training.model.model.norm.weight.copy_(kept)

    training.happens = sample_what_is_broken
    assert training.go() is TrainerExit.FINISHED
    (event,) = events(run, "non-finite")
    assert "logits are not finite" in event.text and json.loads(event.data)["step"] == 3
    store = run.open()
    assert [row.step for row in store.rows(TextSampleRow)] == [0, 6]


def test_no_sample_is_taken_while_steps_are_left_out(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch):
    training = Watched(make_run(steps=6))
    training.step = 3
    taken: list[int] = []
    monkeypatch.setattr(training.samples, "is_due", lambda _: True)
    monkeypatch.setattr(training, "sample", lambda: taken.append(training.stepper.skipped_in_a_row))
    for training.stepper.skipped_in_a_row in (1, 0):
        Training.do_what_is_due(training)
    training.journal.close()
    assert taken == [0]


def test_fp16_goes_on_from_a_checkpoint_with_its_scale(make_run: MakeRun):
    run = make_run(steps=10, precision="fp16")

    class Killed(Exception):
        pass

    first = Watched(run, saves_at=(6,))

    def die() -> None:
        if first.step == 7:
            raise Killed

    first.happens = die
    with pytest.raises(Killed):
        first.go()
    scale = verify(run.checkpoints / "step-6").state.loss_scale
    assert scale["scale"] == first.accelerator.scaler.get_scale() and scale["growth_interval"] == 2000
    second = Watched(run)
    assert second.go() is TrainerExit.FINISHED
    assert second.seen[0] == first.seen[-1]
    assert [row.step for row in step_rows(run)][-3:] == [8, 9, 10]


def test_memory_that_runs_out_within_an_update_in_fp16_begins_anew(make_run: MakeRun):
    run = make_run(steps=8, precision="fp16")
    training = Watched(run)
    adamw = training.optimizer.optimizers[1]
    step = adamw.step

    def no_memory() -> None:
        adamw.step = step
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    def break_update() -> None:
        if training.step == 5 and not training.rollback.count:
            adamw.step = no_memory

    training.happens = break_update
    assert training.go() is TrainerExit.FINISHED
    (event,) = events(run, "rolled-back")
    assert "20 MiB. Training went back to the beginning" in event.text
