"""A state gone bad: the run goes back to a good checkpoint with a smaller rate, and keeps what is good."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch

from engine.errors import EngineError, TrainerExit
from engine.records import EvaluationRow, Origin, RunState
from engine.train import matmul_probe, observe
from engine.train.checkpoint import newest_verified, verify
from engine.train.data import Position
from engine.train.guard import MAX_ROLLBACKS, Rollback, SetbackError
from engine.train.loop import train
from engine.train.tensorfile import read_tensors
from tests.engine.train.conftest import MakeRun
from tests.engine.train.watched import Watched, events, good_steps, step_rows

pytestmark = pytest.mark.usefixtures("signals", "quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts and a short look at the device: they are not what is looked at here."""
    monkeypatch.setattr(observe, "SAMPLE_TOKENS", 3)
    monkeypatch.setitem(matmul_probe.BUDGET_S, "cpu", 0.01)


def test_weights_gone_bad_send_it_back_with_half_the_rate_past_the_text(make_run: MakeRun):
    run = make_run(steps=18)
    training = Watched(run, saves_at=(4, 8))

    def poison_once() -> None:
        if training.step == 10 and not training.rollback.count:
            training.poison()

    training.happens = poison_once
    assert training.go() is TrainerExit.FINISHED

    (event,) = events(run, "rolled-back")
    told = json.loads(event.data)
    assert event.level == "warning" and "step-8" in event.text and "0.5 times" in event.text
    assert (told["bad_step"], told["to_step"], told["count"], told["rate_scale"]) == (11, 8, 1, 0.5)
    assert len(events(run, "non-finite")) == 5
    steps = [step for step, _, _ in training.seen]
    assert steps == [*range(1, 15), *range(9, 19)]
    (_, before, _), (_, after, _) = [seen for seen in training.seen if seen[0] == 9]
    assert after == pytest.approx(before / 2)
    (_, _, last_bad), (_, _, first_good) = training.seen[13:15]
    # Of two steps: the fifth bad one, and the first after it.
    assert training.stepper.order.advance(last_bad, 2 * 8) == first_good, "the text is not read again"

    rows = step_rows(run)
    assert [row.step for row in rows] == list(range(1, 19))
    assert all(math.isfinite(row.loss) for row in rows)
    assert [row.rollbacks for row in rows] == [0] * 8 + [1] * 10
    assert rows[-1].loss < rows[0].loss - 0.2
    assert good_steps(run) == [8, 18]
    store = run.open()
    assert store.find_meta("origin", Origin) == Origin(attempt=1, rollbacks=1, step=8)
    kept = store.find_meta("rollback", Rollback)
    assert kept is not None and kept.in_a_row == 0, "it got past the bad step"


def test_before_any_checkpoint_it_begins_anew_from_the_seed(make_run: MakeRun):
    run = make_run(steps=12)
    training = Watched(run)
    fresh: list[torch.Tensor] = []

    def poison_once() -> None:
        if training.step == 2 and not training.rollback.count:
            training.poison()

    def keep_first() -> None:
        fresh.append(training.model.lm_head.weight.detach().clone())

    evaluate = training.evaluate
    training.evaluate = lambda: (keep_first(), evaluate())[1]  # type: ignore[method-assign]
    training.happens = poison_once
    assert training.go() is TrainerExit.FINISHED
    assert torch.equal(fresh[0], fresh[1])
    (event,) = events(run, "rolled-back")
    assert "the beginning" in event.text
    assert good_steps(run) == [12]


