"""Axes of a chart: where they end, which numbers stand at them, and what falls into one column."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.records import LossPoint
from tui import format as fmt
from tui.language import tr
from tui.widgets.lines import Line

_SETTLED_FRAC = 0.06
"""Share of the x axis whose losses do not stretch a linear y axis: the fall from the random start."""
_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def column_means(points: Sequence[LossPoint], ends: tuple[int, int], num_columns: int) -> list[LossPoint]:
    """One point a column of cells, the mean of what falls into it: the noise of single steps hides the curve."""
    start, end = ends
    columns: dict[int, list[LossPoint]] = {}
    for point in points:
        if math.isfinite(point.loss) and start <= point.tokens <= end:
            columns.setdefault((point.tokens - start) * num_columns // (end - start + 1), []).append(point)
    return [
        LossPoint(
            tokens=sum(p.tokens for p in group) // len(group),
            loss=sum(p.loss for p in group) / len(group),
            step=group[len(group) // 2].step,
            at=group[len(group) // 2].at,
        )
        for group in columns.values()
    ]


def x_end(last_tokens: int, tokens_total: int) -> int:
    """The end of the x axis of a whole run: its tokens halved as often as the curve still fits."""
    end = max(tokens_total, last_tokens, 1)
    while end // 2 >= max(last_tokens, 1):
        end //= 2
    return end


def y_range(
    points: Sequence[LossPoint], tokens_end: int, *, is_log: bool = False
) -> tuple[float, float, float]:
    """Bottom and top of the y axis, both multiples of the step, and the step; a logarithmic one has room for all."""
    settled = [point.loss for point in points if point.tokens > tokens_end * _SETTLED_FRAC]
    losses = settled if len(settled) >= 5 and not is_log else [point.loss for point in points]
    low, high = min(point.loss for point in points), max(losses)
    step = nice_step(max(high - low, 0.02) / 4)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    if is_log and bottom <= 0:
        bottom = max(low, step / 100)
    return bottom, max(top, bottom + step), step


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def ticks(low: float, high: float, step: float, num_rows: int) -> list[float]:
    """The values that are named on a y axis of so many rows."""
    num_steps = round((high - low) / step)
    every = max(1, -(-(num_steps + 1) // max(2, num_rows // 2)))
    return [low + step * index for index in range(0, num_steps + 1, every)]


def x_axis(ends: tuple[int, int], width: int, gutter: int, style: str, *, is_short: bool) -> list[Line]:
    """The rule with its numbers below it, or in it where it is short."""
    num_ticks = 2 if is_short or width < 48 else 4
    rule, labels = ["─"] * width, [" "] * width
    # The two ends first: where it is narrow, the middle gives way.
    for index in (num_ticks, 0, *range(1, num_ticks)):
        place = round(index * (width - 1) / num_ticks)
        value = ends[0] + (ends[1] - ends[0]) * index / num_ticks
        text = _label(value, ends) + (tr(" tokens") if index == num_ticks else "")
        start = min(max(0, place - len(text) // 2), width - len(text))
        into = rule if is_short else labels
        if not is_short:
            rule[place] = "┬"
        around = into[max(0, start - 1) : start + len(text) + 1]
        if start < 0 or any(sign not in (" ", "─", "┬") for sign in around):
            continue
        into[start : start + len(text)] = text
    pad = " " * (gutter - 1)
    axis: Line = [(pad + "└" + "".join(rule), style)]
    return [axis] if is_short else [axis, [(pad + " " + "".join(labels), style)]]


def _label(value: float, ends: tuple[int, int]) -> str:
    """A number of tokens, with as many digits as tell it from its neighbour."""
    start, end = ends
    if start == 0:
        return fmt.count(value)
    unit, suffix = next((unit, suffix) for unit, suffix in _SUFFIXES if end >= unit)
    digits = max(0, min(6, math.ceil(-math.log10((end - start) / 4 / unit))))
    return f"{value / unit:.{digits}f} {suffix}".rstrip()
