"""The bottom line: the keys that do something now, on one row that is sent only where it changes.

Textual's Footer makes a widget a key and builds them anew at every refresh of the bindings, changed or not.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import ActiveBinding
from textual.events import Click
from textual.screen import Screen

from tui.language import tr
from tui.widgets.lines import FAINT, MUTED, Line, Lines, length

DISABLED, KEY = FAINT, "key-line--key"


class KeyLine(Lines):
    """Key and name of every binding that is shown, those that are locked in grey."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {KEY}
    DEFAULT_CSS = """
    KeyLine {
        dock: bottom; height: 1; background: $surface; padding: 0 1;
        & > .key-line--key { color: $primary; text-style: bold; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Follow what can be done."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)

    def on_unmount(self) -> None:
        """Stop following."""
        self.screen.bindings_updated_signal.unsubscribe(self)

    def _follow(self, screen: Screen[object]) -> None:
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """One row; what does not fit is left out whole."""
        line: Line = []
        self._places = []
        for active in self._shown():
            key, binding = self.app.get_key_display(active.binding), active.binding
            styles = (KEY, MUTED) if active.enabled else (DISABLED, DISABLED)
            piece: Line = [(key, styles[0]), (f" {tr(binding.description)}", styles[1])]
            start = length(line)
            if start + length(piece) > width:
                break
            self._places.append((start, start + length(piece), binding.key))
            line += [*piece, ("   ", MUTED)]
        return [line]

    def _shown(self) -> list[ActiveBinding]:
        """Shown bindings, each action once."""
        found: dict[tuple[str, str], ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show:
                found.setdefault((active.binding.action, active.binding.description), active)
        return list(found.values())

    async def on_click(self, event: Click) -> None:
        """Do what the key does."""
        x = event.get_content_offset(self)
        for start, end, key in self._places:
            if x is not None and start <= x.x < end:
                self.app.simulate_key(key)
