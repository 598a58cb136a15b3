"""What a run of the settings takes, and what changes that are not saved yet make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from textual.geometry import Size

from tui import format as fmt
from tui.language import tr
from tui.plan_text import hours_range
from tui.widgets.lines import BAD, DOUBTFUL, GOOD, MUTED, STRONG, TEXT, Line, crop, length, wrap
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from engine.estimate import Estimate


class EffectPanel(Panel):
    """Memory, hours, energy, money and disk, before and after."""

    HELP = "What a run would take with what is on the disk, and with the changes that are not saved yet."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("What a run of these takes"), id=id)
        self._before: Estimate | None = None
        self._after: Estimate | None = None
        self._note = ""
        self._is_bad = False

    def show(self, before: Estimate | None, after: Estimate | None, note: str, *, is_bad: bool) -> None:
        """Show an estimate, and another beside it; `note` stands above them, as a problem where `is_bad`."""
        self._before, self._after, self._note, self._is_bad = before, after, note, is_bad
        self.redraw()
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Where it may be as high as it needs, it has the facts one behind the other."""
        num_facts = len(_flowing(_facts(self._before, self._after), width)) if self._before else 0
        return num_facts + len(self._noted(width))

    def _noted(self, width: int) -> list[Line]:
        if not self._note:
            return []
        style, text = BAD if self._is_bad else MUTED, fmt.said(self._note, keep_newlines=True)
        sign = "✗ " if self._is_bad else ""
        return [
            [(sign if n == 0 else "", style), (row, style)]
            for n, row in enumerate(wrap(text, max(1, width - 2)))
        ]

    def draw(self, width: int, height: int) -> list[Line]:
        """A row a resource, the range of the time below it; one behind the other where the height is short."""
        lines = self._noted(width)
        if self._before is not None:
            facts = _facts(self._before, self._after)
            label_width = max(len(fact.label) for fact in facts) + 2
            one_each = [
                [(" " * label_width if n else fact.label.ljust(label_width), MUTED), *row]
                for fact in facts
                for n, row in enumerate(fact.rows(width - label_width))
            ]
            room = height - len(lines)
            lines += one_each if len(one_each) <= room else _flowing(facts, width)
        return [crop(line, width) for line in lines[:height]]


class _Fact(NamedTuple):
    """One resource, its value before and after the changes, and what is less weighty about it."""

    label: str
    value: Line
    more: Line

    def rows(self, width: int) -> list[Line]:
        """In one row where it fits, else in two."""
        whole: Line = [*self.value, (" ", MUTED), *self.more]
        if not self.more:
            return [self.value]
        return [whole] if length(whole) <= width else [self.value, self.more]


def _flowing(facts: list[_Fact], width: int) -> list[Line]:
    """The facts one behind the other, as many to a row as fit."""
    lines: list[Line] = [[]]
    for fact in facts:
        piece: Line = [(f"{fact.label} ", MUTED), *fact.value]
        if lines[-1] and length(lines[-1]) + 3 + length(piece) > width:
            lines.append([])
        lines[-1] += [("   " if lines[-1] else "", TEXT), *piece]
    return lines


Writer = Callable[["Estimate"], str]


def _facts(before: Estimate, after: Estimate | None) -> list[_Fact]:
    """The weightiest first."""

    def fact(label: str, write: Writer, better: bool | None = None, more: Writer | None = None) -> _Fact:
        old, new = write(before), write(after or before)
        extra = more(after or before) if more else ""
        if old == new:
            return _Fact(label, [(old, TEXT)], [(extra, MUTED)] if extra else [])
        style = {True: GOOD, False: DOUBTFUL, None: STRONG}[better]
        return _Fact(label, [(old, MUTED), (" → ", MUTED), (new, style)], [(extra, style)] if extra else [])

    def memory(found: Estimate) -> str:
        return fmt.size(found.memory.total_bytes)

    def fits(found: Estimate) -> str:
        word = {True: tr("✓ fits"), False: tr("✗ does not fit"), None: tr("? unknown whether it fits")}
        return word[found.memory.fits]

    def hours(found: Estimate) -> str:
        return fmt.hours(found.time.hours)

    does_not_fit = after is not None and after.memory.fits is False
    space = fact(tr("memory"), memory, False if does_not_fit else None)
    shown = (after or before).memory.fits
    verdict = (f" {fits(after or before)}", BAD if shown is False else TEXT)
    return [
        space._replace(value=[*space.value, verdict]),
        fact(
            tr("time"),
            hours,
            _less(before, after, "time", "hours"),
            lambda found: hours_range(found).removeprefix(hours(found)).strip(),
        ),
        fact(tr("energy"), lambda found: fmt.kwh(found.energy.kwh), _less(before, after, "energy", "kwh")),
        fact(
            tr("cost"),
            lambda found: fmt.money(found.cost.local, found.cost.currency),
            _less(before, after, "cost", "local"),
        ),
        fact(tr("tokens"), lambda found: fmt.count(found.time.tokens)),
        fact(
            tr("disk"),
            lambda found: fmt.size(found.storage.total_bytes),
            _less(before, after, "storage", "total_bytes"),
        ),
        fact(
            tr("model"),
            lambda found: tr("{parameters} parameters", parameters=fmt.count(found.model.parameters)),
        ),
        fact(tr("batch"), lambda found: tr("{micro_batch} at a time", micro_batch=found.memory.micro_batch)),
    ]


def _less(before: Estimate, after: Estimate | None, part: str, name: str) -> bool | None:
    """Whether a figure becomes smaller; None where that cannot be told."""
    if after is None:
        return None
    old, new = getattr(getattr(before, part), name), getattr(getattr(after, part), name)
    return None if old is None or new is None else new < old