def test_the_smaller_rate_outlives_restarts_before_and_after_the_next_checkpoint(make_run: MakeRun):
    run = make_run(steps=11)

    class Killed(Exception):
        pass

    first = Watched(run, saves_at=(4,))

    def poison_then_die() -> None:
        if first.step == 6 and not first.rollback.count:
            first.poison()
        if first.rollback.count and first.step == 5:
            raise Killed

    first.happens = poison_then_die
    with pytest.raises(Killed):
        first.go()
    at_5 = first.seen[-1]

    second = Watched(run, saves_at=(7,))

    def die() -> None:
        if second.step == 8:
            raise Killed

    second.happens = die
    with pytest.raises(Killed):
        second.go()
    assert second.seen[0] == at_5, "the same step, rate and text as before it was killed"
    assert verify(run.checkpoints / "step-7").state.rate_scale == 0.5

    third = Watched(run)
    third.journal.keep(rollback=Rollback())  # the checkpoint alone knows it as well
    assert third.go() is TrainerExit.FINISHED
    assert third.seen[0] == second.seen[-1]
    assert events(run, "rolled-back")[0].data and len(events(run, "rolled-back")) == 1


def test_the_same_run_goes_back_in_the_same_way(make_run: MakeRun):
    curves = []
    for _ in range(2):
        run = make_run(steps=11)
        training = Watched(run, saves_at=(3,))

        def poison_once(training: Watched = training) -> None:
            if training.step == 5 and not training.rollback.count:
                training.poison()

        training.happens = poison_once
        assert training.go() is TrainerExit.FINISHED
        curves.append([(row.step, row.loss, row.grad_norm) for row in step_rows(run)])
    assert curves[0] == curves[1]


def test_a_bad_state_is_never_saved_and_a_save_that_meets_one_goes_back(make_run: MakeRun):
    run = make_run(steps=16)
    training = Watched(run, saves_at=(4, 6))

    def poison_state() -> None:
        if training.step == 5 and not training.rollback.count:
            name, tensor = next(training.optimizer.tensors())
            tensor.fill_(torch.nan)
            with pytest.raises(SetbackError, match="optimizer's state is not finite"):
                training.save()
            assert good_steps(run) == [4], name

    training.happens = poison_state
    assert training.go() is TrainerExit.FINISHED
    assert len(events(run, "rolled-back")) == 1
    assert good_steps(run) == [6, 16]


def test_what_finished_badly_is_no_model(make_run: MakeRun):
    run = make_run(steps=9)
    training = Watched(run, saves_at=(4,))

    def poison_once() -> None:
        if training.step == 9 and not training.rollback.count:
            training.poison()

    training.happens = poison_once
    assert training.go() is TrainerExit.FINISHED
    assert "step-4" in events(run, "rolled-back")[0].text
    assert good_steps(run) == [4, 9]
    assert all(t.isfinite().all() for _, t in read_tensors(run.model / "model.safetensors"))


def test_a_validation_that_is_not_finite_goes_back(make_run: MakeRun):
    run = make_run(steps=10)
    training = Watched(run, saves_at=(4,))

    def poison_once() -> None:
        if training.step == 6 and not training.rollback.count:
            training.poison()
            training.evaluate()

    training.happens = poison_once
    assert training.go() is TrainerExit.FINISHED
    (event,) = events(run, "rolled-back")
    assert event.text.startswith("The validation loss is not finite.") and "step-4" in event.text
    store = run.open()
    assert all(math.isfinite(row.val_loss) for row in store.rows(EvaluationRow))


def test_where_going_back_does_not_help_it_ends_with_the_reason(make_run: MakeRun):
    run = make_run(steps=30)
    training = Watched(run, saves_at=(4,))

    def poison_always() -> None:
        if training.step == 6:
            training.poison()

    training.happens = poison_always
    with pytest.raises(EngineError, match="has not helped 3 times in a row") as caught:
        training.go()
    assert "learning_rate" in caught.value.remedy
    assert [json.loads(e.data)["rate_scale"] for e in events(run, "rolled-back")] == [0.5, 0.25, 0.125]
    assert good_steps(run) == [4] and newest_verified(run.path).damaged == ()
    assert not run.model.exists()


def test_told_to_leave_in_a_bad_state_it_keeps_the_good_one(make_run: MakeRun):
    run = make_run(steps=30)
    training = Watched(run, saves_at=(4,))
    store = run.open(read_only=False)

    def poison_and_stop() -> None:
        if training.step == 6:
            training.poison()
        if training.stepper.skipped_in_a_row == 2:
            store.post_command("stop", "test@here")
            training.control._polled_at = 0.0

    training.happens = poison_and_stop
    assert training.go() is TrainerExit.STOPPED
    (event,) = events(run, "trainer-left")
    assert event.level == "warning" and "nothing was saved" in event.text
    assert good_steps(run) == [4]


