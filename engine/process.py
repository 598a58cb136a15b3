"""How a room of the engine is started as a process of its own."""

from __future__ import annotations

import sys


def module_argv(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` with this very interpreter.

    `-P` keeps the current folder off the module path: a workspace that holds a `torch.py` runs none of it.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
