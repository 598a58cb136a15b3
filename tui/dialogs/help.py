"""Help for the screen that one is on, and for the panel that has the focus."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.dialogs.dialog import Dialog
from tui.language import tr


class HelpDialog(Dialog[None]):
    """Text to read; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,q", "dismiss(None)", "Close", id="help.close"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="help.down"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="help.up"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__(title, text, tr("Esc  close"))

    def action_scroll(self, rows: int) -> None:
        """Scroll where the help is longer than the screen."""
        self.query_one("#box").scroll_relative(y=rows, animate=False)
