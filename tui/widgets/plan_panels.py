"""The plan of a run in three panels: memory by its parts, what it takes, and here against the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.bill import BreakEven, Move
from tui import format as fmt
from tui.language import tr
from tui.plan_text import by_cost, hours_range, move_facts, offer_cells, verdict_of
from tui.widgets.cut_panel import CutPanel
from tui.widgets.lines import (
    BAD,
    BLUE,
    DOUBTFUL,
    ESTIMATE,
    FAINT,
    GOOD,
    MUTED,
    STRONG,
    TEXT,
    Line,
    crop,
    length,
    wrap,
)
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from engine.estimate import Estimate, MemoryEstimate

_NAME_WIDTH, _SIZE_WIDTH = 12, 9
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(frac: float, width: int) -> str:
    """A bar of at most `width` cells; what is more than nothing is seen."""
    eighths = round(min(1.0, max(0.0, frac)) * width * 8)
    if frac > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


class MemoryPanel(Panel):
    """Memory by its parts, each as a bar of what is free on the device."""

    HELP = "What the training will hold, part by part, against the memory that is free on its device now."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Memory"), id=id)
        self._memory: MemoryEstimate | None = None

    def show(self, memory: MemoryEstimate) -> None:
        """Show another plan."""
        self._memory = memory
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The verdict, the sum, then the parts, largest first where not all fit."""
        memory = self._memory
        if memory is None:
            return []
        scale = memory.free_bytes or memory.total_bytes
        bar_width = max(4, width - _NAME_WIDTH - _SIZE_WIDTH - 2)
        word, style = {
            True: (tr("✓ fits"), GOOD),
            False: (tr("✗ does not fit"), BAD),
            None: (tr("? unknown"), ESTIMATE),
        }[memory.fits]
        free = (
            tr("free memory unknown")
            if memory.free_bytes is None
            else tr("{free_bytes} free", free_bytes=fmt.size(memory.free_bytes))
        )
        lines: list[Line] = [
            [
                (word, style),
                (tr("  {free}, batch {micro_batch}", free=free, micro_batch=memory.micro_batch), MUTED),
            ],
            _bar_line(tr("in all"), memory.total_bytes, scale, bar_width, STRONG),
        ]
        if memory.recomputed_text:
            lines.append([(fmt.said(memory.recomputed_text), MUTED)])
        parts = sorted(memory.parts.items(), key=lambda part: -part[1])
        room = max(1, height - len(lines))
        if len(parts) > room:
            rest = parts[room - 1 :]
            parts = [
                *parts[: room - 1],
                (tr("and {num} more", num=len(rest)), sum(num_bytes for _, num_bytes in rest)),
            ]
        lines += [_bar_line(tr(name), num_bytes, scale, bar_width, BLUE) for name, num_bytes in parts]
        if len(lines) < height:
            budget = fmt.size(memory.budget_bytes)
            lines.append([(tr("allowed").ljust(_NAME_WIDTH), MUTED), (budget.rjust(_SIZE_WIDTH), TEXT)])
        if len(lines) < height:
            lines.append([(tr("on "), MUTED), (fmt.clean(memory.device), TEXT)])
        return [crop(line, width) for line in lines]


def _bar_line(name: str, num_bytes: int, scale: int, width: int, style: str) -> Line:
    shown = bar(num_bytes / scale if scale else 0.0, width)
    return [
        (name.ljust(_NAME_WIDTH), MUTED),
        (fmt.size(num_bytes).rjust(_SIZE_WIDTH), TEXT),
        ("  ", TEXT),
        (shown, style),
    ]


class ForecastPanel(CutPanel):
    """Hours, energy, money and disk, each with what it rests on."""

    HELP = "What the run takes: its hours as a range, kilowatt-hours, money and disk, each with its basis."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("What it takes"), id=id)
        self._estimate: Estimate | None = None

    def show(self, estimate: Estimate) -> None:
        """Show another plan."""
        self._estimate = estimate
        self.redraw()

    def whole(self, width: int, height: int) -> list[Line]:
        """The figures first, then their bases."""
        found = self._estimate
        if found is None:
            return []
        energy, cost, storage = found.energy, found.cost, found.storage
        is_measured = found.time.source in ("rehearsal", "earlier run")
        source = tr("measured") if is_measured else tr(found.time.source)
        rows: list[tuple[str, str, str]] = [
            *_time_rows(found, width - 8),
            (
                "",
                tr("{tokens} tokens, {source}", tokens=fmt.count(found.time.tokens), source=source),
                TEXT if is_measured else ESTIMATE,
            ),
            (
                tr("energy"),
                tr("{kwh} machine, {gpu_kwh} GPU", kwh=fmt.kwh(energy.kwh), gpu_kwh=fmt.kwh(energy.gpu_kwh)),
                TEXT,
            ),
            (tr("money"), _money(found), STRONG),
            (tr("of it"), f"GPU {fmt.money(cost.gpu, cost.currency)}; {fmt.said(cost.tariff)}", TEXT),
            (
                tr("disk"),
                tr(
                    "{end_bytes}, at its peak {total_bytes}",
                    end_bytes=fmt.size(storage.end_bytes),
                    total_bytes=fmt.size(storage.total_bytes),
                ),
                TEXT,
            ),
        ]
        if storage.usd_per_month is not None:
            month = fmt.money(storage.usd_per_month, "USD")
            rows.append(("", tr("a month of it in the cloud {month}", month=month), TEXT))
        lines: list[Line] = [[(label.ljust(8), MUTED), (text, style)] for label, text, style in rows]
        for label, basis in (
            (tr("time"), found.time.basis),
            (tr("watts"), energy.basis),
            (tr("disk"), storage.basis),
        ):
            for index, row in enumerate(wrap(fmt.said(basis), max(1, width - 8))):
                lines.append([((label if index == 0 else "").ljust(8), FAINT), (row, FAINT)])
        return [crop(line, width) for line in lines]


