"""Real runs for the tests of faults: a supervisor that a test may hurry, and what is left of a run."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

from engine import Workspace
from engine.errors import StoreError
from engine.records import EnergyRow, EventRow, SensorRow, StepRow
from engine.runs import folder as folders
from engine.runs.folder import RunFolder
from engine.runs.lock import holder
from tests.conftest import wait_for

STEPS = 400
"""Of 1,024 tokens: seconds of training."""
PATIENCE_S = 400.0
"""For the end of a run: a machine may be busy."""

_SUPERVISE = """
import importlib, sys
from pathlib import Path
for name, value in (part.split("=") for part in sys.argv[2:]):
    module, _, constant = name.rpartition(".")
    setattr(importlib.import_module(module), constant, float(value))
from engine.runs.folder import RunFolder
from engine.runs.lives import main
sys.exit(main(RunFolder(Path(sys.argv[1]))))
"""


def made(workspace: Workspace, *overrides: str) -> RunFolder:
    """The folder of a run that nobody supervises yet."""
    settings, plan = workspace.plan(overrides)
    return folders.create(workspace.folder, settings, plan, {}, "test")


def supervise(
    run: RunFolder,
    constants: Mapping[str, float] | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """A real supervisor as a child of the test; `constants` of the engine are changed in it, by their full name."""
    changed = [f"{name}={value}" for name, value in (constants or {}).items()]
    with run.log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _SUPERVISE, str(run.path), *changed],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )


def weights(run: RunFolder) -> str:
    """The hash of a finished run's weights; the header, which names the run, is left out."""
    data = (run.model / "model.safetensors").read_bytes()
    header = int.from_bytes(data[:8], "little")
    return hashlib.sha256(data[8 + header :]).hexdigest()


def events(run: RunFolder) -> dict[str, str]:
    """The text of the newest event of each kind."""
    store = run.open()
    try:
        return {event.kind: event.text for event in store.rows(EventRow)}
    finally:
        store.close()


def steps(run: RunFolder) -> list[int]:
    """The steps that the run keeps a row of."""
    store = run.open()
    try:
        return [row.step for row in store.rows(StepRow, "ORDER BY step")]
    finally:
        store.close()


def newest_step(run: RunFolder) -> int:
    """The highest step that the run keeps a row of; 0 before the first, or while the store cannot be read."""
    try:
        return max(steps(run), default=0)
    except StoreError:
        return 0


def trainer_pid(run: RunFolder) -> int | None:
    """The process that holds the trainer's lock; None while there is none."""
    text = holder(run.trainer_lock)
    return int(text) if text and text.strip().isdigit() else None


def wait_for_trainer(run: RunFolder, other_than: int | None = None) -> int:
    """Wait until there is a trainer, and one with another process id than a former one."""
    found: list[int] = []

    def is_there() -> bool:
        pid = trainer_pid(run)
        found[:] = [pid] if pid is not None and pid != other_than else []
        return bool(found)

    wait_for(is_there, 120, "a trainer")
    return found[0]


def kill(pid: int | None) -> None:
    """SIGKILL; one that is gone already is let be."""
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def check_energy(run: RunFolder, wall_s: float) -> None:
    """What the run used is counted once: its segments do not overlap, and cover no more than the time there was."""
    store = run.open()
    try:
        segments, readings = (
            store.rows(EnergyRow, "ORDER BY segment"),
            store.rows(SensorRow, "ORDER BY elapsed_s"),
        )
    finally:
        store.close()
    assert sum(row.elapsed_s for row in segments) <= wall_s
    assert all(row.covered_s <= row.elapsed_s + 1.0 for row in segments)
    most_watts = max((row.machine_watts or 0.0) for row in readings)
    used_j = sum(row.machine_j or 0.0 for row in segments)
    assert 0 < used_j <= most_watts * wall_s * 1.01
