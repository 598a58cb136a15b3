"""Whether there is a terminal to draw on."""

from __future__ import annotations

import os
import sys


def has_terminal() -> bool:
    """Whether the app can be shown; under `llm-tui web` the browser is its terminal."""
    if os.environ.get("TEXTUAL_DRIVER"):
        return True
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
