"""How far a preparation is, told a few times a second however often it is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from engine.corpus.manifest import Progress

_INTERVAL_S = 0.25
_MIN_RATE_S = 0.1


class Meter:
    """Counts the bytes of one phase after the other."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._phase = ""
        self._kind: Literal["tokenizer", "tokens"] = "tokenizer"
        self._total_bytes: int | None = None
        self._done_bytes = 0
        self._skipped_bytes = 0
        self._began_s = 0.0
        self._told_s = 0.0

    def begin(self, phase: str, kind: Literal["tokenizer", "tokens"], total_bytes: int | None = None) -> None:
        """Begin a phase from 0; `total_bytes` None where it is not measured in bytes. It is told at once."""
        self._phase, self._kind, self._total_bytes = phase, kind, total_bytes
        self._done_bytes = self._skipped_bytes = 0
        self._began_s = time.monotonic()
        self._tell()

    def advance(self, num_bytes: int) -> None:
        """Count bytes, 0 for a mere sign of life; told when the last time is a quarter of a second ago."""
        self._done_bytes += num_bytes
        if time.monotonic() - self._told_s >= _INTERVAL_S:
            self._tell()

    def skip(self, num_bytes: int) -> None:
        """Count bytes that an earlier build has done: they say nothing of the rate."""
        self._skipped_bytes += num_bytes
        self.advance(num_bytes)

    def end(self) -> None:
        """Tell how the phase ended."""
        self._tell()

    def _tell(self) -> None:
        self._told_s = time.monotonic()
        elapsed_s = self._told_s - self._began_s
        self._on_progress(
            Progress(
                phase=self._phase,
                kind=self._kind,
                done_bytes=self._done_bytes,
                total_bytes=self._total_bytes,
                bytes_per_s=(self._done_bytes - self._skipped_bytes) / elapsed_s
                if elapsed_s >= _MIN_RATE_S
                else None,
            )
        )
