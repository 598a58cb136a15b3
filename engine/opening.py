"""What a viewer opens on, found out without the rest of the engine: the first paint waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from engine.runs.lock import holder

RUNS_NAME, SETTINGS_NAME, LOCK_NAME = "runs", "settings.toml", "supervisor.lock"


class Opening(NamedTuple):
    """Where to begin."""

    mode: str
    """`preflight`: nothing was ever run here; `run`: a run is going; empty: only reading the runs can tell."""
    run_id: str | None = None
    """The run that is going."""


def read_opening(workspace: Path) -> Opening:
    """By the locks that the supervisors hold; where several are held, the run of the newest settings."""
    if not (workspace / SETTINGS_NAME).exists():
        return Opening("")
    try:
        found = [path.parent for path in (workspace / RUNS_NAME).glob(f"*/{LOCK_NAME}")]
        is_empty = not any((workspace / RUNS_NAME).glob("*/run.db"))
        going = [folder for folder in found if holder(folder / LOCK_NAME) is not None]
        newest = max(going, key=lambda folder: (folder / SETTINGS_NAME).stat().st_mtime_ns, default=None)
    except OSError:
        return Opening("")
    if newest is not None:
        return Opening("run", newest.name)
    return Opening("preflight" if is_empty else "")
