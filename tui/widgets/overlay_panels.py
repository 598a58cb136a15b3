"""Runs beside each other: their curves in one chart, what the cursor reads of each, and where their settings differ."""

from __future__ import annotations

from typing import ClassVar

from textual.events import Resize
from textual.message import Message

from engine.shelf import Comparison, RunCurves
from tui import format as fmt
from tui.language import figure, tr, trn
from tui.widgets.curve_chart import Curve, CurveChart, round_ends
from tui.widgets.lines import FAINT, MUTED, STRONG, TEXT, Line, crop, length
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

STYLES = tuple(f"overlay--{number}" for number in range(6))
"""One for each run; their letter tells them apart too."""
LETTERS = "abcdef"
MOST_RUNS = len(STYLES)
_STYLE_RULES = """
        & > .overlay--0 { color: $primary; }
        & > .overlay--1 { color: $accent; }
        & > .overlay--2 { color: $success; }
        & > .overlay--3 { color: $warning; }
        & > .overlay--4 { color: $error; }
        & > .overlay--5 { color: $foreground; }
"""


class OverlayChart(CurveChart):
    """The losses of several runs over their tokens."""

    HELP = (
        "The losses of the marked runs over the tokens they were trained on, each with its letter at its end. The "
        "cursor reads all of them at the same number of tokens.\n"
        "  ← → h l      the cursor; shift goes faster, home and end to the ends\n"
        "  v            validation or training\n"
        "  y            logarithmic or linear      m  smoothed"
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)
    DEFAULT_CSS = f"""
    OverlayChart {{ {_STYLE_RULES} }}
    """

    class Resized(Message):
        """It has another size, or its first."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Training loss"), id=id)

    def on_resize(self, event: Resize) -> None:
        """Draw for the new size, and tell."""
        super().on_resize(event)
        event.prevent_default()
        self.post_message(self.Resized())

    def show(self, runs: tuple[RunCurves, ...], is_validation: bool) -> None:
        """Show other runs, or the other of their losses."""
        self._title = tr("Validation loss") if is_validation else tr("Training loss")
        curves = [
            Curve(
                LETTERS[index],
                STYLES[index],
                run.val_losses if is_validation else run.train_losses,
                "",
                LETTERS[index],
            )
            for index, run in enumerate(runs)
        ]
        last = max((point.tokens for curve in curves for point in curve.points), default=1)
        self.show_curves(curves, (0, round_ends(0, last)[1]), tr("None of them has made a step."))
        self._name_looks()


class ReadingsPanel(Panel):
    """A row a run: what it reads at the cursor, and how far that is from the first run."""

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
        self.border_title = tr("Runs") if at is None else tr("At {at} tokens", at=fmt.count(at))
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """Letter, loss, distance, and the run's name and tags as far as there is room."""
        values = [self._value(index) for index in range(len(self._runs))]
        rows: list[Line] = []
        for index, (run, value) in enumerate(zip(self._runs, values, strict=True)):
            apart = value - values[0] if index and value is not None and values[0] is not None else None
            line: Line = [
                (f"{LETTERS[index]} ", STYLES[index]),
                (fmt.number(value, 3).rjust(7), STRONG),
                (f" {figure(format(apart, '+.3f'))}" if apart is not None else " " * 7, MUTED),
                (f"  {fmt.clean(run.run_id)}", TEXT),
                (f"  {fmt.count(run.tokens)}", MUTED),
            ]
            more = [tr("val. {loss}", loss=fmt.number(run.val_loss, 3)), fmt.duration(run.elapsed_s)]
            more += [fmt.money(run.cost, run.currency), *(f"#{fmt.clean(tag)}" for tag in run.tags)]
            for text in more:
                if length(line) + len(text) + 2 <= width:
                    line.append((f"  {text}", MUTED))
            rows.append(crop(line, width))
        return rows

    def _value(self, index: int) -> float | None:
        chart = self._chart
        if chart is None or chart.cursor_tokens is None:
            return self._runs[index].loss
        point = chart.reading(chart.curves[index])
        return None if point is None else point.loss


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
