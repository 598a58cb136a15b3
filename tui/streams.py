"""The standard streams of the command line: all three are there, and nothing that a terminal obeys goes through them.

A closed stream would hand its number to the next file that is opened, and a message would be written into that one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from tui.format import clean


def guard_streams() -> None:
    """Put an empty stream where one is closed, and clean what is printed; a second call does nothing."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0)
    if not isinstance(sys.stdout, _Cleaned):
        sys.stdout = _Cleaned(sys.stdout or os.fdopen(1, "w"))
    if not isinstance(sys.stderr, _Cleaned):
        sys.stderr = _Cleaned(sys.stderr or os.fdopen(2, "w"))


class _Cleaned:
    """A text stream whose text is harmless, in whatever encoding it is."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write, cleaned."""
        self._stream.write(clean(text, keep_newlines=True))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each, cleaned."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def has_terminal() -> bool:
    """Whether the app can be shown; under `llm-tui web` the browser is its terminal."""
    if os.environ.get("TEXTUAL_DRIVER"):
        return True
    is_there = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return is_there and os.environ.get("TERM", "dumb") != "dumb"
