"""What became of a process that ended badly: its last words, and whether the kernel killed it for want of memory."""

from __future__ import annotations

import signal
from pathlib import Path

from engine.runs.child import how_it_ended
from engine.telemetry.host import num_oom_kills

_TAIL_BYTES = 16_384
_MOST_WORDS = 300
_TRACEBACK = "Traceback (most recent call last):"


class Autopsy:
    """To be made before a process starts whose output is appended to `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._begin_bytes = _size(log)
        self._num_oom_kills = num_oom_kills()

    def verdict(self, exit_code: int) -> str:
        """How it ended, and why as far as that is known: "exit code 1 (RuntimeError: CUDA error: …)"."""
        how = how_it_ended(exit_code)
        if exit_code == -signal.SIGKILL and self._is_oom_killed():
            return f"{how}: the kernel killed it, because the machine or its control group ran out of memory"
        words = self._last_words()
        return f"{how} ({words})" if words else how

    def _is_oom_killed(self) -> bool:
        """Whether the kernel killed anything for want of memory meanwhile; False where it does not tell."""
        now = num_oom_kills()
        return now is not None and self._num_oom_kills is not None and now > self._num_oom_kills

    def _last_words(self) -> str:
        """The line that names the exception of the last traceback, else the last two; raw text, and shortened.

        Where there is no traceback, what ended it is an EngineError: a line of what is wrong, a line of the remedy.
        """
        lines = [line for line in self._tail().splitlines() if line.strip()]
        if _TRACEBACK in lines:
            behind = lines[len(lines) - lines[::-1].index(_TRACEBACK) :]
            lines = [line for line in behind if not line.startswith((" ", "\t"))][:1] or lines
        return " ".join(line.strip() for line in lines[-2:])[:_MOST_WORDS]

    def _tail(self) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(max(self._begin_bytes, _size(self._log) - _TAIL_BYTES))
                return file.read(_TAIL_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
