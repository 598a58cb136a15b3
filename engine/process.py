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


def user_name() -> str:
    """This user's name; the number where there is no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def who() -> str:
    """Who asks: this user on this machine."""
    return f"{user_name()}@{socket.gethostname()}"
