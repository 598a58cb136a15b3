"""The ground of every panel: rows of styled text that go to the terminal only where they differ.

A panel draws all of its rows from its facts; what is equal to what stands on the screen is not sent again, and of
a row that differs only the stretch that does. Run through SSH this is what keeps
a screen that is alive once a second to a few hundred bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.format import clean

Span = tuple[str, str]
"""A piece of text and the component class it is styled by."""

Line = list[Span]

TEXT, MUTED, FAINT, STRONG = "lines--text", "lines--muted", "lines--faint", "lines--strong"
BLUE, ORANGE = "lines--blue", "lines--orange"
GOOD, DOUBTFUL, BAD = "lines--good", "lines--doubtful", "lines--bad"
ESTIMATE = "lines--estimate"
HEAT, POWER = "lines--heat", "lines--power"


_BOLD, _PLAIN = True, False
_LOOKS: dict[str, tuple[str, float, bool]] = {
    TEXT: ("foreground", 1.0, _PLAIN),
    MUTED: ("muted", 1.0, _PLAIN),
    FAINT: ("faint", 1.0, _PLAIN),
    STRONG: ("foreground", 1.0, _BOLD),
    BLUE: ("primary", 1.0, _PLAIN),
    ORANGE: ("accent", 1.0, _PLAIN),
    GOOD: ("success", 1.0, _BOLD),
    DOUBTFUL: ("warning", 1.0, _BOLD),
    BAD: ("error", 1.0, _BOLD),
    ESTIMATE: ("warning", 1.0, _PLAIN),
    HEAT: ("accent", 0.65, _PLAIN),
    POWER: ("primary", 0.65, _PLAIN),
}
"""Name to the theme's token, its opacity, and whether it is bold.

Not component classes: Textual matches every one of those against every rule for every widget at each change of a
style, which was a third of the time to the first screen.
"""


class Lines(Widget):
    """A widget of fixed size that shows the lines `draw` gives; lines are cropped to the width."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: list[Strip] = []
        self._resolved: dict[str, Style] = {}

    def draw(self, width: int, height: int) -> list[Line]:
        """The lines that are to stand there, for `width` x `height` cells; outside text in them is cleaned."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again, and send what differs."""
        width, height = self.size
        if not width or not height:
            return
        base = self.rich_style
        fresh = [self._strip(line, width, base) for line in self.draw(width, height)[:height]]
        fresh += [Strip.blank(width, base)] * (height - len(fresh))
        changed = [
            region
            for y, strip in enumerate(fresh)
            if (region := _difference(self._strips[y] if y < len(self._strips) else None, strip, y, width))
        ]
        self._strips = fresh
        if changed:
            self.refresh(*changed)

    def _strip(self, line: Line, width: int, base: Style) -> Strip:
        segments = [Segment(clean(text), self._style(name)) for text, name in line if text]
        return Strip(segments).adjust_cell_length(width, base).simplify()

    def _style(self, name: str) -> Style:
        if name not in self._resolved:
            self._resolved[name] = (
                self._themed(name) if name in _LOOKS else self.get_component_rich_style(name)
            )
        return self._resolved[name]

    def _themed(self, name: str) -> Style:
        token, opacity, is_bold = _LOOKS[name]
        ground = self.background_colors[1]
        colour = Color.parse(self.app.theme_variables[token])
        if opacity < 1:
            colour = ground.blend(colour, opacity)
        return Style(color=colour.rich_color, bgcolor=ground.rich_color, bold=is_bold)

    def render_line(self, y: int) -> Strip:
        """A row as last drawn; blank before the first drawing."""
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def on_resize(self, event: Resize) -> None:
        """Draw for the new size."""
        self._strips = []
        self.redraw()

    def notify_style_update(self) -> None:
        """Take up new colours: of a theme, of a state class, of the focus."""
        super().notify_style_update()
        self._resolved = {}
        self.redraw()

    @property
    def plain(self) -> str:
        """What stands there, without style: for tests and for copying."""
        return "\n".join(strip.text for strip in self._strips)


