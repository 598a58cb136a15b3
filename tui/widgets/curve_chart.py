"""Curves over the tokens: lines of braille dots, signs, axes with numbers, and a cursor that reads values.

The axes hold still while a curve grows: their ends are round numbers, so that a refresh changes only the newest cells.
A first steep stretch may leave at the top of a linear axis.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from engine.records import LossPoint
from tui import format as fmt
from tui.language import tr
from tui.widgets.axis import column_means, nice_step, ticks, x_axis, y_range
from tui.widgets.braille import BrailleField
from tui.widgets.lines import MUTED, STRONG, Line, cut, length
from tui.widgets.panel import Panel

AXIS, CURSOR, ROUGH = "curve-chart--axis", "curve-chart--cursor", "curve-chart--rough"

_SMALLEST_FIELD = (8, 2)
"""Cells below which axes would leave no curve."""
_USUAL_GUTTER = 5
_ROOMY_HEIGHT = 10
"""Rows from which the legend and the x axis have rows of their own."""
_SMOOTHING = 0.85
"""What a column weighs beside the next one where the curve is smoothed."""


class Curve(NamedTuple):
    """One curve of a chart."""

    name: str
    """As the legend has it; outside text in it is cleaned."""
    style: str
    points: tuple[LossPoint, ...]
    sign: str = ""
    """What stands for each point; empty: they are a line."""
    end_sign: str = ""
    """What stands at the last point of a line, so that it is told from others by more than its colour."""


class CurveChart(Panel):
    """Curves on one pair of axes; before there are any, what is being waited for."""

    class EdgeReached(Message):
        """The cursor was moved beyond an end of the x axis: -1 the left one, 1 the right one."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    class ZoomAsked(Message):
        """The wheel was turned over the chart: 1 for less and larger, -1 for more and smaller."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    class CursorMoved(Message):
        """The cursor stands elsewhere, or is gone."""

        def __init__(self, chart: CurveChart) -> None:
            super().__init__()
            self.chart = chart

    COMPONENT_CLASSES: ClassVar[set[str]] = {AXIS, CURSOR, ROUGH}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move_cursor(-1)", "Cursor left", show=False, id="chart.left"),
        Binding("right,l", "move_cursor(1)", "Cursor right", show=False, id="chart.right"),
        Binding("shift+left,H", "move_cursor(-10)", "Far left", show=False, id="chart.far-left"),
        Binding("shift+right,L", "move_cursor(10)", "Far right", show=False, id="chart.far-right"),
        Binding("home", "go_to_end(-1)", "First", show=False, id="chart.first"),
        Binding("end", "go_to_end(1)", "Last", show=False, id="chart.last"),
        Binding("escape", "drop_cursor", "No cursor", show=False, id="chart.no-cursor"),
        Binding("y", "toggle_log", "Log", show=False, tooltip="Logarithmic or linear", id="chart.log"),
        Binding("m", "toggle_smooth", "Smooth", show=False, tooltip="A smoothed curve", id="chart.smooth"),
    ]
    DEFAULT_CSS = """
    CurveChart {
        & > .curve-chart--axis { color: $muted; }
        & > .curve-chart--rough { color: $primary 45%; }
        & > .curve-chart--cursor { color: $foreground; }
    }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(title, id=id)
        self._title = title
        self._curves: tuple[Curve, ...] = ()
        self._ends = (0, 1)
        self._waiting_for = ""
        self.is_log = False
        self.is_smooth = False
        self.cursor_tokens: int | None = None
        """Where the cursor stands; None: there is none."""
        self._field_left, self._field_width = 0, 0

    def show_curves(self, curves: Sequence[Curve], ends: tuple[int, int], waiting_for: str = "") -> None:
        """Show other curves between two ends of the x axis; `waiting_for` stands there while they are empty."""
        self._curves, self._ends, self._waiting_for = tuple(curves), ends, waiting_for
        tokens = [point.tokens for curve in curves for point in curve.points]
        if self.cursor_tokens is not None and tokens:
            self.cursor_tokens = max(min(tokens), min(self.cursor_tokens, max(tokens)))
        self.redraw()

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The curves that it shows."""
        return self._curves

    # --- the cursor and the looks -------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is free for others where there is no cursor."""
        return self.cursor_tokens is not None if action == "drop_cursor" else True

    def action_move_cursor(self, columns: int) -> None:
        """Move by columns; the first time, the cursor comes up at the newest point."""
        points = [point.tokens for curve in self._curves for point in curve.points]
        if not points or not self._field_width:
            return
        if self.cursor_tokens is None:
            self._put_cursor(max(points))
            return
        column = self._column(self.cursor_tokens) + columns
        lowest, highest = self._column(min(points)), self._column(max(points))
        if (column < lowest and columns < 0) or (column > highest and columns > 0):
            self.post_message(self.EdgeReached(1 if columns > 0 else -1))
        self._put_cursor(self._tokens_at(max(lowest, min(column, highest))))

    def action_go_to_end(self, direction: int) -> None:
        """To the first or the last point in sight."""
        points = [point.tokens for curve in self._curves for point in curve.points]
        if points:
            self._put_cursor(max(points) if direction > 0 else min(points))

    def action_drop_cursor(self) -> None:
        """Take the cursor away."""
        self._put_cursor(None)

    def _put_cursor(self, tokens: int | None) -> None:
        self.cursor_tokens = tokens
        self.redraw()
        self.post_message(self.CursorMoved(self))

    def action_toggle_log(self) -> None:
        """A logarithmic y axis, or a linear one."""
        self.is_log = not self.is_log
        self._name_looks()

    def action_toggle_smooth(self) -> None:
        """A smoothed curve over the rough one, or that alone."""
        self.is_smooth = not self.is_smooth
        self._name_looks()

    def _name_looks(self) -> None:
        looks = [
            word for word, is_on in ((tr("log"), self.is_log), (tr("smoothed"), self.is_smooth)) if is_on
        ]
        self.border_title = ", ".join([self._title, *looks])
        self.redraw()

    def on_click(self, event: Click) -> None:
        """Put the cursor where one clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and 0 <= offset.x - self._field_left < self._field_width:
            self._put_cursor(self._tokens_at(offset.x - self._field_left))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Less and larger."""
        event.stop()
        self.post_message(self.ZoomAsked(1))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """More and smaller."""
        event.stop()
        self.post_message(self.ZoomAsked(-1))

    # --- from tokens to columns ---------------------------------------------------------------------------------

    def _column(self, tokens: int) -> int:
        start, end = self._ends
        return max(0, min(self._field_width - 1, (tokens - start) * self._field_width // (end - start + 1)))

    def _tokens_at(self, column: int) -> int:
        start, end = self._ends
        return start + (2 * column + 1) * (end - start + 1) // (2 * self._field_width)

    def drawn(self, curve: Curve) -> list[LossPoint]:
        """The points of a line as they are drawn: the mean of each column, smoothed where that is asked for."""
        means = column_means(curve.points, self._ends, self._field_width)
        return smoothed(means) if self.is_smooth else means

    def reading(self, curve: Curve) -> LossPoint | None:
        """The point of a curve that the cursor reads: the newest up to its column; None: it has none, or has ended."""
        if self.cursor_tokens is None or not self._field_width:
            return None
        points = [p for p in curve.points if math.isfinite(p.loss)] if curve.sign else self.drawn(curve)
        column = self._column(self.cursor_tokens)
        if not curve.sign and points and column > self._column(points[-1].tokens):
            return None
        return next((p for p in reversed(points) if self._column(p.tokens) <= column), None)

    # --- drawing ------------------------------------------------------------------------------------------------

    def draw(self, width: int, height: int) -> list[Line]:
        """The legend, the field with its y axis, and the x axis."""
        points = [p for curve in self._curves for p in curve.points if math.isfinite(p.loss)]
        if not points:
            return [[]] * (height // 2) + [[(self._waiting_for.center(width), MUTED)]]
        low, high, step = y_range(self._drawn_points(width) or points, self._ends[1], is_log=self.is_log)
        digits = max(0, -math.floor(math.log10(step)))
        gutter = max(len(fmt.number(high, digits)), len(fmt.number(low, digits))) + 1
        is_roomy = height >= _ROOMY_HEIGHT
        field_width, field_height = width - gutter - 1, height - (3 if is_roomy else 1)
        if field_width < _SMALLEST_FIELD[0] or field_height < _SMALLEST_FIELD[1]:
            return [self._legend(width)]
        self._field_left, self._field_width = gutter, field_width
        field = BrailleField(field_width, field_height)
        scale = _Scale(self._ends, low, high, field, self.is_log)
        self._plot(field, scale)
        labels = {
            scale.row(value): fmt.number(value, digits) for value in ticks(low, high, step, field_height)
        }
        rows: list[Line] = [
            [(labels.get(y, "").rjust(gutter - 1), AXIS), ("┤" if y in labels else "│", AXIS), *row]
            for y, row in enumerate(field.lines(AXIS))
        ]
        if is_roomy:
            return [
                self._legend(width),
                *rows,
                *x_axis(self._ends, field_width, gutter, AXIS, is_short=False),
            ]
        legend = self._legend(width - gutter - 2)
        start = width - length(legend) - 1
        row = min((0, field_height - 1), key=lambda y: field.num_marked(y, start - gutter))
        rows[row] = [*cut(rows[row], start), (" ", AXIS), *legend]
        return [*rows, *x_axis(self._ends, field_width, gutter, AXIS, is_short=True)]

    def _drawn_points(self, width: int) -> list[LossPoint]:
        """What the y axis has to have room for: signs and means of columns, not each noisy point."""
        found: list[LossPoint] = []
        for curve in self._curves:
            if curve.sign:
                found += [point for point in curve.points if math.isfinite(point.loss)]
            else:
                found += column_means(curve.points, self._ends, max(1, width - _USUAL_GUTTER))
        return found

    def _legend(self, width: int) -> Line:
        """What the lines are; with a cursor, what it reads."""
        if self.cursor_tokens is not None:
            return next((line for line in self._readings() if length(line) <= width), [])
        line: Line = []
        rough: Line = []
        for curve in self._curves:
            if not curve.points:
                continue
            name = curve.name
            if self._has_rough and not curve.sign:
                name = tr("{name}, smoothed", name=name)
                rough = [("  ⠒⠒", ROUGH), (" " + tr("as it was"), MUTED)]
            line += [("  " if line else "", MUTED), (f"{curve.sign or '⠒⠒'} {name}", curve.style)]
        return next((told for told in ([*line, *rough], line) if length(told) <= width), [])

    @property
    def _has_rough(self) -> bool:
        """Whether the curve is drawn as it was too, beneath the smoothed one."""
        return self.is_smooth and len(self._curves) <= 2

    def _readings(self) -> list[Line]:
        """What the cursor reads, the longest way of saying it first."""
        read = [(curve, point) for curve in self._curves if (point := self.reading(curve)) is not None]
        if not read:
            return [[(tr("nothing here"), MUTED)]]
        at = read[0][1]
        words: Line = []
        short: Line = []
        for curve, point in read:
            value: Line = [(fmt.number(point.loss, 3), curve.style)]
            words += [(f"  {curve.name} ", MUTED), *value]
            short += [(f" {curve.sign or curve.end_sign or '⠒'} ", curve.style), *value]
        if sum(not curve.sign for curve in self._curves) > 1:
            at = LossPoint(
                tokens=self.cursor_tokens or 0, loss=math.nan
            )  # runs that were elsewhere at other times
        place: Line = [(fmt.count(at.tokens), STRONG)]
        step: Line = [(tr("  step {step}", step=at.step), MUTED)] if at.step is not None else []
        when: Line = [(f"  {fmt.clock(at.at, time.time())}", MUTED)] if at.at is not None else []
        return [
            [*place, (tr(" tokens"), MUTED), *step, *when, *words],
            [*place, *step, *when, *short],
            [*place, *when, *short],
            [*place, *short],
        ]

    def _plot(self, field: BrailleField, scale: _Scale) -> None:
        for curve in self._curves:
            if curve.sign:
                for point in curve.points:
                    if math.isfinite(point.loss):
                        field.mark(*scale.dot(point), curve.sign, curve.style)
                continue
            if self._has_rough:
                _join(field, scale, column_means(curve.points, self._ends, field.width), ROUGH)
            points = self.drawn(curve)
            _join(field, scale, points, curve.style)
            if curve.end_sign and points:
                field.mark(*scale.dot(points[-1]), curve.end_sign, curve.style)
        if self.cursor_tokens is not None and self._ends[0] <= self.cursor_tokens <= self._ends[1]:
            field.column(self._column(self.cursor_tokens), "│", CURSOR)


def _join(field: BrailleField, scale: _Scale, points: Sequence[LossPoint], style: str) -> None:
    previous: tuple[int, int] | None = None
    for point in points:
        here = scale.dot(point)
        field.line(previous or here, here, style)
        previous = here


def smoothed(points: Sequence[LossPoint]) -> list[LossPoint]:
    """The mean of an exponential mean from the left and one from the right: one alone would lag behind its data."""
    losses = [point.loss for point in points]
    forth, back = _exponential_means(losses), _exponential_means(losses[::-1])[::-1]
    return [
        LossPoint(tokens=point.tokens, loss=(one + other) / 2, step=point.step, at=point.at)
        for point, one, other in zip(points, forth, back, strict=True)
    ]


def _exponential_means(values: Sequence[float]) -> list[float]:
    """Not drawn to their beginning. Source: the bias correction of Adam, Kingma 2015."""
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        found.append(mean / weight)
    return found


class _Scale:
    """From tokens and loss to dots."""

    def __init__(
        self, ends: tuple[int, int], low: float, high: float, field: BrailleField, is_log: bool
    ) -> None:
        self._start, self._end = ends
        self._is_log = is_log
        self._low, self._high = self._of(low), self._of(high)
        self._width = 2 * field.width - 1
        self._height = 4 * field.height - 1

    def _of(self, loss: float) -> float:
        return math.log(max(loss, 1e-9)) if self._is_log else loss

    def dot(self, point: LossPoint) -> tuple[int, int]:
        """Where a point lies; above the field, y is negative."""
        frac = (point.tokens - self._start) / max(1, self._end - self._start)
        return round(frac * self._width), self._y(point.loss)

    def row(self, loss: float) -> int:
        """The row of cells that a loss lies in."""
        return self._y(loss) // 4

    def _y(self, loss: float) -> int:
        return round((self._high - self._of(loss)) / (self._high - self._low) * self._height)


def round_ends(first: int, last: int) -> tuple[int, int]:
    """Ends of an x axis around a stretch of tokens, at round numbers so near that little room is lost."""
    step = max(1, round(nice_step(max(last - first, 1) / 20)))
    start, end = first // step * step, -(-last // step) * step
    return start, max(end, start + step)