def _time_rows(found: Estimate, width: int) -> list[tuple[str, str, str]]:
    """The hours with their range, which has a row of its own where both are too long for one."""
    whole, hours = hours_range(found), fmt.hours(found.time.hours)
    if len(whole) <= width or not whole.startswith(hours):
        return [(tr("time"), whole, STRONG)]
    return [(tr("time"), hours, STRONG), ("", whole[len(hours) :].strip(), TEXT)]


def _money(found: Estimate) -> str:
    cost = found.cost
    shown = fmt.money(cost.local, cost.currency)
    if cost.local_low is None or cost.local_high is None:
        return shown
    low, high = fmt.money(cost.local_low, cost.currency), fmt.money(cost.local_high, cost.currency)
    return tr(
        "{shown} ({low} to {high})",
        shown=shown,
        low=low.removesuffix(f" {cost.currency}"),
        high=high.removesuffix(f" {cost.currency}"),
    )


class BreakEvenPanel(CutPanel):
    """Where this machine and the cloud swap places; in mid-run, whether to finish here or to move."""

    HELP = (
        "Electricity here against rent there: the tariff and the hours at which both cost the same. With a run going: "
        "what is spent stands apart, since it is gone either way; only what is left is compared."
    )
    is_meant_by_z = True

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Here or in the cloud"), id=id)
        self._even: tuple[BreakEven, ...] = ()
        self._move: Move | None = None
        self._hours: float | None = None
        self._problem = ""

    def show(
        self, even: tuple[BreakEven, ...], move: Move | None, hours: float | None, problem: str = ""
    ) -> None:
        """Show another comparison; `move` is that of the run that is going, `problem` why there are no offers.

        `hours` are those that it takes here.
        """
        self._even, self._move, self._hours, self._problem = even, move, hours, problem
        self.border_title = tr("Finish here, or move now") if move else tr("Here or in the cloud")
        self.redraw()

    def whole(self, width: int, height: int) -> list[Line]:
        """What comes out, the offers in columns, the cheapest first; in mid-run what is left and what is spent."""
        is_move = self._move is not None
        verdict = verdict_of(self._even, self._hours, is_move=is_move)
        lines: list[Line] = []
        if self._problem:
            lines += _wrapped(self._problem, width, ESTIMATE)
        if verdict is not None:
            style = {True: GOOD, False: DOUBTFUL, None: ESTIMATE}[verdict.is_here]
            room = width - len(verdict.head)
            rest = next((rest for rest in verdict.rests if len(rest) <= room), verdict.rests[-1])
            if len(verdict.head) + len(rest) <= width:
                lines.append([(verdict.head, style), (rest, TEXT)])
            else:
                lines += _wrapped(verdict.head + rest, width, style)
        elif not self._problem:
            lines += _wrapped(tr("No offer has hours for this run."), width, TEXT)
        lines += _columns([offer_cells(even, is_move=is_move) for even in by_cost(self._even)], width)
        for text in move_facts(self._move) if self._move else ():
            lines += _wrapped(text, width, MUTED)
        return lines


def _wrapped(text: str, width: int, style: str) -> list[Line]:
    return [[(row, style)] for row in wrap(fmt.said(text), max(1, width))]


def _columns(rows: Sequence[tuple[str, str, str, str, str]], width: int) -> list[Line]:
    """Offers under each other; the last column is left out where it does not fit."""
    if not rows:
        return []
    name_width, cost_width, differs_width = (max(len(row[index]) for row in rows) for index in range(3))
    lines: list[Line] = []
    for name, cost, differs, equal, by_hours in rows:
        lines.append(
            [
                (name.ljust(name_width + 2), MUTED),
                (cost.rjust(cost_width) + "  ", TEXT),
                (differs.rjust(differs_width) + "  ", TEXT),
                (equal, MUTED),
                (by_hours, MUTED),
            ]
        )
    if any(length(line) > width for line in lines):
        lines = [line[:-1] for line in lines]
    return [crop(line, width) for line in lines]
