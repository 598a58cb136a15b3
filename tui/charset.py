"""What a terminal can show: every character of a screen as one that it has, cell for cell.

One filter behind all widgets, so that frames, bars, curves and the signs of verdicts need no second drawing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_SIGNS = {
    **dict.fromkeys("─━╌┄┈╴╶═⎯–—−‒⋯", "-"),
    **dict.fromkeys("│┃║╎┆┊╵╷▏▎▕", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋", "+"),
    **dict.fromkeys("█▉▊▓▇▆", "#"),
    **dict.fromkeys("▋▌▒▅▄", "="),
    **dict.fromkeys("▍▃░", "-"),
    **dict.fromkeys("▂▁▔", "_"),
    **dict.fromkeys("▀▐", "="),
    **dict.fromkeys("●◉⏺", "*"),
    **dict.fromkeys("○◌◯", "o"),
    **dict.fromkeys("◆◇", "o"),
    **dict.fromkeys("▶▸►→›»", ">"),
    **dict.fromkeys("◀◂◄←‹«", "<"),
    **dict.fromkeys("▲▴↑", "^"),
    **dict.fromkeys("▼▾↓", "v"),
    **dict.fromkeys("‘’‚′", "'"),
    **dict.fromkeys("“”„″", '"'),
    **{"✓": "+", "✔": "+", "✗": "x", "✘": "x", "×": "x", "■": "#", "□": "o", "‖": "=", "·": ".", "•": "*"},
    **{"…": "~", "°": "'", "±": "~", "≥": ">", "≤": "<", "≈": "~", "Δ": "d", "∞": "8", "µ": "u", "␡": "?"},
    **{"ə": "e", "Ə": "E", "ı": "i", "€": "E", "₼": "M", "£": "L", "✎": "*", "↵": "<", "⏎": "<", "⏸": "="},
}
"""Shapes that mean different things stay different: done + and not done x, up ^ and down v."""

_CONSOLE = {**dict.fromkeys("╭┏", "┌"), **dict.fromkeys("╮┓", "┐"), **dict.fromkeys("╰┗", "└")} | {
    **dict.fromkeys("╯┛", "┘"),
    **dict.fromkeys("╴╶━╌┄", "─"),
    **dict.fromkeys("╵╷┃╎┆", "│"),
    **dict.fromkeys("▇▆▉▊▋", "█"),
    **dict.fromkeys("▅▃▂", "▄"),
    **{"✓": "√", "◆": "■", "▁": "_", "▏": "▌", "▎": "▌", "▍": "▌"},
}
"""What a console of 256 characters shows for others that look alike."""


class _Table(dict[int, str]):
    """Code point to what is shown, found out once each."""

    def __init__(self, has_lines: bool) -> None:
        super().__init__()
        self._has_lines = has_lines

    def __missing__(self, code: int) -> str:
        shown = self[code] = self._found(chr(code))
        return shown

    def _found(self, character: str) -> str:
        if character.isascii():
            return character
        if self._has_lines:
            alike = _CONSOLE.get(character, character)
            if _is_on_console(alike):
                return alike
        if 0x2800 <= ord(character) <= 0x28FF:
            return _dots(ord(character) - 0x2800)
        width = cell_len(character)
        sign = _SIGNS.get(character)
        if sign is None:
            plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
            sign = plain if len(plain) == width else "?" * width
        return sign


def _is_on_console(character: str) -> bool:
    """Whether the font of a PC's console has it. Source: code page 437."""
    try:
        return len(character.encode("cp437")) == 1
    except UnicodeEncodeError:
        return False


def _dots(bits: int) -> str:
    """A cell of braille as the sign whose ink lies in the same rows."""
    rows = [bool(bits & mask) for mask in (0x09, 0x12, 0x24, 0xC0)]
    num = sum(rows)
    if not num:
        return " "
    if num == 1:
        return "'-._"[rows.index(True)]
    if num == 2 and rows[0] != rows[3]:
        return '"' if rows[0] and rows[1] else "," if rows[3] and rows[2] else ":"
    return ":" if num == 2 else "|"


class CharacterFilter(LineFilter):
    """Shows every character as one that the terminal has."""

    def __init__(self, has_lines: bool) -> None:
        super().__init__()
        self._table: Mapping[int, str] = _Table(has_lines)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells, in other characters."""
        return [
            segment
            if segment.control or segment.text.isascii()
            else Segment(segment.text.translate(self._table), segment.style)
            for segment in segments
        ]


class ColourlessFilter(LineFilter):
    """Takes every colour away, as NO_COLOR asks; a cursor is told by reversed cells."""

    def __init__(self) -> None:
        super().__init__()
        self._marked: frozenset[tuple[int, int, int]] = frozenset()
        self._styles: dict[Style, Style] = {}

    def mark(self, *colours: str) -> None:
        """The grounds that mean something, as `#rrggbb`."""
        self._marked = frozenset(Color.parse(colour).rgb for colour in colours if colour)
        self._styles = {}

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same text, bold and underlined as before."""
        return [Segment(text, self._bare(style), control) for text, style, control in segments]

    def _bare(self, style: Style | None) -> Style | None:
        if style is None:
            return None
        if style not in self._styles:
            is_marked = style.bgcolor is not None and tuple(_rgb(style.bgcolor)) in self._marked
            self._styles[style] = Style(
                bold=style.bold,
                italic=style.italic,
                underline=style.underline,
                reverse=is_marked or style.reverse,
            )
        return self._styles[style]


def _rgb(colour: RichColor) -> tuple[int, ...]:
    return tuple(colour.get_truecolor())
