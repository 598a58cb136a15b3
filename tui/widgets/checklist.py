"""The checklist: one line a step, in order, title dotted to the word of its state, filled in as the verdicts come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, Resize

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
    wrap,
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
_HEAD_FRAC, _LEAST_HEAD_WIDTH = 0.45, 30
"""Most of a line that title and state take before the evidence, and least cells."""
_TAIL_WIDTH = 7
"""Of a time behind the title's dots."""
_SIGNS_WIDTH = 3
"""Of the cursor's sign and of the sign that there is more."""
_TWO_ROWS_FROM = 45
"""Height of the screen from which the evidence of a warning or a failure may take two rows."""


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
        self._rows: list[tuple[int, int]] = []
        """Of each row its step, and whether it is the first one (0) or the second of that step."""
        self._longest = 0
        """Cells of the longest title."""

    def show(self, standing: Standing) -> None:
        """Show another standing; the cursor stays on its step."""
        selected, is_new = self.selected_id, standing.steps != self._standing.steps
        self._standing = standing
        if is_new:
            self._longest = max((length([(fmt.said(step.title), "")]) for step in standing.steps), default=0)
        self._lay_out(selected, is_new=is_new)

    def on_resize(self, event: Resize) -> None:
        """Another width breaks the evidence elsewhere."""
        self._lay_out(self.selected_id, is_new=False)

    def on_click(self, event: Click) -> None:
        """Put the cursor on the step of the row that was clicked."""
        event.prevent_default()
        offset = event.get_content_offset(self)
        if offset is not None and self.top + offset.y < self.num_rows:
            self.select(self._rows[self.top + offset.y][0])

    def _lay_out(self, selected: str | None, *, is_new: bool) -> None:
        """Say which row shows what: a step has one, or one more for its evidence."""
        rows = [
            (index, part)
            for index in range(len(self._standing.steps))
            for part in range(2 if len(self._evidence(index)) > 1 else 1)
        ]
        if rows == self._rows and not is_new:
            self.redraw()
            return
        self._rows = rows
        ids = [step.id for step in self._standing.steps]
        at = rows.index((ids.index(selected), 0)) if selected in ids else 0
        if is_new:
            self.show_anew(at)
        else:
            self.cursor = at
            self.refresh(layout=True)
            self.redraw()

    @property
    def num_rows(self) -> int:
        """A row a step, and the second ones of long evidence."""
        return len(self._rows)

    def can_rest(self, index: int) -> bool:
        """On the first row of a step."""
        return self._rows[index][1] == 0

    @property
    def step_at_cursor(self) -> int:
        """Which step the cursor is on; 0 where there are none."""
        return self._rows[self.cursor][0] if self._rows else 0

    def select(self, step: int) -> None:
        """Put the cursor on a step."""
        self.move_to(self._rows.index((step, 0)))

    @property
    def selected_id(self) -> str | None:
        """The id of the step under the cursor; None where there are no steps yet."""
        return self._standing.steps[self.step_at_cursor].id if self._rows else None

    def _widths(self, width: int) -> tuple[int, int]:
        """Cells of title and state, and of the evidence behind them; 0 where there is no room for any."""
        if width < _EVIDENCE_FROM:
            return width, 0
        wanted = max(_LEAST_HEAD_WIDTH, self._longest + 3 + _TAIL_WIDTH + _STATE_WIDTH + 1)
        head = min(wanted, round(_HEAD_FRAC * width))
        return head, width - head - 2

    def _evidence(self, index: int) -> list[str]:
        """What is said behind the state of a step: one row, or two of a warning or failure on a high screen."""
        check = self._standing.verdicts.get(self._standing.steps[index].id)
        room = self._widths(self.size.width - _SIGNS_WIDTH)[1]
        is_high = self.is_attached and self.screen.size.height >= _TWO_ROWS_FROM
        if not (check and check.status in ("warn", "fail") and room > 0 and is_high):
            return [""]
        return wrap(fmt.said(check.evidence)[: 4 * room], room)

    def draw_row(self, index: int, width: int) -> Line:
        """Title, dots, a time, the state; where there is room, the evidence behind it."""
        step_index, part = self._rows[index]
        step = self._standing.steps[step_index]
        head_width, room = self._widths(width)
        pieces = self._evidence(step_index)
        if part:
            return crop([(" " * (head_width + 2), TEXT), (" ".join(pieces[1:]), TEXT)], width)
        check, before = self._standing.verdicts.get(step.id), self._standing.shown_before(step.id)
        sign, word, style = SIGNS[before.status if before else self._standing.state_of(step.id)]
        title = (
            fmt.said(check.title if check else step.title),
            STRONG if check and check.blocking else TEXT,
        )
        if before:
            title, style = (title[0], MUTED), FAINT
        head = _dotted(title, self._time(step.id, before), head_width)
        line: Line = [*head, (f"{sign} {tr(word)}".ljust(_STATE_WIDTH), style)]
        told = check or self._standing.known.get(step.id)
        if room and told is not None:
            behind = FAINT if check is None else MUTED if told.status in ("pass", "skipped") else TEXT
            evidence = pieces[0] if len(pieces) > 1 else fmt.said(told.evidence)[: 4 * width]
            line += [("  ", TEXT), (evidence, behind)]
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
