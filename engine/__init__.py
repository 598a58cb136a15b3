"""The works of llm-tui: training, telemetry, ledger, preflight and runs. No terminal, no printing.

The names below are the front door; each is imported when it is first asked for, so that a viewer opens at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.errors import BlockedError as BlockedError
    from engine.errors import EngineError as EngineError
    from engine.errors import ExitCode as ExitCode
    from engine.runs.client import Workspace as Workspace

_WHERE = {
    "BlockedError": "engine.errors",
    "EngineError": "engine.errors",
    "ExitCode": "engine.errors",
    "Workspace": "engine.runs.client",
}

__all__ = ["BlockedError", "EngineError", "ExitCode", "Workspace"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _WHERE:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
