"""How a room of the engine is started as a process of its own, and whose process it is."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from pathlib import Path

from engine.errors import EngineError


def module_argv(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` with this very interpreter.

    `-P` keeps the current folder off the module path: a workspace that holds a `torch.py` runs none of it.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def user_name() -> str:
    """Who this process runs as; the number where it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def who() -> str:
    """Who asks: this user on this machine."""
    return f"{user_name()}@{socket.gethostname()}"


def workspace_path(folder: Path) -> Path:
    """The folder of a workspace, from its root on.

    Raises: EngineError where `~` is nobody's, where links go in a circle, and where a name is not UTF-8, which
    settings and records could not hold.
    """
    try:
        path = folder.expanduser().absolute()
        path.resolve()
        str(path).encode("utf-8")
    except RuntimeError as error:
        raise EngineError(
            f"{folder}: {error}", "Name it by a path without ~ and without links in a circle."
        ) from error
    except UnicodeEncodeError as error:
        raise EngineError(
            f"The path of the workspace is not UTF-8: {folder}", "Rename the folder, or choose another one."
        ) from error
    return path
