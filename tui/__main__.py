"""`llm-tui` and `python -m tui`: the app at once where nothing else is asked for, else the command line."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from engine.errors import EngineError
from tui.streams import guard_streams, has_terminal

ESCAPE_MS = 50
"""How long to wait whether a sequence follows an escape; as long as Neovim does, half of what Textual does."""


def main() -> None:
    """Begin; without a word the command line, whose parsing costs a tenth of the first paint, is not even read."""
    os.environ.setdefault("ESCDELAY", str(ESCAPE_MS))  # read once, when Textual is imported
    guard_streams()
    if len(sys.argv) == 1 and has_terminal():
        from tui.app import open_app

        # What keeps the app from opening, the command line meets as well, and tells.
        with contextlib.suppress(EngineError):
            sys.exit(open_app(Path()))
    from tui.cli import main as command_line

    command_line(prog_name="llm-tui")


if __name__ == "__main__":
    main()
