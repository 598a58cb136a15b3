"""Labels and values in rows, in as many columns as they need and the width gives."""

from __future__ import annotations

from tui.widgets.lines import MUTED, TEXT, Line, crop, length
from tui.widgets.panel import Panel

Fact = tuple[str, str, str]
"""Label, value, and the component class of the value."""


class FactsPanel(Panel):
    """Facts in the order of their weight: where the height runs out, the last are left out."""

    def __init__(
        self, title: str, *, id: str | None = None, help_text: str = "", column_width: int = 24
    ) -> None:
        super().__init__(title, id=id)
        self.help_text = help_text
        self._column_width = column_width
        self._facts: list[Fact] = []

    def show(self, facts: list[Fact]) -> None:
        """Show other facts."""
        self._facts = facts
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The facts, column by column."""
        num_columns = max(1, min(-(-len(self._facts) // max(1, height)), width // self._column_width))
        column_width = (width - 2 * (num_columns - 1)) // num_columns
        rows: list[Line] = [[] for _ in range(height)]
        label_width = max((len(label) for label, _, _ in self._facts), default=0) + 2
        for index, (label, value, style) in enumerate(self._facts[: num_columns * height]):
            cell = crop([(label.ljust(label_width), MUTED), (value, style)], column_width)
            row = rows[index % height]
            if index >= height:
                row.append(("  ", TEXT))
            rows[index % height] = [*row, *cell, (" " * (column_width - length(cell)), TEXT)]
        return rows
