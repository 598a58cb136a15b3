"""A table of records that is changed where they changed, row by row key and cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import DataTable

from tui.language import alphabetical, tr

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
    from_width: int = 0
    """The width of the table from which it is shown; 0: as `is_for_wide` says."""
    sort: Callable[[Record], float | str | None] | None = None
    """What its rows are sorted by, None (the value) last; without it, by the cell's text."""


class RecordTable(DataTable[Text], Generic[Record]):
    """Records by their keys, in the order given until another one is asked for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False, id="table.down"),
        Binding("k", "cursor_up", "Up", show=False, id="table.up"),
        Binding("s", "sort_next", "Sort", tooltip="By the next column", id="table.sort"),
        Binding("S", "sort_other_way", "Turn", show=False, tooltip="The other way round", id="table.turn"),
    ]

    def __init__(self, columns: tuple[Column[Record], ...], *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True, cell_padding=1)
        self._all_columns = columns
        self._shown_columns: tuple[Column[Record], ...] = ()
        self._records: dict[str, Record] = {}
        self._cells: dict[str, list[str]] = {}
        self._given: dict[str, Record] = {}
        self._sorted_by: Column[Record] | None = None
        self._is_falling = False

    @property
    def selected(self) -> Record | None:
        """The record under the cursor."""
        keys = list(self._records)
        return self._records[keys[self.cursor_row]] if 0 <= self.cursor_row < len(keys) else None

    def show(self, records: Mapping[str, Record]) -> None:
        """Show other records; the cursor stays on its record."""
        self._given = dict(records)
        self._records = self._in_order(self._given)
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
                        key, str(index), self._cell(key, index, new), update_width=len(new) > len(old)
                    )
        self._cells = cells

    def _in_order(self, records: dict[str, Record]) -> dict[str, Record]:
        """Sorted as asked for; what is unknown stands last whichever way."""
        column = self._sorted_by
        if column is None:
            return records
        write = column.sort or column.cell
        known = {key: value for key, record in records.items() if (value := write(record)) is not None}

        def place(key: str) -> Any:
            value = known[key]
            return alphabetical(value) if isinstance(value, str) else value

        keys = sorted(known, key=place, reverse=self._is_falling)
        keys += [key for key in records if key not in known]
        return {key: records[key] for key in keys}

    def action_sort_next(self) -> None:
        """Sort by the next column; after the last in the order given again."""
        columns: list[Column[Record] | None] = [*self._shown_columns, None]
        at = columns.index(self._sorted_by) if self._sorted_by in columns else len(columns) - 1
        self.sort_by(columns[(at + 1) % len(columns)])

    def action_sort_other_way(self) -> None:
        """Turn the order round."""
        self.sort_by(self._sorted_by, not self._is_falling)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked; a second click turns it round."""
        column = self._shown_columns[event.column_index]
        self.sort_by(column, column is self._sorted_by and not self._is_falling)

    def sort_by(self, column: Column[Record] | None, is_falling: bool = False) -> None:
        """Sort by a column, None: in the order given; the cursor stays on its record."""
        self._sorted_by, self._is_falling = column, is_falling and column is not None
        selected = self._key_at(self.cursor_row)
        self._build_columns(self._shown_columns)
        keys = list(self._records)
        if selected in keys:
            self.move_cursor(row=keys.index(selected), animate=False)

    def _key_at(self, row: int) -> str | None:
        keys = list(self._records)
        return keys[row] if 0 <= row < len(keys) else None

    def _fill(self, cells: dict[str, list[str]]) -> None:
        old_keys, row = list(self._cells), self.cursor_row
        selected = old_keys[row] if 0 <= row < len(old_keys) else None
        self.clear()
        for key, texts in cells.items():
            self.add_row(*(self._cell(key, index, text) for index, text in enumerate(texts)), key=key)
        self._cells = cells
        if selected in cells:
            self.move_cursor(row=list(cells).index(selected), animate=False)

    def row_style(self, record: Record) -> str:
        """A style of Rich for the whole row of a record; empty: none."""
        return ""

    def _cell(self, key: str, index: int, text: str) -> Text:
        shown = self._text(index, text)
        if style := self.row_style(self._records[key]):
            shown.stylize(style)
        return shown

    def _text(self, index: int, text: str) -> Text:
        return Text(text, justify="right" if self._shown_columns[index].is_number else "left", no_wrap=True)

    def on_resize(self, event: Resize) -> None:
        """Show the columns that the width has room for."""
        width = event.size.width
        columns = tuple(
            c for c in self._all_columns if width >= max(WIDE_FROM if c.is_for_wide else 0, c.from_width)
        )
        if columns == self._shown_columns:
            return
        self._build_columns(columns)

    def _build_columns(self, columns: tuple[Column[Record], ...]) -> None:
        """Make the table anew with these columns."""
        self.clear(columns=True)
        self._shown_columns, self._cells = columns, {}
        for index, column in enumerate(columns):
            mark = (" ▼" if self._is_falling else " ▲") if column is self._sorted_by else ""
            label = Text(f"{tr(column.label)}{mark}", justify="right" if column.is_number else "left")
            self.add_column(label, key=str(index))
        self.show(self._given)
