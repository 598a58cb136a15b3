"""Help for the screen that one is on, and for the panel that has the focus."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from tui.dialogs.dialog import Dialog
from tui.dialogs.key_row import KEY_STYLE
from tui.language import tr
from tui.widgets.lines import after_key, leading_blanks, wrap


class HelpDialog(Dialog[None]):
    """Text to read; any of its keys closes it."""

    SCROLLS = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,q", "dismiss(None)", "Close", id="help.close"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="help.down"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="help.up"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__(title, text, tr("Esc  close"))

    def told(self, width: int) -> Content:
        """Rows that begin with keys have these in their style; a row above indented ones is a heading."""
        paragraphs = self._text.split("\n")
        rows: list[Content] = []
        for index, paragraph in enumerate(paragraphs):
            first, *more = wrap(paragraph, width, after_key)
            begin, end = leading_blanks(first), after_key(first)
            following = paragraphs[index + 1] if index + 1 < len(paragraphs) else ""
            if begin and end > begin:
                rows.append(Content(first).stylize(KEY_STYLE, begin, end))
            elif paragraph and not begin and leading_blanks(following):
                rows.append(Content(first).stylize("bold"))
            else:
                rows.append(Content(first))
            rows += map(Content, more)
        return Content("\n").join(rows)

    def action_scroll(self, rows: int) -> None:
        """Scroll where the help is longer than the screen."""
        self.scroll_text(rows)
