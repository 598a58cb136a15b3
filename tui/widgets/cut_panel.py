"""A panel of more lines than it may have room for: its frame says how many are left out."""

from __future__ import annotations

from textual.events import Blur, Focus

from tui.language import tr
from tui.own_keys import key
from tui.widgets.lines import FAINT, Line, cut
from tui.widgets.panel import Panel


class CutPanel(Panel):
    """What it shows in full is the business of the class that is made of this one.

    Faint lines are running text: one that goes on below the frame ends in dots.
    """

    is_meant_by_z = False
    """Whether z shows it at large without the focus, too."""

    def whole(self, width: int, height: int) -> list[Line]:
        """All lines, which may be more than `height`."""
        raise NotImplementedError

    def draw(self, width: int, height: int) -> list[Line]:
        """As many lines as there is room for; the frame says how many more there are."""
        lines = self.whole(width, height)
        self.tell_left(len(lines) - height)
        shown = lines[:height]
        if _is_faint(shown[-1:]) and _is_faint(lines[height : height + 1]):
            shown[-1] = [*cut(shown[-1], width - 2), (" …", FAINT)]
        return shown

    def tell_left(self, left: int) -> None:
        """Say in the frame how many lines are left out, and the key that shows them where it means this panel."""
        if left <= 0:
            self.set_subtitle("")
        elif (self.has_focus or self.is_meant_by_z) and self.screen.maximized is not self:
            self.set_subtitle(tr("{key}: {left} more", key=key("app.zoom"), left=left))
        else:
            self.set_subtitle(tr("{left} more", left=left))

    def on_focus(self, event: Focus) -> None:
        """The key means this panel now."""
        self.redraw()

    def on_blur(self, event: Blur) -> None:
        """The key means another one."""
        self.redraw()


def _is_faint(lines: list[Line]) -> bool:
    return bool(lines and lines[0]) and lines[0][-1][1] == FAINT
