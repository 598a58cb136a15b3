"""The ground of the dialogs: a box in the middle, closed by escape with the careful answer."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import format as fmt
from tui.dialogs.key_row import key_row
from tui.language import tr
from tui.widgets.lines import after_key, wrap

Result = TypeVar("Result")

WORDS_STYLE = "$foreground"
_WIDTH, _MOST_SHARE_PCT = 72, 94
_FRAME_CELLS, _FRAME_ROWS = 6, 4
"""What the frame and the blanks within it take of the box."""


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
    """A title, text, whatever the dialog adds, and the keys that answer it; a long text scrolls between them."""

    IS_DESTRUCTIVE: ClassVar[bool] = False
    """Whether its first answer cannot be taken back."""
    SCROLLS: ClassVar[bool] = False
    """Whether keys scroll its text."""
    DEFAULT_CSS: ClassVar[str] = f"""
    Dialog {{
        align: center middle;
        background: $background 60%;
        & > #box {{
            width: {_WIDTH}; max-width: {_MOST_SHARE_PCT}%; height: auto; max-height: {_MOST_SHARE_PCT}%;
            background: $surface; border: round $primary; border-title-color: $foreground;
            border-title-style: bold; padding: 1 1 1 2; overflow: hidden;
        }}
        & #text {{ width: 100%; height: auto; scrollbar-size-vertical: 1; }}
        & #words {{ width: auto; height: auto; }}
        & #keys {{ width: 100%; height: auto; margin-top: 1; color: $foreground; }}
    }}
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
            with VerticalScroll(id="text", can_focus=False):
                yield Static(self.told(self._cells()), id="words")
            yield from self.compose_answer()
            yield Static(self._told_keys(), id="keys")

    def told(self, width: int) -> Content:
        """The text in rows of so many cells; what goes on stands below its own beginning."""
        return Content("\n".join(wrap(self._text, width, after_key)))

    def _cells(self) -> int:
        return max(1, min(_WIDTH, self.app.size.width * _MOST_SHARE_PCT // 100) - _FRAME_CELLS)

    def on_mount(self) -> None:
        """Fit the text in, once its height is known."""
        self.call_after_refresh(self._fit)

    def on_resize(self, event: Resize) -> None:
        """The rows are others where the screen is."""
        if (words := self.query_one_optional("#words", Static)) is not None:
            words.update(self.told(self._cells()))
            self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        """The text gives way, and says how to go on in it; the keys stay in sight."""
        if not self.is_attached:
            return
        box, text, words = self.query_one("#box"), self.query_one("#text"), self.query_one("#words")
        below = sum(
            child.outer_size.height + child.styles.margin.height
            for child in box.children
            if child is not text
        )
        room = max(2, self.app.size.height * _MOST_SHARE_PCT // 100 - _FRAME_ROWS - below)
        text.styles.max_height = room
        has_more = self.SCROLLS and words.outer_size.height > room
        self.query_one("#keys", Static).update(self._told_keys(has_more=has_more))

    def scroll_text(self, rows: int) -> None:
        """Move in a text that is longer than its place."""
        self.query_one("#text").scroll_relative(y=rows, animate=False)

    @property
    def has_more_text(self) -> bool:
        """Whether the text is longer than its place."""
        return self.query_one("#text").max_scroll_y > 0

    def _told_keys(self, *, has_more: bool = False) -> Content:
        keys = self._keys + (f"    {tr('↑ ↓  more')}" if has_more else "")
        return key_row(self, keys, self._cells(), is_grave=self.IS_DESTRUCTIVE)

    def compose_answer(self) -> ComposeResult:
        """What stands between the text and the keys: nothing, unless a dialog asks for more than yes or no."""
        yield from ()
