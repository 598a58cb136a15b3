"""A line to type in, which escape leaves, and its place at the foot of a screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static


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

    def open(self, text: str, prompt: str = "") -> None:
        """Show it with a text, and let the keys go into it; a prompt takes the place of that which it has."""
        self._show(True)
        if prompt and isinstance(self.parent, PromptLine):
            self.parent.ask(prompt)
        self.value = text
        self.cursor_position = len(text)
        self.focus()

    def tell(self, note: str) -> None:
        """Say at its end what has come of what is typed."""
        if isinstance(self.parent, PromptLine):
            self.parent.tell(note)

    def close(self) -> None:
        """Take it away."""
        self._show(False)

    def _show(self, is_open: bool) -> None:
        self.set_class(is_open, "-open")
        if isinstance(self.parent, PromptLine):
            self.parent.set_class(is_open, "-open")

    @property
    def is_open(self) -> bool:
        """Whether it stands there."""
        return self.has_class("-open")

    def action_leave(self) -> None:
        """Leave without an answer."""
        self.post_message(self.Left(self))


class PromptLine(Horizontal):
    """The last row of a screen while something is typed: what for, the input, and what comes of it."""

    DEFAULT_CSS = """
    PromptLine {
        display: none; height: 1; padding: 0 1; background: $panel;
        & .prompt { width: auto; color: $primary; text-style: bold; padding: 0 1; }
        & LineInput { width: 1fr; background: $panel; padding: 0; }
        & .note { width: auto; color: $muted; padding: 0 1; }
    }
    PromptLine.-open { display: block; }
    """

    def __init__(self, prompt: str, placeholder: str, *, id: str) -> None:
        super().__init__()
        self._prompt = Static(Content(prompt), classes="prompt")
        self._note = Static(classes="note")
        self._input = LineInput(placeholder, id=id)
        """It has the id."""

    def compose(self) -> ComposeResult:
        """The three of them."""
        yield self._prompt
        yield self._input
        yield self._note

    def ask(self, prompt: str) -> None:
        """Say what is typed now."""
        self._prompt.update(Content(prompt))

    def tell(self, note: str) -> None:
        """Say what has come of it."""
        self._note.update(Content(note))
