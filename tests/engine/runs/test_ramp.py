"""Runs that find their batch size themselves: real supervisors, real sizes, real deaths."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import msgspec
import pytest

from engine import Workspace
from engine import ramp as rules
from engine.records import EventRow, RampRow, RunPlan, RunState
from engine.runs import folder as folders
from engine.runs.lock import holder
from engine.runs.ramp import BatchRamp
from engine.runs.store import RunStore
from tests.conftest import wait_for

Make = Callable[..., Workspace]
ENDLESS = 10**9
AUTO = ("training.micro_batch=auto",)


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
    assert [row.micro_batch for row in tried] == [1, 2, 4, 8, 16][: len(tried)]
    assert len(events(workspace, run_id, "ramp-size")) == len(tried)
    (chosen,) = [row for row in tried if row.is_chosen]
    assert rules.choose(tried) == chosen
    (told,) = events(workspace, run_id, "ramp")
    assert told.source == "ramp"
    assert rules.choice_text(chosen, plan(workspace, run_id)) in told.text
    used = plan(workspace, run_id)
    assert (used.micro_batch, used.micro_batch * used.grad_accum) == (chosen.micro_batch, 16)
    status = workspace.status(run_id)
    assert (status.micro_batch, status.grad_accum) == (used.micro_batch, used.grad_accum)
    assert workspace.snapshot(run_id).ramp == (), "the losses have taken its place"
    assert not workspace.folder_of(run_id).scratch.exists()
    workspace.command(run_id, "stop")
    workspace.resume(run_id)
    until_training(workspace, run_id)
    assert rows(workspace, run_id) == tried, "a run that has trained keeps its size"
    workspace.command(run_id, "stop")
    second = workspace.start(overrides=AUTO)
    until_training(workspace, second)
    assert rows(workspace, second) == []
    (told,) = events(workspace, second, "ramp")
    assert "remembered from" in told.text
    assert plan(workspace, second).micro_batch == used.micro_batch
    workspace.command(second, "stop")


def test_a_size_that_takes_its_process_along_leaves_the_run_with_what_was_proven(
    make_workspace: Make,
) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start(overrides=AUTO)
    until_trying(workspace, run_id, 2)
    os.kill(int(holder(workspace.folder_of(run_id).trainer_lock) or 0), signal.SIGKILL)
    until_training(workspace, run_id)
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
    until_training(workspace, run_id)
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


def test_what_a_former_supervisor_proved_counts_and_the_size_it_died_with_does_not(
    make_workspace: Make,
) -> None:
    ramp, store = made(make_workspace(), *AUTO)
    store.put(size(1, "proven", tokens_per_s=100.0), size(2, "trying"))
    assert ramp.recall()
    assert ramp.plan.micro_batch == 1
    assert [row.state for row in store.ramp()] == ["proven", "killed"]
