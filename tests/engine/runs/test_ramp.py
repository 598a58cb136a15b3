"""Runs that find their batch size themselves: real supervisors, real sizes, real deaths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import msgspec
import pytest

from engine import Workspace
from engine import plan as plans
from engine import ramp as rules
from engine.records import EventRow, RampRow, RunPlan, RunState
from engine.runs import folder as folders
from engine.runs import ramp as ramps
from engine.runs.lock import holder
from engine.runs.ramp import BatchRamp
from engine.runs.store import RunStore
from tests.conftest import wait_for

Make = Callable[..., Workspace]
ENDLESS = 10**9
AUTO = ("training.micro_batch=auto", "training.tokens_per_step=256", "training.compile=off")
"""Three sizes."""


def events(workspace: Workspace, run_id: str, kind: str) -> list[EventRow]:
    return [event for _, event in workspace.events(run_id) if event.kind == kind]


def rows(workspace: Workspace, run_id: str) -> list[RampRow]:
    store = workspace.folder_of(run_id).open()
    try:
        return store.rows(RampRow, "ORDER BY number")
    finally:
        store.close()


def plan(workspace: Workspace, run_id: str) -> RunPlan:
    store = workspace.folder_of(run_id).open()
    try:
        return store.meta("plan", RunPlan)
    finally:
        store.close()


def until_trying(workspace: Workspace, run_id: str, least_number: int) -> None:
    def is_trying() -> bool:
        found = rows(workspace, run_id)
        return bool(found) and found[-1].number >= least_number and found[-1].state == "trying"

    wait_for(is_trying, what=f"size {least_number} to be tried")


def until_chosen(workspace: Workspace, run_id: str) -> None:
    wait_for(lambda: any(row.is_chosen for row in rows(workspace, run_id)), 120, "a size to be chosen")


def until_training(workspace: Workspace, run_id: str) -> None:
    wait_for(lambda: (workspace.status(run_id).step or 0) >= 2, 120, "two steps")


@pytest.mark.timeout(400)
def test_a_run_finds_its_batch_size_trains_with_it_and_the_next_one_remembers_it(
    make_workspace: Make,
) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start(overrides=AUTO)
    until_trying(workspace, run_id, 1)
    seen = workspace.snapshot(run_id)
    assert seen.status.state is RunState.PREPARING
    assert seen.ramp
    wait_for(
        lambda: workspace.snapshot(run_id).phase.startswith("finding the batch size: "), what="the phase"
    )
    until_training(workspace, run_id)
    tried = rows(workspace, run_id)
    assert [row.micro_batch for row in tried] == [1, 2, 4][: len(tried)]
    assert len(events(workspace, run_id, "ramp-size")) == len(tried)
    (chosen,) = [row for row in tried if row.is_chosen]
    assert rules.choose(tried) == chosen
    (told,) = events(workspace, run_id, "ramp")
    assert told.source == "ramp"
    assert rules.choice_text(chosen, plan(workspace, run_id)) in told.text
    used = plan(workspace, run_id)
    assert (used.micro_batch, used.micro_batch * used.grad_accum) == (chosen.micro_batch, 4)
    status = workspace.status(run_id)
    assert (status.micro_batch, status.grad_accum) == (used.micro_batch, used.grad_accum)
    assert workspace.snapshot(run_id).ramp == (), "the losses have taken its place"
    assert not workspace.folder_of(run_id).scratch.exists()
    workspace.command(run_id, "stop")
    second = workspace.start(overrides=AUTO)
    until_training(workspace, second)
    assert rows(workspace, second) == []
    (told,) = events(workspace, second, "ramp")
    assert "remembered from" in told.text
    assert told.text.endswith("delete cache/ramp.json in the workspace.")
    assert plan(workspace, second).micro_batch == used.micro_batch
    workspace.command(second, "stop")


def test_a_size_that_takes_its_process_along_leaves_the_run_with_what_was_proven(
    make_workspace: Make,
) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start(overrides=AUTO)
    until_trying(workspace, run_id, 2)
    os.kill(int(holder(workspace.folder_of(run_id).trainer_lock) or 0), signal.SIGKILL)
    until_chosen(workspace, run_id)
    found = rows(workspace, run_id)
    assert found[-1].state == "killed"
    assert "SIGKILL" in found[-1].note
    assert plan(workspace, run_id).micro_batch == next(row for row in found if row.is_chosen).micro_batch
    assert plan(workspace, run_id).micro_batch < found[-1].micro_batch
    assert any(
        event.level == "warning" and "SIGKILL" in event.text
        for event in events(workspace, run_id, "ramp-size")
    )
    assert rules.load(workspace.folder) == [], "what one death ended is not remembered"
    workspace.command(run_id, "stop")


@pytest.mark.timeout(400)
def test_a_stop_while_sizes_are_tried_is_heeded_and_a_resume_tries_anew(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start(overrides=AUTO)
    until_trying(workspace, run_id, 2)
    pid = int(holder(workspace.folder_of(run_id).trainer_lock) or 0)
    assert workspace.command(run_id, "stop", timeout_s=10.0).is_done
    assert workspace.status(run_id).state is RunState.STOPPED
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    assert rows(workspace, run_id)[-1].state == "stopped"
    assert not workspace.folder_of(run_id).scratch.exists()
    workspace.resume(run_id)
    until_chosen(workspace, run_id)
    found = rows(workspace, run_id)
    assert {row.ramp for row in found} == {1, 2}
    assert sum(row.is_chosen for row in found) == 1
    workspace.command(run_id, "stop")


# --- what follows from what was tried, without any process -----------------------------------------------------


def made(workspace: Workspace, *overrides: str) -> tuple[BatchRamp, RunStore]:
    """The ramp of a run that no supervisor has taken up."""
    settings, the_plan = workspace.plan(overrides)
    folder = folders.create(workspace.folder, settings, the_plan, {}, "test")
    store = folder.open(read_only=False)
    return BatchRamp(folder, store, settings, the_plan), store


def size(number: int, state: str, **figures: float) -> RampRow:
    facts = {"number": number, "ramp": 1, "at": 0.0, "micro_batch": 2 ** (number - 1), **figures}
    return msgspec.convert({**facts, "num_recomputed_blocks": 0, "state": state}, RampRow)


def test_a_ramp_is_needed_where_the_size_was_left_open_and_once(make_workspace: Make) -> None:
    workspace = make_workspace()
    assert not made(workspace)[0].is_needed, "micro_batch is set"
    assert not made(workspace, *AUTO, "training.tokens_per_step=64")[0].is_needed, "there is but one size"
    ramp, store = made(workspace, *AUTO)
    assert ramp.is_needed
    store.put(size(1, "proven", tokens_per_s=100.0), size(2, "proven", tokens_per_s=200.0))
    assert ramp.conclude("exit code 0") is None
    assert not ramp.is_needed
    assert (ramp.plan.micro_batch, store.meta("plan", RunPlan)) == (2, ramp.plan)
    assert [row.is_chosen for row in store.ramp()] == [False, True]


def test_where_nothing_is_proven_the_training_begins_with_the_smallest(make_workspace: Make) -> None:
    ramp, store = made(make_workspace(), *AUTO)
    store.put(size(1, "trying"))
    assert ramp.conclude("signal SIGKILL") is None
    assert ramp.plan.micro_batch == 1
    assert store.ramp()[0].state == "killed"
    told = store.rows(EventRow)
    assert [event.level for event in told] == ["warning", "warning"]
    assert "SIGKILL" in told[0].text
    assert not ramp.is_needed


def test_a_size_that_works_beyond_the_budget_is_better_than_none(make_workspace: Make) -> None:
    ramp, store = made(make_workspace(), *AUTO)
    store.put(size(1, "over-budget", tokens_per_s=100.0, memory_bytes=3 * 2**20, budget_bytes=2**20))
    assert ramp.conclude("exit code 0") is None
    assert ramp.plan.micro_batch == 1
    (told,) = store.rows(EventRow)
    assert (told.level, "leaves no margin" in told.text, "3 MiB of 1 MiB" in told.text) == (
        "warning",
        True,
        True,
    )


def test_a_device_without_room_for_one_sequence_is_told_of(make_workspace: Make) -> None:
    ramp, store = made(make_workspace(), *AUTO)
    store.put(msgspec.structs.replace(size(1, "out-of-memory"), note="tried to allocate 2.00 GiB"))
    reason = ramp.conclude("exit code 0")
    assert reason is not None
    assert "no room for a single sequence of 64 tokens: tried to allocate 2.00 GiB" in reason
    assert "model.context" in reason


def ended(store: RunStore, ramp: int, *, is_complete: bool = True) -> None:
    store.set_meta(**{rules.END_FACT: rules.RampEnd(ramp=ramp, is_complete=is_complete)})


def test_what_a_former_supervisor_proved_counts_where_its_ramp_came_to_an_end(make_workspace: Make) -> None:
    workspace = make_workspace()
    ramp, store = made(workspace, *AUTO)
    store.put(size(1, "proven", tokens_per_s=100.0))
    assert not ramp.recall(), "cut short between two sizes"
    ended(store, 1)
    assert ramp.recall()
    assert ramp.plan.micro_batch == 1
    assert len(rules.load(workspace.folder)) == 1


def test_a_size_that_died_with_its_supervisor_is_tried_once_more_and_not_twice(make_workspace: Make) -> None:
    ramp, store = made(make_workspace(), *AUTO)
    store.put(size(1, "proven", tokens_per_s=100.0), size(2, "trying"))
    assert not ramp.recall(), "the supervisor alone may have died"
    assert [row.state for row in store.ramp()] == ["proven", "killed"]
    again = {"ramp": 2, "micro_batch": 1}
    store.put(
        msgspec.structs.replace(size(3, "proven", tokens_per_s=100.0), **again),
        msgspec.structs.replace(size(4, "trying"), **{**again, "micro_batch": 2}),
    )
    assert ramp.recall(), "the machine may have died of it"
    assert ramp.plan.micro_batch == 1


@pytest.mark.parametrize(("end", "is_kept"), [(None, False), (False, False), (True, True)])
def test_only_a_ramp_that_is_complete_is_remembered(
    make_workspace: Make, end: bool | None, is_kept: bool
) -> None:
    workspace = make_workspace()
    ramp, store = made(workspace, *AUTO)
    ramp.begin()
    store.put(size(1, "proven", tokens_per_s=100.0))
    if end is not None:
        ended(store, 1, is_complete=end)
    assert ramp.conclude("exit code 0") is None
    assert ramp.plan.micro_batch == 1
    assert bool(rules.load(workspace.folder)) == is_kept


def test_a_process_that_hangs_is_given_up_wherever_it_hangs(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ramps, "MOST_SIZE_S", 0.3)
    ramp, store = made(make_workspace(), *AUTO)

    def gives_up() -> bool:
        time.sleep(0.35)
        return ramp.is_hopeless()

    ramp.begin()
    assert not ramp.is_hopeless()
    assert gives_up(), "before the first size"
    store.put(size(1, "trying"))
    assert not ramp.is_hopeless(), "it goes on"
    assert gives_up(), "in a size"
    store.put(size(1, "proven", tokens_per_s=100.0))
    assert not ramp.is_hopeless()
    assert gives_up(), "between two"
    store.put(size(2, "trying"))
    assert not ramp.is_hopeless()
    assert gives_up()
    assert ramp.conclude("signal SIGKILL") is None
    assert store.ramp()[1].note == "It took longer than 0 s and was given up."
    told = [event.text for event in store.rows(EventRow)]
    assert not any("SIGKILL" in text or "died" in text for text in told)
    assert ramp.plan.micro_batch == 1


def test_a_ramp_that_fails_before_its_first_size_does_not_pass_for_the_former_one(
    make_workspace: Make,
) -> None:
    ramp, store = made(make_workspace(), *AUTO)
    store.put(size(1, "proven", tokens_per_s=100.0), size(2, "stopped"))
    assert not ramp.recall()
    ramp.begin()
    assert ramp.conclude("exit code 1") is None
    assert not any(row.is_chosen for row in store.ramp())
    (told,) = store.rows(EventRow)
    assert told.level == "warning"
    assert "Trying failed before the first size. Its process ended with exit code 1." in told.text


def test_whether_a_run_is_compiled_follows_the_speed_that_was_measured(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "has_compiler", lambda: True)
    for speed, is_compiled in ((100_000.0, False), (10.0, True)):
        ramp, store = made(make_workspace(name=f"at-{speed}"), *AUTO[:2], "training.compile=auto")
        store.put(size(1, "proven", tokens_per_s=speed))
        assert ramp.conclude("exit code 0") is None
        assert ramp.plan.is_compiled == store.meta("plan", RunPlan).is_compiled == is_compiled
        assert store.meta(rules.SPEED_FACT, float) == speed
