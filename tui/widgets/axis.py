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
_MOST_X_STEPS, _BETWEEN_NUMBERS = 6, 4
"""Steps of the x axis at most, and the cells between two of its numbers."""
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
    """The rule with round numbers below it, or in it where it is short."""
    rule, labels = ["─"] * width, [" "] * width
    into = rule if is_short else labels
    start, end = ends
    step = _x_step(start, end, width)
    values = list(range(-(-start // step) * step, end + 1, step))
    # The two ends first: where it is narrow, the middle gives way.
    order = sorted(range(len(values)), key=lambda index: (0 < index < len(values) - 1, index))
    places: dict[int, tuple[int, str]] = {}
    for index in order:
        place = round((values[index] - start) / max(1, end - start) * (width - 1))
        text = _label(values[index], ends, step)
        if not is_short:
            rule[place] = "┬"
        if (left := _write(into, text, place - len(text) // 2)) is not None:
            places[index] = left, text
    for index in (len(values) - 1, 0):
        if index in places and _add_unit(into, *places[index]):
            break
    pad = " " * (gutter - 1)
    axis: Line = [(pad + "└" + "".join(rule), style)]
    return [axis] if is_short else [axis, [(pad + " " + "".join(labels), style)]]


def _x_step(start: int, end: int, width: int) -> int:
    """The smallest round step whose numbers have room beside each other."""
    step = max(1, round(nice_step((end - start) / _MOST_X_STEPS)))
    while True:
        cells = len(_label(end, (start, end), step)) + _BETWEEN_NUMBERS
        if (end // step - -(-start // step) + 1) * cells <= width or step >= end - start:
            return step
        step = round(nice_step(step * 1.5))


def _write(into: list[str], text: str, wanted: int) -> int | None:
    """Put a text where it is wanted, or as near as the edges allow; None where another stands there."""
    left = min(max(0, wanted), len(into) - len(text))
    around = into[max(0, left - 1) : left + len(text) + 1]
    if left < 0 or any(sign not in (" ", "─", "┬") for sign in around):
        return None
    into[left : left + len(text)] = text
    return left


def _add_unit(into: list[str], left: int, text: str) -> bool:
    """Name the unit behind a number, which moves to the left for it where it must."""
    ground = into[left : left + len(text)]
    into[left : left + len(text)] = " " * len(text)
    if _write(into, text + tr(" tokens"), left) is not None:
        return True
    into[left : left + len(text)] = ground
    return False


def _label(value: float, ends: tuple[int, int], step: int) -> str:
    """A number of tokens, with as many digits as tell it from its neighbour."""
    start, end = ends
    if start == 0:
        return fmt.count(value)
    unit, suffix = next((unit, suffix) for unit, suffix in _SUFFIXES if end >= unit)
    digits = max(0, min(6, math.ceil(-math.log10(step / unit))))
    return f"{fmt.number(value / unit, digits)} {suffix}".rstrip()