def _difference(old: Strip | None, new: Strip, y: int, width: int) -> Region | None:
    """The stretch of a row that differs; the whole row where there was none, or where cells cannot be told.

    One stretch a row: Textual 8.2 sends each stretch from the left edge of its widget.
    """
    if old == new:
        return None
    before, after = _cells(old) if old else [], _cells(new)
    if not after or len(before) != len(after):
        return Region(0, y, width, 1)
    differing = [x for x, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    return Region(differing[0], y, differing[-1] + 1 - differing[0], 1) if differing else None


def _cells(strip: Strip) -> list[tuple[str, Style | None]]:
    """One entry a cell; a row with double-width characters has fewer entries than cells and is sent whole."""
    cells = [(character, segment.style) for segment in strip for character in segment.text]
    return cells if len(cells) == strip.cell_length else []


def ruled(left: Line, right: Line, width: int) -> Line:
    """`left` and `right` at the two ends of a row; the left gives way where both do not fit."""
    room = width - length(right)
    kept = crop(left, max(0, room - 1))
    return [*kept, (" " * max(0, room - length(kept)), TEXT), *right]


def length(line: Line) -> int:
    """Cells that a line takes."""
    return Strip([Segment(text) for text, _ in line]).cell_length


def cut(line: Line, width: int) -> Line:
    """A line of at most `width` cells."""
    kept: Line = []
    room = width
    for text, name in line:
        piece = Strip([Segment(text)]).crop(0, max(0, room)).text
        room -= length([(piece, name)])
        if piece:
            kept.append((piece, name))
    return kept


def crop(line: Line, width: int) -> Line:
    """A line of at most `width` cells, with an ellipsis where something was left out."""
    if length(line) <= width:
        return line
    kept = cut(line, width - 1)
    return [*kept, ("…", kept[-1][1] if kept else MUTED)] if width > 0 else []


def leading_blanks(paragraph: str) -> int:
    """How far in a paragraph stands."""
    return len(paragraph) - len(paragraph.lstrip(" "))


_KEY_CELL = re.compile(r" *(?:\S+ )*\S+ {2,}(?=\S)")


def after_key(paragraph: str) -> int:
    """Where the text begins of a row that has a key or a label before it."""
    found = _KEY_CELL.match(paragraph)
    return found.end() if found else leading_blanks(paragraph)


def wrap(text: str, width: int, indent_of: Callable[[str], int] = leading_blanks) -> list[str]:
    """Text broken into rows of at most `width` cells, at blanks; newlines are kept.

    A word is broken only where no row holds it. What goes on stands as far in as its paragraph, or as `indent_of` says.
    """
    rows: list[str] = []
    for paragraph in text.split("\n"):
        indent = min(indent_of(paragraph), width // 2)
        left = paragraph
        while length([(left, "")]) > width > 0:
            piece = Strip([Segment(left)]).crop(0, width).text.rstrip()
            blank = piece.rfind(" ", indent)
            if left[len(piece) : len(piece) + 1] != " " and blank >= 0 and piece[:blank].strip():
                word = left[blank + 1 : blank + 2 + width].partition(" ")[0]
                if length([(word, "")]) <= width - indent:
                    piece = piece[:blank].rstrip()
            if len(piece) <= indent:
                piece = left[: indent + 1]
            rows.append(piece)
            left = " " * indent + left[len(piece) :].lstrip(" ")
        rows.append(left)
    return rows


def said_and_gone_on(said: str, gone_on: str, width: int) -> list[Line]:
    """A prompt in grey and what follows it in rows."""
    lines: list[Line] = []
    grey_left = sum(not character.isspace() for character in said)
    for row in wrap((said + gone_on).rstrip(), width):
        at = 0
        while at < len(row) and grey_left > 0:
            grey_left -= not row[at].isspace()
            at += 1
        lines.append([(row[:at], MUTED), (row[at:], TEXT)] if at else [(row, TEXT)])
    return lines
