"""A device that runs out of memory, fails, vanishes, or is taken: what the run does then, and afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Workspace
from engine.records import RunState, StepRow
from engine.runs.autopsy import Autopsy
from engine.runs.folder import RunFolder
from tests.faults import runs
from tests.faults.runs import PATIENCE_S, events, made
from tests.faults.test_processes import SHORT, reason, started, state

Make = Callable[..., Workspace]


def finished(run: RunFolder, seconds: float = PATIENCE_S) -> dict[str, str]:
    assert started(run).wait(seconds) == 0
    assert state(run) is RunState.FINISHED, reason(run)
    assert runs.steps(run) == list(range(1, SHORT + 1)), "no step was lost"
    return events(run)


def micro_batches(run: RunFolder) -> list[int]:
    store = run.open()
    found = [row.micro_batch for row in store.rows(StepRow, "ORDER BY step")]
    store.close()
    return found


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("at", [1, 57])
def test_memory_that_runs_out_at_a_step_halves_the_batch_and_costs_no_step(
    make_workspace: Make,
    injected: Path,
    at: int,
) -> None:
    run = made(make_workspace(SHORT * 1024))
    injected.write_text(f"step {at} memory 1")
    told = finished(run)
    assert "8 sequences at a time instead of 16" in told["out-of-memory"] and "restart" not in told
    sizes = micro_batches(run)
    assert sizes[: at - 1] == [16] * (at - 1) and set(sizes[at:]) == {8}


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_memory_that_runs_out_in_a_validation_or_a_save_stops_nothing(
    make_workspace: Make,
    injected: Path,
) -> None:
    run = made(make_workspace(SHORT * 1024, "validation"))
    injected.write_text("evaluate 1 memory 2")
    told = finished(run)
    assert "restart" not in told and Workspace(run.workspace).status(run.id).val_loss is not None
    run = made(make_workspace(SHORT * 1024, "save"))
    injected.write_text("save 1 memory 1")
    told = finished(run)
    assert "memory ran out" in told["checkpoint-failed"] and "restart" not in told
    assert "checkpoint" in told, "the next one was saved"


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["cuda", "gone", "SIGSEGV", "SIGBUS"])
def test_a_device_that_fails_after_a_suspend_is_met_with_a_restart_from_the_checkpoint(
    make_workspace: Make,
    injected: Path,
    kind: str,
) -> None:
    run = made(make_workspace(SHORT * 1024, "undisturbed"))
    finished(run)
    weights = runs.weights(run)
    run = made(make_workspace(SHORT * 1024))
    injected.write_text(f"step 120 {kind} 2")
    told = finished(run)
    words = {
        "cuda": "RuntimeError: CUDA error: unspecified launch failure",
        "gone": "torch finds no usable one",
        "SIGSEGV": "signal SIGSEGV",
        "SIGBUS": "signal SIGBUS",
    }
    assert words[kind] in told["restart"]
    assert runs.weights(run) == weights


def test_who_killed_it_is_told_by_the_kernel_and_the_last_words_by_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, kills = tmp_path / "log", [3]
    monkeypatch.setattr("engine.runs.autopsy.num_oom_kills", lambda: kills[-1])
    log.write_text("Traceback (most recent call last):\nOldError: of a former life\n")
    autopsy = Autopsy(log)
    assert autopsy.verdict(1) == "exit code 1"
    assert autopsy.verdict(-9) == "signal SIGKILL"
    with log.open("a") as file:
        file.write(
            "a line\nTraceback (most recent call last):\n  File x\n    raise\nRuntimeError: why\nmore of it\n"
        )
    assert autopsy.verdict(1) == "exit code 1 (RuntimeError: why)"
    autopsy = Autopsy(log)
    with log.open("a") as file:
        file.write("The GPU is gone.\nLook at nvidia-smi.\n")
    assert autopsy.verdict(12) == "exit code 12 (The GPU is gone. Look at nvidia-smi.)"
    kills.append(4)
    assert "the kernel killed it" in autopsy.verdict(-9) and "memory" in autopsy.verdict(-9)
    assert "kernel" not in autopsy.verdict(-11)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of this machine with 60 MB of memory, as its file of members; skipped where none may be made."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"llm-tui-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text("60000000")
            yield group / "cgroup.procs"
        except OSError:
            continue
        else:
            return
        finally:
            group.rmdir()
    pytest.skip("no control group can be made here")


def test_the_kernels_own_killer_is_named(tmp_path: Path, small_group: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    autopsy = Autopsy(log)
    code = "import sys; sys.stdin.readline(); print(len(bytearray(200_000_000)))"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    small_group.write_text(str(process.pid))
    process.communicate(b"\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert "the kernel killed it" in autopsy.verdict(process.returncode)
