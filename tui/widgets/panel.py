"""A framed panel with a title: what the screens are laid out from."""

from __future__ import annotations

from typing import ClassVar

from textual.content import Content

from tui.widgets.lines import Lines


class Panel(Lines, can_focus=True):
    """Lines in a frame; tab reaches it, and it may fill the screen."""

    ALLOW_MAXIMIZE: ClassVar[bool | None] = True
    help_text: str = ""
    """What the panel shows, for the help; where it is the same for all of a class, `HELP` has it."""
    DEFAULT_CSS = """
    Panel {
        border: round $border-blurred;
        border-title-color: $muted;
        border-subtitle-color: $muted;
        padding: 0 1;
        &:focus { border: round $border; border-title-color: $foreground; }
    }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = Content(title)

    def render_str(self, text_content: str | Content) -> Content:
        """A title as it is: Textual would take it for markup."""
        return text_content if isinstance(text_content, Content) else Content(text_content)

    def set_subtitle(self, text: str) -> None:
        """Write into the lower frame; the same text again sends nothing."""
        content = Content(text)
        if self.border_subtitle != content.markup:
            self.border_subtitle = content