def test_a_checkpoint_asked_for_in_a_bad_state_is_refused_with_the_reason(make_run: MakeRun):
    run = make_run(steps=12)
    training = Watched(run, saves_at=(4,))
    store = run.open(read_only=False)
    asked: list[int] = []

    def poison_and_ask() -> None:
        if training.step == 6 and not asked:
            training.poison()
            asked.append(store.post_command("checkpoint", "test@here"))
            training.control._polled_at = 0.0

    training.happens = poison_and_ask
    assert training.go() is TrainerExit.FINISHED
    answer = store.acknowledgement(asked[0])
    assert answer is not None and not answer.is_done and "A weight is not finite." in answer.message
    assert good_steps(run) == [4, 12]
    state = store.state()
    assert state is not None and state.state == RunState.RUNNING


def test_a_rate_that_no_halving_saves_fails_with_every_checkpoint_good(make_run: MakeRun):
    run = make_run({"checkpoint_every_s": 1}, steps=60, learning_rate=1e30)
    with pytest.raises(EngineError, match="the training has diverged"):
        train(run.path, os.getppid())
    assert len(events(run, "rolled-back")) == 3
    assert events(run, "trainer-refused")[0].level == "error"
    assert newest_verified(run.path).damaged == ()
    assert good_steps(run) == []
    assert all(math.isfinite(row.loss) for row in step_rows(run))


def test_faults_that_lie_further_on_each_time_do_not_go_on_for_ever(make_run: MakeRun):
    run = make_run(steps=40)
    training = Watched(run, saves_at=(4,))
    poisoned: list[int] = []

    def poison_two_steps_on() -> None:
        if training.step == 6 + 2 * len(poisoned) and not training.stepper.skipped_in_a_row:
            poisoned.append(training.step)
            training.poison()

    training.happens = poison_two_steps_on
    with pytest.raises(EngineError, match="has not helped 3 times in a row"):
        training.go()
    assert poisoned == [6, 8, 10, 12]


def test_a_checkpoint_beyond_the_fault_is_progress(make_run: MakeRun):
    run = make_run(steps=24)
    training = Watched(run, saves_at=(4, 8, 12, 16))
    poisoned: list[int] = []

    def poison_after_each_save() -> None:
        is_next = training.step == 6 + 4 * len(poisoned) and not training.stepper.skipped_in_a_row
        if is_next and len(poisoned) <= MAX_ROLLBACKS:
            poisoned.append(training.step)
            training.poison()

    training.happens = poison_after_each_save
    assert training.go() is TrainerExit.FINISHED
    assert [json.loads(e.data)["in_a_row"] for e in events(run, "rolled-back")] == [1, 1, 1, 1]


def test_memory_that_runs_out_after_a_fault_skips_the_same_text_again():
    fault, no_room = SetbackError("x", 10), SetbackError("y", 9, is_numeric=False)
    first = Rollback().following(fault, Position(cursor=90), 1.0).at(8)
    assert (first.to_step, first.position, first.rate_scale) == (8, Position(cursor=90), 0.5)
    again = first.following(no_room, Position(cursor=99), first.rate_scale)
    assert again.at(8).position == Position(cursor=90) and again.rate_scale == 0.5
    assert again.at(4).position is None and again.at(4).to_step == 4
    assert Rollback().following(no_room, Position(cursor=99), 1.0).at(8).position is None


def test_memory_that_keeps_running_out_is_not_called_divergence():
    rollback = Rollback(in_a_row=MAX_ROLLBACKS)
    with pytest.raises(EngineError, match="no room for an update") as caught:
        rollback.following(SetbackError("Memory ran out.", 9, is_numeric=False), Position(), 1.0)
    assert "diverged" not in str(caught.value) and "learning_rate" not in caught.value.remedy
    assert "micro_batch" in caught.value.remedy
