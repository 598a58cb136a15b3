"""A panel of rows with a cursor: as many rows as there are, of which only those on the screen are drawn."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from tui.language import tr
from tui.widgets.lines import FAINT, MUTED, TEXT, Line, crop, length
from tui.widgets.panel import Panel

CURSOR, RESTING = "rows--cursor", "rows--resting"
_ON_CURSOR, _ON_RESTING = "+cursor", "+resting"
"""End the component class of a span that stands in the cursor's row: its own colour, on the cursor's ground."""
_LIFTED = {FAINT: MUTED, MUTED: TEXT}
"""What grey stands there instead on the cursor's ground, which is brighter."""
_WHEEL_ROWS = 3


class Rows(Panel):
    """What a row says is the business of the class that is made of this one."""

    class Moved(Message):
        """The cursor stands on another row."""

        def __init__(self, rows: Rows) -> None:
            super().__init__()
            self.rows = rows

        @property
        def control(self) -> Rows:
            """The panel whose cursor it is."""
            return self.rows

    COMPONENT_CLASSES: ClassVar[set[str]] = {CURSOR, RESTING}
    has_own_place: ClassVar[bool] = False
    """Whether it writes into its lower frame itself."""
    GROUNDED: ClassVar[frozenset[str]] = frozenset()
    """Component classes that keep their own ground under the cursor."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False, id="rows.down"),
        Binding("up,k", "move(-1)", "Up", show=False, id="rows.up"),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False, id="rows.page-down"),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False, id="rows.page-up"),
        Binding("home,g", "go_first", "First", show=False, id="rows.first"),
        Binding("end,G", "go_last", "Last", show=False, id="rows.last"),
    ]
    DEFAULT_CSS = """
    Rows {
        & > .rows--cursor { background: $block-cursor-background; }
        & > .rows--resting { background: $block-cursor-blurred-background; }
    }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(title, id=id)
        self.cursor = 0
        """The row it stands on; of no meaning where there is none."""
        self.top = 0
        """The first row on the screen."""
        self._words = ""

    # --- what a list says ---------------------------------------------------------------------------------------

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def row(self, index: int, width: int) -> Line:
        """One row; outside text in it is cleaned."""
        raise NotImplementedError

    def can_rest(self, index: int) -> bool:
        """Whether the cursor may stand on a row: not on a heading."""
        return True

    def when_empty(self) -> list[Line]:
        """What stands there where there is no row."""
        return []

    # --- the cursor ---------------------------------------------------------------------------------------------

    def centre_on(self, index: int) -> None:
        """Put the cursor on a row, and that into the middle where it was out of sight."""
        height = self.size.height
        if not self.top <= index < self.top + height:
            self.top = max(0, index - height // 2)
        self.move_to(index)

    def move_to(self, index: int, direction: int = 1) -> None:
        """Put the cursor on a row, or on the next one beyond it that it may stand on; the row comes into sight."""
        last = self.num_rows - 1
        index = max(0, min(index, last))
        for step in (direction, -direction):
            found = index
            while 0 <= found <= last and not self.can_rest(found):
                found += step
            if 0 <= found <= last:
                break
        else:
            found = 0
        has_moved = found != self.cursor
        self.cursor = found
        self._show_cursor()
        self.redraw()
        if has_moved:
            self.post_message(self.Moved(self))

    def _show_cursor(self) -> None:
        height = max(1, self.size.height)
        # A heading just above the cursor comes along.
        above = self.cursor - 1 if self.cursor and not self.can_rest(self.cursor - 1) else self.cursor
        self.top = min(self.top, above)
        self.top = max(self.top, self.cursor - height + 1, 0)
        self.top = max(0, min(self.top, self.num_rows - height))

    def action_move(self, rows: int) -> None:
        """Move by rows."""
        self.move_to(self.cursor + rows, 1 if rows > 0 else -1)

    def action_page(self, pages: int) -> None:
        """Move by what the panel is high."""
        self.action_move(pages * max(1, self.size.height - 1))

    def action_go_first(self) -> None:
        """To the first row."""
        self.move_to(0)

    def action_go_last(self) -> None:
        """To the last row."""
        self.move_to(self.num_rows - 1, -1)

    def on_click(self, event: Click) -> None:
        """Put the cursor where one clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and self.top + offset.y < self.num_rows:
            self.move_to(self.top + offset.y)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel moves the cursor, so that it stays in sight."""
        event.stop()
        self.action_move(_WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """As the other way."""
        event.stop()
        self.action_move(-_WHEEL_ROWS)

    # --- where one is in it -------------------------------------------------------------------------------------

    def set_subtitle(self, text: str) -> None:
        """Words in the lower frame, before the place in the list."""
        self._words = text
        self._name_place()

    def _name_place(self) -> None:
        """Say in the frame where the cursor stands, where there are more rows than are in sight."""
        if self.has_own_place:
            return
        place = ""
        if self.num_rows > self.size.height > 0:
            resting = [index for index in range(self.num_rows) if self.can_rest(index)]
            at = sum(index <= self.cursor for index in resting)
            place = tr("{at} of {number}", at=at, number=len(resting))
        super().set_subtitle(" · ".join(part for part in (self._words, place) if part))

    # --- drawing ------------------------------------------------------------------------------------------------

    def on_focus(self) -> None:
        """The cursor is brighter where keys move it."""
        self.redraw()

    def on_blur(self) -> None:
        """As on focus."""
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The rows on the screen, the one under the cursor in its colours."""
        self._name_place()
        if not self.num_rows:
            return self.when_empty()
        self._show_cursor()
        lines: list[Line] = []
        for index in range(self.top, min(self.num_rows, self.top + height)):
            line = crop(self.row(index, width), width)
            if index == self.cursor and self.can_rest(index):
                ground = _ON_CURSOR if self.has_focus else _ON_RESTING
                line = [*line, (" " * (width - length(line)), TEXT)]
                line = [(text, style + ground) for text, style in line]
            lines.append(line)
        return lines

    def _style(self, name: str) -> Style:
        ending = next((end for end in (_ON_CURSOR, _ON_RESTING) if name.endswith(end)), "")
        bare = name.removesuffix(ending)
        if not ending or bare in self.GROUNDED:
            return super()._style(bare)
        if name not in self._resolved:
            ground = self.get_component_rich_style(CURSOR if ending == _ON_CURSOR else RESTING).bgcolor
            self._resolved[name] = super()._style(_LIFTED.get(bare, bare)) + Style(bgcolor=ground)
        return self._resolved[name]
