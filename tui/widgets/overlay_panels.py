"""Runs beside each other: their curves in one chart, what the cursor reads of each, and where their settings differ."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.message import Message

from engine.records import LossPoint
from engine.shelf import Comparison, RunCurves
from tui import format as fmt
from tui.language import figure, mark, tr, trn
from tui.widgets.curve_chart import Curve, CurveChart, round_ends
from tui.widgets.lines import FAINT, MUTED, STRONG, TEXT, Line, crop, length
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

STYLES = tuple(f"overlay--{number}" for number in range(6))
"""One for each run; their letter tells them apart too."""
LETTERS = "abcdef"
MOST_RUNS = len(STYLES)
_SETTLED_FRAC = 0.2
"""Share of a run's own tokens whose losses do not stretch the y axis."""
_FEWEST_SETTLED = 5
"""Points below which all of a run's count."""
_STYLE_RULES = """
        & > .overlay--0 { color: $primary; }
        & > .overlay--1 { color: $accent; }
        & > .overlay--2 { color: $foreground; }
        & > .overlay--3 { color: $orchid; }
        & > .overlay--4 { color: $secondary; }
        & > .overlay--5 { color: $accent 60%; }
"""
"""None of them means good or bad elsewhere."""


class OverlayChart(CurveChart):
    """The losses of several runs over their tokens."""

    HELP = (
        "The losses of the marked runs over the tokens they were trained on, each with its letter at its end. The "
        "cursor reads all of them at the same number of tokens.\n"
        "  ← → h l      the cursor; shift goes faster, home and end to the ends\n"
        "  v            validation or training\n"
        "  y            logarithmic or linear      m  smoothed"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move_cursor(-1)", "Cursor", key_display="← →", id="chart.left"),
        Binding("y", "toggle_log", "Log axis", tooltip="Logarithmic or linear", id="chart.log"),
        Binding("m", "toggle_smooth", "Smooth", tooltip="A smoothed curve", id="chart.smooth"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)
    DEFAULT_CSS = f"""
    OverlayChart {{ {_STYLE_RULES} }}
    """

    class Resized(Message):
        """It has another size, or its first."""

    def __init__(self, *, is_preview: bool = False, id: str | None = None) -> None:
        super().__init__(tr("Training loss"), id=id)
        self._is_preview = is_preview
        """Whether nothing beside it says what the runs are and what the cursor reads."""

    def on_resize(self, event: Resize) -> None:
        """Draw for the new size, and tell."""
        super().on_resize(event)
        event.prevent_default()
        self.post_message(self.Resized())

    def show(self, runs: tuple[RunCurves, ...], is_validation: bool) -> None:
        """Show other runs, or the other of their losses; one alone needs no letter."""
        self._title = tr("Validation loss") if is_validation else tr("Training loss")
        if self._is_preview and len(runs) == 1:
            self._title = tr("Training loss of {run_id}", run_id=fmt.clean(runs[0].run_id))
        elif self._is_preview and runs:
            self._title = tr("Training loss: {num} marked", num=len(runs))
        letters = LETTERS if len(runs) > 1 else " "
        curves = [
            Curve(letter, style, run.val_losses if is_validation else run.train_losses, "", letter.strip())
            for letter, style, run in zip(letters, STYLES, runs, strict=False)
        ]
        last = max((point.tokens for curve in curves for point in curve.points), default=1)
        self.show_curves(
            curves, (0, round_ends(0, last)[1]), tr("None of them has made a step.") if runs else ""
        )
        self._name_looks()

    def _drawn_points(self, width: int) -> list[LossPoint]:
        """Of each run what comes after its own steep beginning, all of it as if at the end of the axis."""
        if self.is_log:
            return super()._drawn_points(width)
        found: list[LossPoint] = []
        for curve in self.curves:
            points = [point for point in curve.points if math.isfinite(point.loss)]
            settled = [point for point in points if point.tokens > points[-1].tokens * _SETTLED_FRAC]
            found += settled if len(settled) >= _FEWEST_SETTLED else points
        return [LossPoint(tokens=self._ends[1], loss=point.loss) for point in found]

    def _legend(self, width: int) -> Line:
        """The letters, where a table beside it has the readings; of one run alone, nothing."""
        if self._is_preview and self.cursor_tokens is not None:
            return super()._legend(width)
        curves = [curve for curve in self.curves if curve.points and curve.end_sign]
        line = [(f"{curve.name}  ", curve.style) for curve in curves]
        return line if length(line) <= width else []


class _Field(NamedTuple):
    """A column of the readings: its heading, and what stands in it run by run, with its style."""

    heading: str
    cells: list[tuple[str, str]]
    is_number: bool = True


class ReadingsPanel(Panel):
    """A row a run: what it has at the cursor and how far that is from the first; without one, where it stands."""

    HELP = (
        "What each run has at the cursor: the newest point up to it, and how far that is from the first run's. Without "
        "a cursor: where each run stands."
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)
    DEFAULT_CSS = f"""
    ReadingsPanel {{ {_STYLE_RULES} }}
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Runs"), id=id)
        self._runs: tuple[RunCurves, ...] = ()
        self._chart: CurveChart | None = None

    def show(self, runs: tuple[RunCurves, ...], chart: CurveChart) -> None:
        """Show what a chart of these runs reads."""
        self._runs, self._chart = runs, chart
        at = chart.cursor_tokens
        self.border_title = (
            tr("Where the runs stand") if at is None else tr("At {at} tokens", at=fmt.count(at))
        )
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """A heading, and a row a run in the same columns; the last columns are left out where they do not fit."""
        lines: list[Line] = [[] for _ in range(len(self._runs) + 1)]
        for field in self._fields():
            widest = max(len(field.heading), *(len(text) for text, _ in field.cells))
            start = length(lines[0])
            if start and start + widest > width:
                break
            for line, (text, style) in zip(lines, [(field.heading, FAINT), *field.cells], strict=True):
                text = text.rjust(widest) if field.is_number else text.ljust(widest)
                line.append((f"{text}  " if start else f"{text} ", style))
        return [crop(line, width) for line in lines]

    def _fields(self) -> list[_Field]:
        runs, points = self._runs, self._points()
        if not runs:
            return []
        values = [run.loss for run in runs] if points is None else [p.loss if p else None for p in points]
        apart = [
            value - values[0] if index and value is not None and values[0] is not None else None
            for index, value in enumerate(values)
        ]
        distances = ["" if d is None else figure(format(d, "+.3f")) for d in apart]
        fields = [
            _Field("", list(zip(LETTERS, STYLES, strict=True))[: len(runs)]),
            _Field(tr("loss").rjust(7), [(fmt.number(value, 3), STRONG) for value in values]),
            _Field(tr("to a").rjust(6), [(text, MUTED) for text in distances]),
        ]
        name = _Field(tr("run"), [(fmt.clean(run.run_id), TEXT) for run in runs], is_number=False)
        tags = [" ".join(f"#{fmt.clean(tag)}" for tag in run.tags) for run in runs]
        if points is not None:
            steps = ["" if p is None or p.step is None else fmt.thousands(p.step) for p in points]
            fields += [_Field(tr("step"), [(text, MUTED) for text in steps]), name]
        else:
            told = (
                (mark("tokens"), [fmt.count(run.tokens) for run in runs]),
                (mark("val."), [fmt.number(run.val_loss, 3) for run in runs]),
                (mark("took"), [fmt.duration(run.elapsed_s) for run in runs]),
                (mark("cost"), [fmt.money(run.cost, run.currency) for run in runs]),
            )
            fields += [name, *(_Field(tr(word), [(text, MUTED) for text in cells]) for word, cells in told)]
        return (
            [*fields, _Field(tr("tags"), [(text, MUTED) for text in tags], is_number=False)]
            if any(tags)
            else fields
        )

    def _points(self) -> list[LossPoint | None] | None:
        """What the cursor reads of each run; None where there is no cursor."""
        chart = self._chart
        if chart is None or chart.cursor_tokens is None:
            return None
        return [chart.reading(curve) for curve in chart.curves]


class DifferencesPanel(Rows):
    """A row a setting in which the runs differ, a column a run."""

    HELP = (
        "Every setting in which these runs differ, with its value in each; what begins with plan is what auto came to. "
        "A dash is a setting that is not there."
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)
    DEFAULT_CSS = f"""
    DifferencesPanel {{ {_STYLE_RULES} }}
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Different settings"), id=id)
        self._found: Comparison | None = None

    def show(self, found: Comparison) -> None:
        """Show other differences."""
        self._found = found
        self.set_subtitle(trn("{num} difference", "{num} differences", len(found.differences)))
        self.redraw()

    @property
    def num_rows(self) -> int:
        """How many settings differ."""
        return len(self._found.differences) if self._found else 0

    def row(self, index: int, width: int) -> Line:
        """The key, and the value in each run in its colour."""
        if self._found is None:
            return []
        one = self._found.differences[index]
        key_width = min(
            max((len(d.key) for d in self._found.differences), default=0) + 2, max(12, width // 2)
        )
        column = max(6, (width - key_width) // max(1, len(one.values)))
        line: Line = crop([(one.key, MUTED)], key_width - 1)
        line.append((" " * (key_width - length(line)), TEXT))
        for number, value in enumerate(one.values):
            cell = crop([(fmt.clean(value) or fmt.UNKNOWN, STYLES[number])], column - 1)
            line += [*cell, (" " * (column - length(cell)), TEXT)]
        return line

    def when_empty(self) -> list[Line]:
        """No difference is worth a word too."""
        return [[(tr("Their settings are the same.") if self._found else tr("Reading …"), FAINT)]]
