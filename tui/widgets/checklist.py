"""The checklist: one line a step, in order, title dotted to the word of its state, filled in as the verdicts come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import (
    BAD,
    BLUE,
    DOUBTFUL,
    FAINT,
    GOOD,
    MUTED,
    ORANGE,
    STRONG,
    TEXT,
    Line,
    crop,
    length,
)
from tui.widgets.pick_list import PickList

if TYPE_CHECKING:
    from engine.records import Check, CheckStep

LAST_STEP = "rehearsal"
"""It begins when all the others are through."""
SIGNS = {
    "pass": ("✓", mark("pass"), GOOD),
    "warn": ("!", mark("warn"), DOUBTFUL),
    "fail": ("✗", mark("FAIL"), BAD),
    "waived": ("~", mark("waived"), ORANGE),
    "skipped": ("–", mark("skipped"), MUTED),
    "running": ("…", mark("running"), BLUE),
    "waiting": ("·", mark("waiting"), FAINT),
    "unknown": ("·", mark("unknown"), FAINT),
}
"""Shape, word and colour of each state: any one of the three tells it."""
_STATE_WIDTH = 9
_EVIDENCE_FROM = 72
"""Width from which the evidence stands behind the state."""
_HEAD_WIDTH = 46


@dataclass(frozen=True)
class Standing:
    """All that the list shows."""

    steps: tuple[CheckStep, ...] = ()
    verdicts: dict[str, Check] = field(default_factory=dict)
    """By the id of their steps: those found since the checks were last begun."""
    known: dict[str, Check] = field(default_factory=dict)
    """Those found before, which stand there in grey until there is news."""
    running_s: float | None = None
    """For how long the checks have been running; None: they are not."""

    def state_of(self, step_id: str) -> str:
        """A key of `SIGNS`."""
        if check := self.verdicts.get(step_id):
            return check.status
        if self.running_s is None:
            return "unknown"
        is_held_up = step_id == LAST_STEP and any(
            step.id not in self.verdicts for step in self.steps if step.id != LAST_STEP
        )
        return "waiting" if is_held_up else "running"

    def shown_before(self, step_id: str) -> Check | None:
        """The verdict of before where it is what the line shows: nothing is newer, or not for a second yet."""
        if step_id in self.verdicts or (self.running_s is not None and self.running_s >= 1):
            return None
        return self.known.get(step_id)


class CheckList(PickList):
    """Steps by their ids; the one under the cursor is what the detail is about."""

    HELP = "The steps in order. j and k or the arrows move, Enter shows the evidence and the remedy at large."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown,ctrl+f", "screen.scroll_detail(1)", "More", show=False, id="checklist.more"),
        Binding("pageup,ctrl+b", "screen.scroll_detail(-1)", "Less", show=False, id="checklist.less"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Checks"), id=id)
        self._standing = Standing()

    def show(self, standing: Standing) -> None:
        """Show another standing; the cursor stays on its step."""
        selected, is_new = self.selected_id, standing.steps != self._standing.steps
        self._standing = standing
        if not is_new:
            self.redraw()
            return
        ids = [step.id for step in standing.steps]
        self.show_anew(ids.index(selected) if selected in ids else 0)

    @property
    def num_rows(self) -> int:
        """A row a step."""
        return len(self._standing.steps)

    @property
    def selected_id(self) -> str | None:
        """The id of the step under the cursor; None where there are no steps yet."""
        return self._standing.steps[self.cursor].id if self._standing.steps else None

    def draw_row(self, index: int, width: int) -> Line:
        """Title, dots, a time, the state; where there is room, the evidence behind it."""
        step = self._standing.steps[index]
        check, before = self._standing.verdicts.get(step.id), self._standing.shown_before(step.id)
        sign, word, style = SIGNS[before.status if before else self._standing.state_of(step.id)]
        is_wide = width >= _EVIDENCE_FROM
        title = (
            fmt.said(check.title if check else step.title),
            STRONG if check and check.blocking else TEXT,
        )
        if before:
            title, style = (title[0], MUTED), FAINT
        head = _dotted(title, self._time(step.id, before), _HEAD_WIDTH if is_wide else width)
        line: Line = [*head, (f"{sign} {tr(word)}".ljust(_STATE_WIDTH), style)]
        told = check or before
        if is_wide and told is not None:
            is_quiet = told.status in ("pass", "skipped")
            behind = FAINT if before else MUTED if is_quiet else TEXT
            line += [("  ", TEXT), (fmt.said(told.evidence)[: 4 * width], behind)]
        return crop(line, width)

    def _time(self, step_id: str, before: Check | None) -> str:
        """The age of a verdict of before, or for how long a check has been running; else empty."""
        if before:
            return "" if before.at is None else short_age(time.time() - before.at)
        running_s = self._standing.running_s
        if running_s is None or running_s < 1 or self._standing.state_of(step_id) != "running":
            return ""
        return f"{running_s:.0f} {tr('s')}"


def _dotted(title: tuple[str, str], told: str, width: int) -> Line:
    """Title, dots and a time, so that the state after them ends at `width`."""
    room = width - _STATE_WIDTH - 1
    tail = f" {told}" if told else ""
    kept = crop([title], room - length([(tail, "")]) - 3)
    dots = "·" * (room - length(kept) - 1 - len(tail))
    return [*kept, (f" {dots}", FAINT), (f"{tail} ", MUTED)]


def short_age(seconds: float) -> str:
    """An age in its largest unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    return " ".join(fmt.duration(max(0.0, seconds)).split()[:2])
