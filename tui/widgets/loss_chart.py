"""The loss over the tokens: training as a braille line, validation as diamonds, axes with numbers.

The axes hold still while the curve grows: the x axis ends at the run's tokens divided by a power of two, and the y
axis at round numbers, so that a refresh changes only the newest cells. A first steep stretch may leave at the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from engine.records import LossPoint
from tui import format as fmt
from tui.widgets.braille import BrailleField
from tui.widgets.lines import MUTED, Line, cut, length
from tui.widgets.panel import Panel

TRAINING, VALIDATION, AXIS = "loss-chart--training", "loss-chart--validation", "loss-chart--axis"

_SETTLED_FRAC = 0.06
"""Share of the x axis whose losses do not stretch the y axis: the fall from the random start."""
_SMALLEST_FIELD = (8, 2)
"""Cells below which axes would leave no curve."""
_ROOMY_HEIGHT = 10
"""Rows from which the legend and the x axis have rows of their own."""


class LossChart(Panel):
    """Both losses of the followed run; before the first step, what is being waited for."""

    HELP = (
        "The loss in nats a token over the tokens trained on: lower is better. The blue line is the training loss, the "
        "mean of each column, "
        "the orange diamonds are validations on text that is never trained on. Validation rising while training "
        "falls means that the model learns the text by heart."
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = {TRAINING, VALIDATION, AXIS}
    DEFAULT_CSS = """
    LossChart {
        & > .loss-chart--training { color: $primary; }
        & > .loss-chart--validation { color: $accent; text-style: bold; }
        & > .loss-chart--axis { color: $muted; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("Loss", id=id)
        self._training: tuple[LossPoint, ...] = ()
        self._validation: tuple[LossPoint, ...] = ()
        self._tokens_total = 0
        self._waiting_for = ""

    def show(
        self,
        training: tuple[LossPoint, ...],
        validation: tuple[LossPoint, ...],
        tokens_total: int,
        waiting_for: str = "",
    ) -> None:
        """Show other curves; `waiting_for` is the sentence that stands there while they are empty."""
        self._training = training
        self._validation = validation
        self._tokens_total = tokens_total
        self._waiting_for = waiting_for
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The legend, the field with its y axis, and the x axis."""
        points = [point for point in (*self._training, *self._validation) if math.isfinite(point.loss)]
        if not points:
            return [[]] * (height // 2) + [[(self._waiting_for.center(width), MUTED)]]
        last_tokens = max(point.tokens for point in points)
        tokens_end = x_end(last_tokens, self._tokens_total)
        low, high, step = y_range(points, tokens_end)
        digits = max(0, -math.floor(math.log10(step)))
        gutter = max(len(f"{high:.{digits}f}"), len(f"{low:.{digits}f}")) + 1
        is_roomy = height >= _ROOMY_HEIGHT
        field_width, field_height = width - gutter - 1, height - (3 if is_roomy else 1)
        if field_width < _SMALLEST_FIELD[0] or field_height < _SMALLEST_FIELD[1]:
            return [self._legend()]
        field = BrailleField(field_width, field_height)
        scale = _Scale(tokens_end, low, high, field)
        self._plot(field, scale)
        labels = {scale.row(value): f"{value:.{digits}f}" for value in _ticks(low, high, step, field_height)}
        rows: list[Line] = [
            [(labels.get(y, "").rjust(gutter - 1), AXIS), ("┤" if y in labels else "│", AXIS), *row]
            for y, row in enumerate(field.lines(AXIS))
        ]
        if is_roomy:
            return [self._legend(), *rows, *_x_axis(tokens_end, field_width, gutter)]
        # The curve falls from the left, so that the upper right is where a legend is least in its way.
        legend = self._legend()
        rows[0] = [*cut(rows[0], width - length(legend) - 1), (" ", AXIS), *legend]
        return [*rows, _short_x_axis(tokens_end, field_width, gutter)]

    def _legend(self) -> Line:
        line: Line = [("⠒⠒ training", TRAINING)]
        return [*line, ("  ◆ validation", VALIDATION)] if self._validation else line

    def _plot(self, field: BrailleField, scale: _Scale) -> None:
        previous: tuple[int, int] | None = None
        for point in column_means(self._training, scale.tokens_end, field.width):
            here = scale.dot(point)
            field.line(previous or here, here, TRAINING)
            previous = here
        for point in self._validation:
            if math.isfinite(point.loss):
                field.mark(*scale.dot(point), "◆", VALIDATION)


class _Scale:
    """From tokens and loss to dots."""

    def __init__(self, tokens_end: int, low: float, high: float, field: BrailleField) -> None:
        self.tokens_end = tokens_end
        self._low = low
        self._high = high
        self._width = 2 * field.width - 1
        self._height = 4 * field.height - 1

    def dot(self, point: LossPoint) -> tuple[int, int]:
        """Where a point lies; above the field, y is negative."""
        return round(point.tokens / self.tokens_end * self._width), self._y(point.loss)

    def row(self, loss: float) -> int:
        """The row of cells that a loss lies in."""
        return self._y(loss) // 4

    def _y(self, loss: float) -> int:
        return round((self._high - loss) / (self._high - self._low) * self._height)


def column_means(points: Sequence[LossPoint], tokens_end: int, num_columns: int) -> list[LossPoint]:
    """One point a column of cells, the mean of what falls into it: the noise of single steps hides the curve."""
    columns: dict[int, list[LossPoint]] = {}
    for point in points:
        if math.isfinite(point.loss):
            columns.setdefault(point.tokens * num_columns // (tokens_end + 1), []).append(point)
    return [
        LossPoint(
            tokens=sum(p.tokens for p in group) // len(group), loss=sum(p.loss for p in group) / len(group)
        )
        for group in columns.values()
    ]


def x_end(last_tokens: int, tokens_total: int) -> int:
    """The end of the x axis: the run's tokens halved as often as the curve still fits."""
    end = max(tokens_total, last_tokens, 1)
    while end // 2 >= max(last_tokens, 1):
        end //= 2
    return end


def y_range(points: Sequence[LossPoint], tokens_end: int) -> tuple[float, float, float]:
    """Bottom and top of the y axis, both multiples of the step, and the step."""
    settled = [point.loss for point in points if point.tokens > tokens_end * _SETTLED_FRAC]
    losses = settled if len(settled) >= 5 else [point.loss for point in points]
    low, high = min(point.loss for point in points), max(losses)
    step = nice_step(max(high - low, 0.02) / 4)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return bottom, max(top, bottom + step), step


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _ticks(low: float, high: float, step: float, num_rows: int) -> list[float]:
    num_steps = round((high - low) / step)
    every = max(1, -(-(num_steps + 1) // max(2, num_rows // 2)))
    return [low + step * index for index in range(0, num_steps + 1, every)]


def _x_axis(tokens_end: int, width: int, gutter: int) -> list[Line]:
    num_ticks = 4 if width >= 48 else 2
    places = [round(index * (width - 1) / num_ticks) for index in range(num_ticks + 1)]
    rule = ["─"] * width
    labels = [" "] * width
    for index, place in enumerate(places):
        text = fmt.count(tokens_end * index / num_ticks)
        if index == num_ticks:
            text += " tokens"
        start = min(max(0, place - len(text) // 2), width - len(text))
        rule[place] = "┬"
        if start > 0 and labels[start - 1] != " ":
            continue
        labels[start : start + len(text)] = text
    pad = " " * (gutter - 1)
    axis: Line = [(pad + "└" + "".join(rule), AXIS)]
    names: Line = [(pad + " " + "".join(labels), AXIS)]
    assert length(axis) == length(names)
    return [axis, names]


def _short_x_axis(tokens_end: int, width: int, gutter: int) -> Line:
    """The rule with the numbers in it."""
    middle, end = fmt.count(tokens_end / 2), f"{fmt.count(tokens_end)} tokens"
    rule = list("─" * width)
    start = width // 2 - len(middle) // 2
    rule[start : start + len(middle)] = middle
    rule[width - len(end) :] = end
    return [(" " * (gutter - 1) + "└0" + "".join(rule[1:]), AXIS)]
