"""A series as rows of block characters in one style: gaps stay gaps."""

from __future__ import annotations

from itertools import groupby, pairwise

from engine.records import Series
from tui.widgets.lines import Line

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LONGEST_BRIDGE = 2.5
"""Empty stretches bridged, as a multiple of the usual spacing: a slow sensor is no gap, a lost one is."""


_LIMIT = "╌"
"""Stands where a limit lies and no value does."""


def trend(
    series: Series, width: int, height: int, low: float, high: float, limit: float | None = None
) -> list[str]:
    """`height` rows of at most `width` characters, newest at the right; blanks where nothing was read.

    The scale goes from `low`, one eighth high, to `high`, the full height. A `limit` is drawn where nothing else is.
    """
    columns = _columns(series, width)
    if all(value is None for value in columns):
        return [" " * width] * height
    span = max(high - low, 1e-9)

    def level(value: float) -> int:
        return 1 + round(min(1.0, max(0.0, (value - low) / span)) * (8 * height - 1))

    eighths = [None if value is None else level(value) for value in columns]
    rows = _rows(eighths, height)
    if limit is not None:
        at = height - 1 - min(height - 1, (level(limit) - 1) // 8)
        rows[at] = rows[at].replace(" ", _LIMIT)
    return rows


def limited(rows: list[str], style: str, limit_style: str) -> list[Line]:
    """Rows of a trend with the limit in a style of its own."""
    lines: list[Line] = []
    for row in rows:
        line: Line = []
        for is_limit, run in groupby(row, lambda character: character == _LIMIT):
            line.append(("".join(run), limit_style if is_limit else style))
        lines.append(line)
    return lines


def _rows(eighths: list[int | None], height: int) -> list[str]:
    return [
        "".join(" " if level is None else _BLOCKS[min(8, max(0, level - 8 * below))] for level in eighths)
        for below in range(height - 1, -1, -1)
    ]


def _columns(series: Series, width: int) -> list[float | None]:
    """The mean of each column, short gaps filled from the left."""
    if not series.buckets:
        return [None] * width
    sums: list[tuple[float, int]] = [(0.0, 0)] * width
    for bucket in series.buckets:
        x = min(width - 1, bucket.index * width // series.num_buckets)
        sums[x] = (sums[x][0] + bucket.mean, sums[x][1] + 1)
    columns: list[float | None] = [total / number if number else None for total, number in sums]
    filled = [x for x, value in enumerate(columns) if value is not None]
    spaces = sorted(right - left for left, right in pairwise(filled))
    usual = spaces[len(spaces) // 2] if spaces else 1
    for left, right in pairwise(filled):
        if right - left <= usual * _LONGEST_BRIDGE:
            columns[left + 1 : right] = [columns[left]] * (right - left - 1)
    return columns
