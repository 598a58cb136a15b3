"""The ground of the dialogs: a box in the middle, closed by escape with the careful answer."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import format as fmt

Result = TypeVar("Result")


class Question(ModalScreen[Result], Generic[Result]):
    """A screen over the others that is answered once."""

    _is_answered = False

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Answer; of two keys in one burst the second would close what lies below, so it does nothing."""
        if self._is_answered:
            return AwaitComplete()
        self._is_answered = True
        return super().dismiss(result)


class Dialog(Question[Result], Generic[Result]):
    """A title, text, whatever the dialog adds, and the keys that answer it."""

    DEFAULT_CSS: ClassVar[str] = """
    Dialog {
        align: center middle;
        background: $background 60%;
        & > #box {
            width: 72; max-width: 94%; height: auto; max-height: 94%;
            background: $surface; border: round $primary; border-title-color: $foreground;
            border-title-style: bold; padding: 1 2; overflow-y: auto;
        }
        & #text { width: 100%; height: auto; }
        & #keys { width: 100%; height: auto; margin-top: 1; color: $muted; }
    }
    """

    def __init__(self, title: str, text: str, keys: str) -> None:
        super().__init__()
        self._heading = fmt.clean(title)
        self._text = fmt.clean(text, keep_newlines=True)
        self._keys = keys

    def compose(self) -> ComposeResult:
        """The box."""
        with Vertical(id="box") as box:
            box.border_title = Content(self._heading)
            yield Static(Content(self._text), id="text")
            yield from self.compose_answer()
            yield Static(Content(self._own(self._keys)), id="keys")

    def _own(self, keys: str) -> str:
        """The row of keys with the person's own in their places."""
        own = getattr(self.app, "own_keys", {})
        if not own:
            return keys
        from tui.keymap import retold

        bindings = [binding for binding in self.BINDINGS if isinstance(binding, Binding)]
        return "      ".join(retold(part, bindings, own) for part in keys.split("      "))

    def compose_answer(self) -> ComposeResult:
        """What stands between the text and the keys: nothing, unless a dialog asks for more than yes or no."""
        yield from ()
