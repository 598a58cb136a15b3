"""Tells the engine that somebody looks at a run, and the app what the run did while nobody did."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from engine.errors import EngineError
from tui.bridge import Bridge
from tui.messages import DigestArrived
from tui.threads import in_thread

if TYPE_CHECKING:
    from tui.app import LlmTui

LOOK_EVERY_S = 60.0
"""A viewer that is killed is remembered to have looked so long before at most."""


class Lookout:
    """At the first sight of a run, and then once a minute."""

    def __init__(self, app: LlmTui, bridge: Bridge) -> None:
        self._app = app
        self._bridge = bridge
        self._looked: dict[str, float] = {}

    def has_seen(self, run_id: str) -> bool:
        """Whether a run was on the screen since the app was opened."""
        return run_id in self._looked

    async def look(self, run_id: str) -> None:
        """Keep this look, unless the last one was a moment ago; post what is news."""
        now_s = time.monotonic()
        if now_s - self._looked.get(run_id, float("-inf")) < 0.9 * LOOK_EVERY_S:
            return
        self._looked[run_id] = now_s
        # A run that cannot be read is told of elsewhere.
        with contextlib.suppress(EngineError, OSError):
            digest = await in_thread(self._bridge.look, run_id)
            if digest is not None:
                self._app.post_message(DigestArrived(digest))
