"""How a room of the engine is started as a process of its own, and who starts it."""

from __future__ import annotations

import getpass
import os
import socket
import sys


def module_argv(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` with this very interpreter.

    `-P` keeps the current folder off the module path: a workspace that holds a `torch.py` runs none of it.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def who() -> str:
    """Who asks: this user on this machine; a user without a name by the number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
