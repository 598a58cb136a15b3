"""How long a trainer has given no sign of life."""

from __future__ import annotations

import contextlib
import time

from engine.errors import StoreError
from engine.runs.store import RunStore
from engine.telemetry.process import cpu_s

MOST_BEAT_S = 2.0
"""Who asks only after longer was held up, as the trainer may have been: only so much of it counts."""


class Silence:
    """To be asked about once a second; what nobody asked for, as while the whole machine stood still, is no silence."""

    def __init__(self, store: RunStore, pid: int) -> None:
        self._store, self._pid = store, pid
        self._sign: object = None
        self._silent_s = 0.0
        self._asked_s = time.monotonic()

    def lasts_s(self) -> float:
        """Seconds since the last sign of life."""
        now_s = time.monotonic()
        self._silent_s += min(now_s - self._asked_s, MOST_BEAT_S)
        self._asked_s = now_s
        sign = self._newest_sign()
        if sign != self._sign:
            self._sign, self._silent_s = sign, 0.0
        return self._silent_s

    def _newest_sign(self) -> object:
        """Its heartbeat; while nobody can write that, being locked or full, the processor time that it uses."""
        heartbeat = None
        with contextlib.suppress(StoreError):
            heartbeat = self._store.heartbeat("trainer")
        used_s = cpu_s(self._pid) if self._store.is_stalled else None
        return heartbeat.at if heartbeat else None, used_s
