"""When something is due that happens every so often."""

from __future__ import annotations

import time
from typing import Literal


class Cadence:
    """Every so many seconds; "auto": so many times a run, within bounds."""

    def __init__(
        self, every_s: float | Literal["auto"], *, per_run: int, least_s: float, most_s: float
    ) -> None:
        self._every_s = every_s
        self._per_run = per_run
        self._least_s, self._most_s = least_s, most_s
        self._last_at = time.monotonic()

    def is_due(self, run_s: float | None) -> bool:
        """Whether the time has come; `run_s` is how long the whole run is expected to take, None: not known yet."""
        interval_s = self.interval_s(run_s)
        return interval_s is not None and time.monotonic() - self._last_at >= interval_s

    def interval_s(self, run_s: float | None) -> float | None:
        """Seconds between two times; None while that cannot be told."""
        if self._every_s != "auto":
            return self._every_s
        if run_s is None:
            return None
        return min(max(run_s / self._per_run, self._least_s), self._most_s)

    def done(self) -> None:
        """Count from now."""
        self._last_at = time.monotonic()
