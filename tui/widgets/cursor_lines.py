"""Rows with a cursor: a list that draws itself and sends only what differs, like every other panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.geometry import Size
from textual.message import Message

from tui.widgets.lines import FAINT, STRONG, TEXT, Line, Lines, crop, length

CURSOR = "cursor-lines--cursor"
_MARKED = "+cursor"
"""Ends the component class of a span that stands in the cursor's row."""


class CursorLines(Lines, can_focus=True):
    """A list of `num_rows` rows under `num_heads` headings; the window follows the cursor where they do not fit."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {CURSOR}
    DEFAULT_CSS = """
    CursorLines {
        height: auto;
        & > .cursor-lines--cursor { background: $block-cursor-blurred-background; }
        &:focus > .cursor-lines--cursor { background: $block-cursor-background; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Down", show=False, id="list.down"),
        Binding("k,up", "move(-1)", "Up", show=False, id="list.up"),
        Binding("g,home", "move(-1000000)", "First", show=False, id="list.first"),
        Binding("G,end", "move(1000000)", "Last", show=False, id="list.last"),
    ]

    @dataclass(eq=False)
    class Highlighted(Message):
        """The cursor stands on another row, or on another thing in the same row."""

        index: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._cursor = 0
        self._top = 0

    # --- what a list is made of ---------------------------------------------------------------------------------

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    @property
    def num_heads(self) -> int:
        """How many rows stand above them and do not move."""
        return 0

    def draw_head(self, width: int) -> list[Line]:
        """The rows above."""
        return []

    def draw_row(self, index: int, width: int) -> Line:
        """One row of at most `width` cells."""
        raise NotImplementedError

    # --- the cursor ---------------------------------------------------------------------------------------------

    @property
    def highlighted(self) -> int:
        """The row of the cursor, from 0; 0 too where there is none."""
        return min(self._cursor, max(0, self.num_rows - 1))

    @highlighted.setter
    def highlighted(self, index: int) -> None:
        index = max(0, min(index, self.num_rows - 1))
        if index != self._cursor:
            self._cursor = index
            self.redraw()
            self.post_message(self.Highlighted(index))

    def action_move(self, by: int) -> None:
        """Move the cursor, to the end at most."""
        self.highlighted = self.highlighted + by

    def on_click(self, event: Click) -> None:
        """Put the cursor where it was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and self.num_heads <= offset.y < self.num_heads + self.num_rows - self._top:
            self.highlighted = self._top + offset.y - self.num_heads

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel moves the cursor."""
        self.action_move(1)
        event.stop()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel moves the cursor."""
        self.action_move(-1)
        event.stop()

    # --- drawing ------------------------------------------------------------------------------------------------

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A line a row, and the heads."""
        return self.num_heads + self.num_rows

    def draw(self, width: int, height: int) -> list[Line]:
        """The rows around the cursor, it marked by a sign and by its ground; the last cell says where more are."""
        room = max(1, height - self.num_heads)
        cursor = self.highlighted
        self._top = min(max(self._top, cursor - room + 1, 0), cursor, max(0, self.num_rows - room))
        last = min(self.num_rows, self._top + room)
        lines: list[Line] = []
        for index in range(self._top, last):
            is_here = index == cursor
            row: Line = [("▸ " if is_here else "  ", STRONG), *self.draw_row(index, width - 3)]
            row = crop(row, width - 1)
            more = "▲" if index == self._top > 0 else "▼" if index == last - 1 < self.num_rows - 1 else " "
            row += [(" " * (width - 1 - length(row)), TEXT), (more, FAINT)]
            lines.append([(text, style + _MARKED) for text, style in row] if is_here else row)
        head: list[Line] = [[("  ", TEXT), *line] for line in self.draw_head(width - 3)]
        return [*head, *lines]

    def _style(self, name: str) -> Style:
        if not name.endswith(_MARKED):
            return super()._style(name)
        if name not in self._resolved:
            ground = self.get_component_rich_style(CURSOR).bgcolor
            self._resolved[name] = super()._style(name.removesuffix(_MARKED)) + Style(bgcolor=ground)
        return self._resolved[name]
