"""The batch ramp as it happens: a row a size, with its speed, its memory, and what is left of it."""

from __future__ import annotations

from engine.records import RampRow
from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import BLUE, DOUBTFUL, FAINT, MUTED, STRONG, TEXT, Line
from tui.widgets.panel import Panel

_WORDS = {
    "trying": (mark("trying …"), BLUE),
    "proven": (mark("works"), TEXT),
    "slower": (mark("slower"), MUTED),
    "over-budget": (mark("no margin"), DOUBTFUL),
    "out-of-memory": (mark("no room"), DOUBTFUL),
    "failed": (mark("failed"), DOUBTFUL),
    "killed": (mark("died"), DOUBTFUL),
    "stopped": (mark("stopped"), MUTED),
}
_HEAD = mark("  batch  tokens/s     memory      spare  ")
_LEAST_BAR = 8
"""Cells from which a bar of the speed is drawn."""
_STATE_CELLS = 10


class RampPanel(Panel):
    """The sizes that were tried so far; it stands in the chart's place until the training begins."""

    HELP = (
        "How many sequences are computed at a time is found out on the device itself: from one upwards, until memory "
        "is short or it gets slower. Each size does real steps, an evaluation, a save and a load. The fastest that "
        "leaves a margin is taken, not the largest; the tokens of a step stay the same. The result is remembered."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Finding the batch size"), id=id)
        self._rows: tuple[RampRow, ...] = ()

    def show(self, rows: tuple[RampRow, ...]) -> None:
        """Show other sizes, ascending."""
        if rows != self._rows:
            self._rows = rows
            self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """A heading and a row a size, the newest where there is no room for all."""
        head = tr(_HEAD)
        bar_cells = width - len(head) - _STATE_CELLS - 1
        has_bar = bar_cells >= _LEAST_BAR
        fastest = max((row.tokens_per_s or 0.0 for row in self._rows), default=0.0)
        shown = self._rows[-max(1, height - 1) :]
        heading = head + tr("result").ljust(_STATE_CELLS) + (f" {tr('speed')}" if has_bar else "")
        lines: list[Line] = [[(heading.rstrip(), MUTED)]]
        for row in shown:
            word, style = _WORDS.get(row.state, (row.state, TEXT))
            word, style = (tr("chosen"), STRONG) if row.is_chosen else (tr(word), style)
            is_best = bool(fastest) and row.tokens_per_s == fastest
            line: Line = [
                (_figures(row), STRONG if row.is_chosen or is_best else TEXT),
                (f"{word:<{_STATE_CELLS}}", style),
            ]
            if has_bar and row.tokens_per_s and fastest:
                cells = round(bar_cells * row.tokens_per_s / fastest)
                line += [(" " + "━" * cells, BLUE), ("━" * (bar_cells - cells), FAINT)]
            lines.append(line)
        notes = [row for row in shown if row.note]
        if notes and len(lines) < height:
            lines.append([(fmt.said(notes[-1].note), MUTED)])
        return lines


def _figures(row: RampRow) -> str:
    spare = None
    if row.budget_bytes is not None and row.memory_bytes is not None:
        spare = row.budget_bytes - row.memory_bytes
    batch = f"{row.micro_batch}" + (f"+{row.num_recomputed_blocks}r" if row.num_recomputed_blocks else "")
    sign = "▸" if row.is_chosen else " "
    speed, memory = fmt.count(row.tokens_per_s), fmt.size(row.memory_bytes)
    return f"{sign}{batch:>6}  {speed:>8}  {memory:>9}  {fmt.size(spare):>9}  "
