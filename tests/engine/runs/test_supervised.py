"""Runs as they are: real supervisors, real trainers, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from engine import Workspace
from engine.errors import BlockedError, EngineError, RunFailedError
from engine.records import AttemptRow, CommandRow, EnergyRow, EventRow, RunState, Status
from engine.runs.folder import RunFolder
from engine.runs.lock import holder
from tests.conftest import wait_for

Make = Callable[..., Workspace]
ENDLESS = 10**9


def state(workspace: Workspace, run_id: str) -> RunState:
    return workspace.status(run_id).state


def step(workspace: Workspace, run_id: str) -> int:
    return workspace.status(run_id).step or 0


def started(workspace: Workspace) -> str:
    run_id = workspace.start()
    wait_for(lambda: step(workspace, run_id) >= 3, what="three steps")
    return run_id


def pid_of(pid: int | None) -> int:
    assert pid is not None
    return pid


def test_a_run_goes_from_text_to_model_ledger_and_report(make_workspace: Make) -> None:
    workspace = make_workspace()
    (workspace.folder / "TRAINING.md").write_text("# Mine\n\nMy own words.\n", "utf-8")
    run_id = workspace.start()
    wait_for(lambda: state(workspace, run_id).is_over, 120, "the end of the run")
    status = workspace.status(run_id)
    assert status.state is RunState.FINISHED, status.reason
    assert (status.step, status.tokens) == (20, 20_480)
    snapshot = workspace.snapshot(run_id)
    assert snapshot.val_losses[-1].loss < snapshot.val_losses[0].loss
    assert status.machine_energy_j is not None
    assert status.machine_energy_j > 0
    (entry,) = workspace.ledger()
    assert (entry.run_id, entry.state, entry.tokens) == (run_id, "finished", 20_480)
    assert entry.machine_energy_j == pytest.approx(status.machine_energy_j, rel=0.05)
    report = (workspace.folder / "TRAINING.md").read_text("utf-8")
    assert report.startswith("# Mine\n\nMy own words.\n")
    assert run_id in report
    folder = workspace.folder_of(run_id)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {
        path.name for path in folder.model.iterdir()
    }
    wait_for(lambda: not folder.is_supervised, what="the supervisor to leave")
    for path in workspace.folder.glob("ledger.db*"):
        path.unlink()
    workspace.report()
    assert [booked.run_id for booked in workspace.ledger()] == [run_id]
    assert run_id in (workspace.folder / "TRAINING.md").read_text("utf-8")


def test_a_killed_trainer_comes_back_and_its_energy_is_counted_once(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = started(workspace)
    wait_for(lambda: workspace.snapshot(run_id).num_checkpoints >= 1, what="a checkpoint")
    before = workspace.status(run_id)
    os.kill(pid_of(before.trainer_pid), signal.SIGKILL)
    wait_for(lambda: workspace.status(run_id).restarts == 1, what="the restart")
    wait_for(lambda: step(workspace, run_id) > (before.step or 0) + 2, what="more steps than before")
    after = workspace.status(run_id)
    assert after.state is RunState.RUNNING
    assert after.supervisor_pid == before.supervisor_pid
    assert after.trainer_pid != before.trainer_pid
    assert (after.machine_energy_j or 0) > (before.machine_energy_j or 0)
    store = workspace.folder_of(run_id).open()
    assert "SIGKILL" in (store.rows(AttemptRow, "ORDER BY attempt")[0].outcome or "")
    assert any(row.kind == "restart" for row in store.rows(EventRow))
    (segment,) = store.rows(EnergyRow)
    assert segment.covered_s <= segment.elapsed_s + 1.0
    workspace.command(run_id, "stop")


def test_pause_resume_checkpoint_and_stop_are_answered_and_kept_as_history(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = started(workspace)
    assert workspace.command(run_id, "pause").is_done
    assert state(workspace, run_id) is RunState.PAUSED
    paused_at = step(workspace, run_id)
    time.sleep(1.0)
    assert step(workspace, run_id) == paused_at
    assert workspace.resume(run_id)
    assert state(workspace, run_id) is RunState.RUNNING
    wait_for(lambda: step(workspace, run_id) > paused_at, what="a step after the pause")
    answer = workspace.command(run_id, "checkpoint")
    assert answer.is_done
    assert "step-" in answer.message
    assert workspace.command(run_id, "stop").is_done
    status = workspace.status(run_id)
    assert status.state is RunState.STOPPED
    newest = workspace.snapshot(run_id).checkpoint
    assert newest is not None
    assert newest.step == status.step
    verbs = [row.verb for row in workspace.folder_of(run_id).open().rows(CommandRow, "ORDER BY id")]
    assert verbs == ["pause", "resume", "checkpoint", "stop"]
    with pytest.raises(RunFailedError, match="nothing to pause"):
        workspace.command(run_id, "pause")


def test_a_stopped_run_is_resumed_where_it_stopped_and_the_energy_adds_up(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = started(workspace)
    workspace.command(run_id, "stop")
    before = workspace.status(run_id)
    workspace.resume(run_id)
    wait_for(lambda: step(workspace, run_id) > (before.step or 0) + 2, what="more steps")
    after = workspace.status(run_id)
    assert (after.machine_energy_j or 0) > (before.machine_energy_j or 0)
    assert (after.elapsed_s or 0) > (before.elapsed_s or 0)
    workspace.command(run_id, "stop")
    (entry,) = workspace.ledger()
    assert entry.machine_energy_j == pytest.approx(workspace.status(run_id).machine_energy_j, rel=0.05)


def test_a_killed_supervisor_leaves_a_saved_run_that_can_be_resumed(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = started(workspace)
    folder = workspace.folder_of(run_id)
    os.kill(pid_of(workspace.status(run_id).supervisor_pid), signal.SIGKILL)
    wait_for(lambda: holder(folder.trainer_lock) is None, what="the orphaned trainer to save and leave")
    status = workspace.status(run_id)
    assert status.state is RunState.FAILED
    assert "resume" in (status.reason or "")
    assert workspace.snapshot(run_id).is_stale
    newest = workspace.snapshot(run_id).checkpoint
    assert newest is not None
    assert newest.step == status.step
    workspace.resume(run_id)
    wait_for(lambda: step(workspace, run_id) > (status.step or 0), what="steps after the resume")
    workspace.command(run_id, "stop")


def test_a_stop_that_a_killed_supervisor_left_unanswered_does_not_end_the_resume(
    make_workspace: Make,
) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = started(workspace)
    folder, status = workspace.folder_of(run_id), workspace.status(run_id)
    for pid in (status.supervisor_pid, status.trainer_pid):
        os.kill(pid_of(pid), signal.SIGKILL)
    wait_for(lambda: not folder.is_supervised and holder(folder.trainer_lock) is None, what="both to be gone")
    with folder.writing() as store:
        asked = store.post_command("stop", "ana@here")
    workspace.resume(run_id)
    wait_for(lambda: step(workspace, run_id) > (status.step or 0), what="steps after the resume")
    with folder.writing() as store:
        answer = store.acknowledgement(asked)
    assert answer is not None and not answer.is_done and "ask again" in answer.message
    workspace.command(run_id, "stop")


def is_held(folder: RunFolder) -> bool:
    """Whether the trainer that is alive now says that it holds."""
    with contextlib.closing(folder.open()) as store:
        beat = store.heartbeat("trainer")
    return beat is not None and beat.phase == "paused" and str(beat.pid) == holder(folder.trainer_lock)


def test_a_trainer_that_died_while_paused_stays_paused_and_is_told_so(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = started(workspace)
    assert workspace.command(run_id, "pause").is_done
    paused_at, folder = step(workspace, run_id), workspace.folder_of(run_id)
    lock = folder.trainer_lock
    for _ in range(2):
        killed = int(holder(lock) or 0)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda gone=killed: int(holder(lock) or gone) != gone, what="the next trainer")
        wait_for(lambda: is_held(folder), what="it to hold")
        assert state(workspace, run_id) is RunState.PAUSED
    assert step(workspace, run_id) <= paused_at
    assert workspace.resume(run_id)
    wait_for(lambda: step(workspace, run_id) > paused_at, what="a step after the pause")
    workspace.command(run_id, "stop")


def test_a_resume_while_another_brings_the_run_to_its_end_starts_nothing(make_workspace: Make) -> None:
    workspace = make_workspace()
    run_id = workspace.start()
    workspace.command(run_id, "stop")
    workspace.resume(run_id)
    told: list[str] = []

    def resume_too() -> None:
        try:
            told.append(workspace.resume(run_id))
        except EngineError as error:
            told.append(error.title)

    others = [threading.Thread(target=resume_too) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(120)
    wait_for(lambda: state(workspace, run_id).is_over, 120, "the end of the run")
    assert len(told) == 2 and state(workspace, run_id) is RunState.FINISHED
    with pytest.raises(RunFailedError, match="is finished"):
        workspace.resume(run_id)


def test_one_device_takes_one_run_unless_waived_with_a_reason(make_workspace: Make) -> None:
    first, second = make_workspace(ENDLESS, "first"), make_workspace(ENDLESS, "second")
    run_id = started(first)
    with pytest.raises(BlockedError) as caught:
        second.start()
    assert "device-free" in caught.value.title
    assert run_id in caught.value.title
    assert second.runs() == []
    with pytest.raises(EngineError, match="cannot be waived"):
        second.start(waivers={"corpus": "because"})
    with pytest.raises(EngineError, match="no check 'nonsense'"):
        second.start(waivers={"nonsense": "because"})
    waived = second.start(waivers={"device-free": "two small ones"})
    assert second.folder_of(waived).open().meta("waivers", dict[str, str]) == {
        "device-free": "two small ones"
    }
    first.command(run_id, "stop")
    second.command(waived, "stop")
    assert "two small ones" in second.ledger()[0].waivers


def test_two_starts_in_the_same_second_make_one_run(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    outcomes: list[str] = []

    def start() -> None:
        try:
            outcomes.append(workspace.start())
        except BlockedError:
            outcomes.append("blocked")

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome == "blocked" for outcome in outcomes) == [False, True]
    (run,) = workspace.runs()
    workspace.command(run.id, "stop")


def test_a_corpus_that_cannot_be_used_blocks_before_anything_starts(make_workspace: Make) -> None:
    workspace = make_workspace()
    for path in (workspace.folder / "text").iterdir():
        path.write_bytes(b"")
    with pytest.raises(BlockedError, match="corpus"):
        workspace.start()
    assert workspace.runs() == []
    assert workspace.ledger() == []


def test_a_run_that_reaches_its_limit_saves_and_says_so(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start(overrides=["limits.max_hours=0.002"])
    wait_for(lambda: state(workspace, run_id).is_over, what="the limit of 7.2 s")
    status: Status = workspace.status(run_id)
    assert status.state is RunState.STOPPED
    assert "limits.max_hours" in (status.reason or "")
    assert workspace.snapshot(run_id).num_checkpoints >= 1


def test_a_stop_during_preparation_is_heeded(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start()
    assert workspace.command(run_id, "stop").is_done
    assert state(workspace, run_id) is RunState.STOPPED
