"""Calls a person who looks at another window: the terminal's bell, and a notification of the terminal's own (OSC 9).

What the run tells where nobody is attached is `engine/runs/news.py`. Source of OSC 9:
iterm2.com/documentation-escape-codes, "Post a notification"; kitty, WezTerm, Ghostty and others take it too, and a
terminal that does not ignores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui import format as fmt
from tui.language import told, tr
from tui.verbs import state_word

if TYPE_CHECKING:
    from textual.app import App

    from engine.records import EventRow, RunState

CALLING = frozenset(
    ("restart", "frozen", "stalled", "too-hot", "too-hot-blind", "limit", "checkpoint-failed")
)
"""Kinds of events that are worth a call; the end of a run always is."""
_MOST_CHARACTERS = 200


class Herald:
    """What was seen of each run, so that only what is new calls."""

    def __init__(self, app: App[str | None]) -> None:
        self._app = app
        self._states: dict[str, RunState] = {}
        self._told_at: dict[str, float] = {}

    def see(self, run_id: str, state: RunState, reason: str = "", events: Sequence[EventRow] = ()) -> None:
        """Take note of how a run stands; what had happened before the first look calls nobody."""
        before = self._states.get(run_id)
        if before is not None and state.is_over and not before.is_over:
            self._call(
                tr(
                    "run {run_id} is {state}. {reason}",
                    run_id=run_id,
                    state=state_word(state),
                    reason=told(reason),
                )
            )
        self._states[run_id] = state
        newest_at = max((row.at for row in events), default=0.0)
        told_at = self._told_at.get(run_id)
        if told_at is not None:
            for row in events:
                if row.at > told_at and row.kind in CALLING:
                    self._call(told(row.text))
        if events or told_at is not None:
            self._told_at[run_id] = max(newest_at, told_at or 0.0)

    def _call(self, text: str) -> None:
        self._app.bell()
        driver = self._app._driver  # Textual has no public way to write a sequence of one's own (8.2)
        if driver is not None and not self._app.is_headless:
            driver.write(f"\x1b]9;llm-tui: {fmt.clean(text)[:_MOST_CHARACTERS]}\x07")
