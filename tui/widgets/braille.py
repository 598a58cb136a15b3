"""A field of braille dots, two by four to a cell, that two series can share: the canvas of the charts.

Each cell is styled by the series that marked it last, and each row comes out as runs of one style.
"""

from __future__ import annotations

from tui.widgets.lines import Line

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bit of the dot at [column][row] of a cell. Source: Unicode 16, block Braille Patterns."""


class BrailleField:
    """`width` x `height` cells, y downwards; dots outside the field are left out."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._bits = [[0] * width for _ in range(height)]
        self._marks: dict[tuple[int, int], str] = {}
        self._styles = [[""] * width for _ in range(height)]

    def dot(self, x: int, y: int, style: str) -> None:
        """Set the dot at (x, y), in dots: `2 * width` by `4 * height`."""
        if 0 <= x < 2 * self.width and 0 <= y < 4 * self.height:
            self._bits[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
            self._styles[y // 4][x // 2] = style

    def line(self, start: tuple[int, int], end: tuple[int, int], style: str) -> None:
        """Dots from `start` to `end`, every dot of the longer axis."""
        (x0, y0), (x1, y1) = start, end
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            self.dot(x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps), style)

    def mark(self, x: int, y: int, sign: str, style: str) -> None:
        """Put a one-cell sign over the cell that holds the dot (x, y)."""
        if 0 <= x < 2 * self.width and 0 <= y < 4 * self.height:
            self._marks[x // 2, y // 4] = sign
            self._styles[y // 4][x // 2] = style

    def column(self, x: int, sign: str, style: str) -> None:
        """Put a one-cell sign into every cell of a column that is still blank."""
        for y in range(self.height):
            if not self._bits[y][x] and (x, y) not in self._marks:
                self._marks[x, y] = sign
                self._styles[y][x] = style

    def num_marked(self, y: int, start: int) -> int:
        """How many cells of a row are not blank, from column `start` on."""
        return sum(bool(self._bits[y][x]) or (x, y) in self._marks for x in range(max(0, start), self.width))

    def lines(self, blank_style: str) -> list[Line]:
        """The rows from the top, as runs of one style."""
        rows: list[Line] = []
        for y, (bits, styles) in enumerate(zip(self._bits, self._styles, strict=True)):
            row: Line = []
            for x, (pattern, style) in enumerate(zip(bits, styles, strict=True)):
                sign = self._marks.get((x, y)) or (chr(0x2800 + pattern) if pattern else " ")
                # A blank takes the style of the run that it stands in: a change of style costs bytes.
                name = style or (row[-1][1] if row else blank_style)
                if row and row[-1][1] == name:
                    row[-1] = (row[-1][0] + sign, name)
                else:
                    row.append((sign, name))
            rows.append(row)
        return rows
