"""A line to type in, which escape leaves."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class LineInput(Input):
    """An input of one row without a frame; enter gives what stands there, escape nothing."""

    class Left(Message):
        """It was left without an answer."""

        def __init__(self, line: LineInput) -> None:
            super().__init__()
            self.line = line

        @property
        def control(self) -> LineInput:
            """The line that was left."""
            return self.line

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave it", tooltip="Without a change", id="input.leave"),
        Binding("enter", "submit", "Take it", tooltip="What stands there", id="input.take"),
    ]
    DEFAULT_CSS = """
    LineInput { display: none; }
    LineInput.-open { display: block; }
    """

    def __init__(self, placeholder: str = "", *, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, id=id, compact=True, max_length=4000)

    def open(self, text: str) -> None:
        """Show it with a text, and let the keys go into it."""
        self.add_class("-open")
        self.value = text
        self.cursor_position = len(text)
        self.focus()

    def close(self) -> None:
        """Take it away."""
        self.remove_class("-open")

    @property
    def is_open(self) -> bool:
        """Whether it stands there."""
        return self.has_class("-open")

    def action_leave(self) -> None:
        """Leave without an answer."""
        self.post_message(self.Left(self))
