"""A table of records that is changed where they changed, row by row key and cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import DataTable

Record = TypeVar("Record")

WIDE_FROM = 100
"""Width from which the columns for wide tables are shown."""


@dataclass(frozen=True)
class Column(Generic[Record]):
    """One column: its heading and how a record's cell is written."""

    label: str
    cell: Callable[[Record], str]
    """Text that is safe to show: outside text cleaned."""
    is_number: bool = False
    is_for_wide: bool = False


class RecordTable(DataTable[Text], Generic[Record]):
    """Records by their keys, in the order given."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False, id="table.down"),
        Binding("k", "cursor_up", "Up", show=False, id="table.up"),
    ]

    def __init__(self, columns: tuple[Column[Record], ...], *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True, cell_padding=1)
        self._all_columns = columns
        self._shown_columns: tuple[Column[Record], ...] = ()
        self._records: dict[str, Record] = {}
        self._cells: dict[str, list[str]] = {}

    @property
    def selected(self) -> Record | None:
        """The record under the cursor."""
        keys = list(self._records)
        return self._records[keys[self.cursor_row]] if 0 <= self.cursor_row < len(keys) else None

    def show(self, records: Mapping[str, Record]) -> None:
        """Show other records; the cursor stays on its record."""
        self._records = dict(records)
        if not self._shown_columns:
            return
        cells = {
            key: [column.cell(record) for column in self._shown_columns]
            for key, record in self._records.items()
        }
        if list(cells) != list(self._cells):
            self._fill(cells)
            return
        for key, row in cells.items():
            for index, (old, new) in enumerate(zip(self._cells[key], row, strict=True)):
                if old != new:
                    self.update_cell(
                        key, str(index), self._text(index, new), update_width=len(new) > len(old)
                    )
        self._cells = cells

    def _fill(self, cells: dict[str, list[str]]) -> None:
        old_keys, row = list(self._cells), self.cursor_row
        selected = old_keys[row] if 0 <= row < len(old_keys) else None
        self.clear()
        for key, texts in cells.items():
            self.add_row(*(self._text(index, text) for index, text in enumerate(texts)), key=key)
        self._cells = cells
        if selected in cells:
            self.move_cursor(row=list(cells).index(selected), animate=False)

    def _text(self, index: int, text: str) -> Text:
        return Text(text, justify="right" if self._shown_columns[index].is_number else "left", no_wrap=True)

    def on_resize(self, event: Resize) -> None:
        """Show the columns that the width has room for."""
        columns = tuple(c for c in self._all_columns if event.size.width >= WIDE_FROM or not c.is_for_wide)
        if columns == self._shown_columns:
            return
        self.clear(columns=True)
        self._shown_columns, self._cells = columns, {}
        for index, column in enumerate(columns):
            self.add_column(
                Text(column.label, justify="right" if column.is_number else "left"), key=str(index)
            )
        self.show(self._records)
