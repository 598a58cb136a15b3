"""Whose a run is: its folder is its owner's alone, and nobody else commands it or has it train.

Who may write into the folder of a run may stop it, and decides what its trainer loads. The folder is made for its
owner alone; one that was copied or unpacked with wider permissions is closed again before a supervisor works in it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from engine.errors import EngineError

_OTHERS = 0o077


def require_own(folder: Path) -> None:
    """Raise EngineError unless the folder is this user's; root, whom nothing keeps out, may command every run."""
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        raise EngineError(f"{folder} cannot be looked at: {error}", "Look whose it is: ls -ld.") from error
    if os.geteuid() not in (0, owner):
        raise EngineError(
            f"The run {folder.name} is another user's (number {owner}).",
            "Only its own user can control it; look at it as you like.",
        )


def close_to_others(folder: Path) -> None:
    """Take everybody else's permissions off a folder; a file system that keeps none, as FAT, stays as it is."""
    mode = folder.stat().st_mode
    if mode & _OTHERS:
        with contextlib.suppress(OSError):
            folder.chmod(mode & 0o7777 & ~_OTHERS)
