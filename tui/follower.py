"""Reads what is on the screen, once a second or two, in a thread, and tells the app what it found."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from engine.errors import EngineError
from tui.bridge import Bridge
from tui.messages import RunsArrived, SnapshotArrived, SnapshotFailed
from tui.threads import in_thread

if TYPE_CHECKING:
    from tui.app import LlmTui

RUN_INTERVAL_S = 1.0
LIST_INTERVAL_S = 2.0
MOST_FRAC = 0.005
"""Of a core; where reading and drawing would take more, they come less often: training may need every core."""
SLOWEST = 3.0
"""Times the interval, at most."""


class Pace:
    """How often to read, so that what a viewer takes of the processor stays small on a slow machine too."""

    def __init__(self) -> None:
        # The least of three: keys that are pressed now and then make it no slower.
        self._recent: deque[float] = deque(maxlen=3)
        self._counted_s = time.process_time()

    def wait_s(self, least_s: float) -> float:
        """Seconds until the next reading, at least `least_s`, by the processor time used since the last call."""
        used_s = time.process_time()
        self._recent.append(used_s - self._counted_s)
        self._counted_s = used_s
        return min(max(least_s, min(self._recent) / MOST_FRAC), SLOWEST * least_s)


class Follower:
    """One loop for the whole app: the followed run on its screen, elsewhere the list of runs."""

    def __init__(self, app: LlmTui, bridge: Bridge) -> None:
        self._app = app
        self._bridge = bridge
        self._wake = asyncio.Event()
        self._pace = Pace()

    def wake(self) -> None:
        """Read at once: the screen, the run or its state has changed."""
        self._wake.set()

    async def follow(self) -> None:
        """Read until cancelled; one reading ends before the next begins, so that they never pile up."""
        while True:
            is_run_shown = self._app.current_mode == "run" and self._app.followed_id is not None
            if is_run_shown:
                await self._read_run(self._app.followed_id or "")
            else:
                await self._read_list()
            wait_s = self._pace.wait_s(RUN_INTERVAL_S if is_run_shown else LIST_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _read_run(self, run_id: str) -> None:
        try:
            from engine.records import TimeSpan

            span = self._app.span or TimeSpan()
            snapshot = await in_thread(self._bridge.snapshot, run_id, span, self._app.size.width)
        except (EngineError, OSError) as error:
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self._app.post_message(SnapshotFailed(run_id, title, remedy))
        else:
            self._app.post_message(SnapshotArrived(run_id, snapshot))

    async def _read_list(self) -> None:
        # A list that cannot be read now is read again in two seconds; the old one stands meanwhile.
        with contextlib.suppress(EngineError, OSError):
            runs = await in_thread(self._bridge.runs)
            damaged = await in_thread(self._bridge.damaged_runs, [run.id for run in runs])
            self._app.post_message(RunsArrived(runs, damaged))
