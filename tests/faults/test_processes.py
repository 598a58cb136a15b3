"""Processes killed, frozen, crashing and forgotten: the final weights are those of the run that nobody touched."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine import Workspace
from engine.records import AttemptRow, RunState
from engine.runs.folder import RunFolder
from engine.runs.lock import holder
from tests.conftest import wait_for
from tests.faults import runs
from tests.faults.runs import (
    PATIENCE_S,
    STEPS,
    check_energy,
    events,
    kill,
    made,
    supervise,
    trainer_pid,
    wait_for_trainer,
    weights,
)

Make = Callable[..., Workspace]
HURRIED = {"engine.runs.supervisor.MAX_BACK_OFF_S": 0.2}
SHORT = 200
"""Steps of a run where the weights are not compared with many."""


def started(run: RunFolder, constants: dict[str, float] | None = None) -> subprocess.Popen[bytes]:
    """A supervisor at work on the run."""
    process = supervise(run, {**HURRIED, **(constants or {})})
    wait_for(lambda: run.is_supervised or process.poll() is not None, 60, "the supervisor's lock")
    return process


def reason(run: RunFolder) -> str:
    return Workspace(run.workspace).status(run.id).reason or ""


def state(run: RunFolder) -> RunState:
    return Workspace(run.workspace).status(run.id).state


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_crash_loop_backs_off_gives_up_says_why_and_can_be_resumed(
    make_workspace: Make, injected: Path
) -> None:
    run = made(make_workspace(SHORT * 1024), "training.max_restarts=1")
    injected.write_text("step 1 cuda 99")
    assert started(run).wait(PATIENCE_S) == 0
    assert state(run) is RunState.FAILED
    assert "RuntimeError: CUDA error: unspecified launch failure" in reason(run) and "2 times" in reason(run)
    assert "CUDA error" in events(run)["restart"]
    store = run.open()
    attempts = store.rows(AttemptRow, "ORDER BY attempt")
    store.close()
    assert [row.attempt for row in attempts] == [1, 2]
    assert not run.is_supervised and trainer_pid(run) is None, "nobody is left to spend anything"
    used = Workspace(run.workspace).status(run.id).machine_energy_j
    time.sleep(1.0)
    assert Workspace(run.workspace).status(run.id).machine_energy_j == used
    # The fault is gone: it goes on.
    injected.unlink()
    assert started(run).wait(PATIENCE_S) == 0
    assert state(run) is RunState.FINISHED and runs.steps(run) == list(range(1, SHORT + 1))


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_after_a_reboot_stale_locks_and_used_process_ids_stand_in_nobodys_way(make_workspace: Make) -> None:
    run = made(make_workspace(SHORT * 1024))
    process = started(run)
    wait_for(lambda: runs.newest_step(run) > 10, 120, "steps")
    trainer = wait_for_trainer(run)
    for pid in (process.pid, trainer):
        kill(pid)
    process.wait()
    wait_for(lambda: holder(run.trainer_lock) is None, 30, "the trainer's end")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        for lock in (run.supervisor_lock, run.trainer_lock):
            lock.write_text(str(bystander.pid))
        with sqlite3.connect(run.store_path) as database:  # what another boot of the machine left
            database.execute(
                "UPDATE heartbeat SET boot_id = 'another', monotonic_s = 1e9, pid = ?", (bystander.pid,)
            )
        status = Workspace(run.workspace).status(run.id)
        assert status.state is RunState.FAILED and "llm-tui resume" in (status.reason or "")
        assert status.supervisor_pid is None and status.trainer_pid is None
        assert started(run).wait(PATIENCE_S) == 0
        assert state(run) is RunState.FINISHED and bystander.poll() is None, "it was none of ours"
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_frozen_trainer_is_killed_and_started_again(make_workspace: Make, undisturbed: str) -> None:
    run = made(make_workspace(STEPS * 1024))
    process = started(run, {"engine.runs.supervisor.MAX_SILENCE_S": 4.0})
    wait_for(lambda: runs.newest_step(run) > 100, 120, "steps")
    os.kill(wait_for_trainer(run), signal.SIGSTOP)
    assert process.wait(PATIENCE_S) == 0
    assert "silent for 4 s" in events(run)["frozen"] and "SIGKILL" in events(run)["restart"]
    assert state(run) is RunState.FINISHED and weights(run) == undisturbed


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_machine_that_stood_still_kills_nobody(make_workspace: Make, undisturbed: str) -> None:
    run = made(make_workspace(STEPS * 1024))
    process = started(run, {"engine.runs.supervisor.MAX_SILENCE_S": 4.0})
    wait_for(lambda: runs.newest_step(run) > 100, 120, "steps")
    pids = (process.pid, wait_for_trainer(run))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(8.0)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert process.wait(PATIENCE_S) == 0
    assert "frozen" not in events(run) and "restart" not in events(run)
    assert weights(run) == undisturbed


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_frozen_trainer_without_a_supervisor_is_never_joined_by_another(
    make_workspace: Make, undisturbed: str
) -> None:
    run = made(make_workspace(STEPS * 1024))
    process = started(run)
    wait_for(lambda: runs.newest_step(run) > 100, 120, "steps")
    former = wait_for_trainer(run)
    os.kill(former, signal.SIGSTOP)
    kill(process.pid)
    process.wait()
    process = started(run, {"engine.runs.supervisor.MAX_SILENCE_S": 6.0})
    wait_for(
        lambda: (trainer_pid(run) or former) != former, 120, "another trainer, once the former one is gone"
    )
    assert not psutil.pid_exists(former) or psutil.Process(former).status() == psutil.STATUS_ZOMBIE
    assert process.wait(PATIENCE_S) == 0
    assert state(run) is RunState.FINISHED and weights(run) == undisturbed


@pytest.mark.faults
@pytest.mark.timeout(3000)
def test_a_trainer_killed_at_fifty_random_moments_changes_no_bit(
    make_workspace: Make, undisturbed: str
) -> None:
    chance, num_kills, num_runs = random.Random(50), 0, 0
    while num_kills < 50:
        num_runs += 1
        run = made(make_workspace(STEPS * 1024, f"killed-{num_runs}"), "training.max_restarts=90")
        began_s, process, former = time.monotonic(), started(run), None
        while process.poll() is None:
            pid = trainer_pid(run)
            if pid is None or pid == former:
                time.sleep(0.01)
                continue
            former = pid
            # From the first moment to the last: starting, training, saving, writing the model.
            time.sleep(chance.uniform(0.0, 9.0))
            if trainer_pid(run) == pid:
                kill(pid)
                num_kills += 1
        assert state(run) is RunState.FINISHED, reason(run)
        assert weights(run) == undisturbed, f"after {num_kills} kills"
        assert runs.steps(run) == list(range(1, STEPS + 1))
        check_energy(run, time.monotonic() - began_s)
        check_ledger(run)


@pytest.mark.faults
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("who", ["supervisor", "all"])
def test_supervisor_viewer_or_all_at_once_killed_at_random_moments(
    make_workspace: Make, undisturbed: str, who: str
) -> None:
    chance, num_kills = random.Random(who), 0
    run = made(make_workspace(STEPS * 1024), "training.max_restarts=90")
    began_s = time.monotonic()
    while True:
        process = started(run)
        viewer = subprocess.Popen(
            [sys.executable, "-m", "tui", "--workspace", str(run.workspace)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(chance.uniform(1.0, 14.0))
            break
        except subprocess.TimeoutExpired:
            num_kills += 1
            for pid in (viewer.pid, process.pid, trainer_pid(run) if who == "all" else None):
                kill(pid)
            process.wait()
        finally:
            kill(viewer.pid)
            viewer.wait()
    assert num_kills > 0 and state(run) is RunState.FINISHED, reason(run)
    assert weights(run) == undisturbed, f"after {num_kills} kills"
    check_energy(run, time.monotonic() - began_s)
    check_ledger(run)


def check_ledger(run: RunFolder) -> None:
    """One entry, with what the run used."""
    workspace = Workspace(run.workspace)
    (entry,) = workspace.ledger()
    assert entry.machine_energy_j == pytest.approx(workspace.status(run.id).machine_energy_j, rel=0.05)
