"""The line that says whether a run can start, and exactly what still locks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from engine.records import Check
from tui import format as fmt
from tui.widgets.lines import BAD, BLUE, DOUBTFUL, GOOD, MUTED, TEXT, Line, Lines, wrap

StartState = Literal["idle", "checking", "checked", "starting"]


class StartLine(Lines):
    """Two rows: the word, and what it rests on."""

    DEFAULT_CSS = """
    StartLine { height: 2; padding: 0 2; background: $surface; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []
        self._state: StartState = "idle"
        self._checks: tuple[Check, ...] = ()
        self._trouble = ""
        self._live_run = ""

    def show(self, state: StartState, checks: Sequence[Check], trouble: str, live_run: str) -> None:
        """Show another standing; `trouble` is why checks or start did not work, `live_run` a run that is going."""
        self._state, self._checks, self._trouble, self._live_run = state, tuple(checks), trouble, live_run
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The word first, the rest wrapped behind it."""
        word, style, text = self._standing()
        rows = wrap(text, max(1, width - len(word) - 2))
        if len(rows) > height:
            rows = [*rows[: height - 1], rows[height - 1][: width - len(word) - 3] + "…"]
        pad = " " * (len(word) + 2)
        return [[(word + "  " if index == 0 else pad, style), (row, TEXT)] for index, row in enumerate(rows)]

    def _standing(self) -> tuple[str, str, str]:
        blocking = [check for check in self._checks if check.blocking]
        if self._state == "starting":
            return "… STARTING", BLUE, "The supervisor makes the checks once more; this takes up to a minute."
        if self._state == "checking":
            return (
                "… CHECKING",
                BLUE,
                f"{len(self._checks)} verdicts so far. The start is locked until all are in.",
            )
        if self._trouble:
            return "✗ LOCKED", BAD, f"{self._trouble} r checks again."
        if self._state == "idle":
            if self._live_run:
                text = f"Run {self._live_run} is going; 2 shows it. r makes the checks all the same."
                return "· NOT CHECKED", MUTED, text
            return "· NOT CHECKED", MUTED, "r makes the checks."
        if blocking:
            names = ", ".join(fmt.clean(check.id) for check in blocking)
            verb = "blocks" if len(blocking) == 1 else "block"
            return "✗ LOCKED", BAD, f"{names} {verb} the start. Mend and press r, or select and waive with w."
        waived = [fmt.clean(check.id) for check in self._checks if check.status == "waived"]
        warned = [fmt.clean(check.id) for check in self._checks if check.status == "warn"]
        notes = [
            f"waived: {', '.join(waived)}" if waived else "",
            f"warned: {', '.join(warned)}" if warned else "",
        ]
        told = "; ".join(note for note in notes if note)
        return (
            "✓ UNLOCKED",
            DOUBTFUL if waived else GOOD,
            "Press s to start." + (f" ({told})" if told else ""),
        )
