"""The bottom line: the keys that do something now, on one row that is sent only where it changes.

Textual's Footer makes a widget a key and builds them anew at every refresh of the bindings, changed or not.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from textual.binding import ActiveBinding
from textual.events import Click
from textual.screen import Screen

from tui.language import mark, tr
from tui.widgets.lines import FAINT, MUTED, Line, Lines, length

DISABLED, KEY = FAINT, "key-line--key"
_GAPS = (3, 2)
"""Cells between two keys; the second where it is tight."""
_KEPT_IDS, _LESSER_IDS = ("app.help", "app.quit"), ("app.zoom", "run.narrow", "table.sort")
"""What stays to the last where not all fit, and what goes first."""


class _Piece(NamedTuple):
    """One key with its word."""

    line: Line
    key: str
    """As the binding has it."""
    weight: int
    """The lightest goes first where not all fit."""


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
        """One row; what does not fit is left out whole, the way back and the way out last."""
        pieces, gap = _fitting([self._piece(active) for active in self._shown()], width)
        line: Line = []
        self._places = []
        for piece in pieces:
            start = length(line)
            self._places.append((start, start + length(piece.line), piece.key))
            line += [*piece.line, (" " * gap, MUTED)]
        return [line]

    def _piece(self, active: ActiveBinding) -> _Piece:
        binding = active.binding
        word = binding.description
        if binding.id == "app.zoom" and self.screen.maximized is not None:
            word, weight = mark("Back"), 2
        elif binding.id in _KEPT_IDS or binding.key == "escape":
            weight = 2
        else:
            weight = 0 if binding.id in _LESSER_IDS else 1
        styles = (KEY, MUTED) if active.enabled else (DISABLED, DISABLED)
        line: Line = [(self.app.get_key_display(binding), styles[0]), (f" {tr(word)}", styles[1])]
        return _Piece(line, binding.key, weight)

    def _shown(self) -> list[ActiveBinding]:
        """Shown bindings, each action once."""
        found: dict[tuple[str, str], ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show or self._is_named(active):
                found.setdefault((active.binding.action, active.binding.description), active)
        return list(found.values())

    def _is_named(self, active: ActiveBinding) -> bool:
        """Whether the screen, having nothing to show, names this key."""
        return active.binding.id == "app.preflight" and self.screen.has_class("-empty")

    async def on_click(self, event: Click) -> None:
        """Do what the key does."""
        x = event.get_content_offset(self)
        for start, end, key in self._places:
            if x is not None and start <= x.x < end:
                self.app.simulate_key(key)


def _fitting(pieces: list[_Piece], width: int) -> tuple[list[_Piece], int]:
    """The pieces that have room, in their order, and the gap between them; of equal weight the last goes first."""
    kept = list(pieces)
    while kept:
        cells = sum(length(piece.line) for piece in kept)
        for gap in _GAPS:
            if cells + gap * (len(kept) - 1) <= width:
                return kept, gap
        lightest = min(piece.weight for piece in kept)
        del kept[max(index for index, piece in enumerate(kept) if piece.weight == lightest)]
    return kept, _GAPS[-1]
