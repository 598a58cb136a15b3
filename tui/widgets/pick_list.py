"""Rows without a frame, as high as they are many, in which one thing is picked: the checklist, the open programs."""

from __future__ import annotations

from textual.geometry import Size

from tui.widgets.lines import FAINT, STRONG, TEXT, Line, crop, length
from tui.widgets.rows import Rows


class PickList(Rows):
    """The cursor is marked by a sign as well as by its ground; the last cell says where more rows are."""

    DEFAULT_CSS = """
    PickList {
        height: auto; border: none;
        &:focus { border: none; }
    }
    """

    def draw_row(self, index: int, width: int) -> Line:
        """What a row says, in `width` cells."""
        raise NotImplementedError

    def row(self, index: int, width: int) -> Line:
        """Sign, what it says, and where more are."""
        sign = "▸ " if index == self.cursor else "  "
        line = crop([(sign, STRONG), *self.draw_row(index, width - 3)], width - 1)
        last = self.top + self.size.height - 1
        more = "▲" if index == self.top > 0 else "▼" if index == last < self.num_rows - 1 else " "
        return [*line, (" " * (width - 1 - length(line)), TEXT), (more, FAINT)]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A line a row."""
        return self.num_rows

    def show_anew(self, cursor: int) -> None:
        """Take up other rows, and another cursor in them."""
        self.cursor = cursor
        self.refresh(layout=True)
        self.redraw()
        self.post_message(self.Moved(self))
