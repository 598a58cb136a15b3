"""The comparison: marked runs in one chart with one cursor, and where their settings differ."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from engine.errors import EngineError
from engine.shelf import Comparison
from tui.late_messages import ComparisonArrived
from tui.messages import CallFailed
from tui.screens.room import RoomScreen
from tui.threads import in_thread
from tui.widgets.curve_chart import CurveChart
from tui.widgets.overlay_panels import DifferencesPanel, OverlayChart, ReadingsPanel
from tui.widgets.panel import Panel

READ_EVERY_S = 5.0
"""A run that is going grows in it too."""


class CompareScreen(RoomScreen):
    """Some runs of the list; escape goes back to it."""

    MODE = "runs"
    CSS_PATH = "compare.tcss"
    AUTO_FOCUS = "OverlayChart"
    HORIZONTAL_BREAKPOINTS = [*RoomScreen.HORIZONTAL_BREAKPOINTS, (160, "-broad")]
    HELP_TEXT = """
The marked runs in one chart, what the cursor reads of each, and
the settings in which they differ.

  ← →      a cursor, the same for all runs
  v        validation, or training
  y m      logarithmic; smoothed
  escape   back to the list (the first takes the cursor away)
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "toggle_validation", "Validation", tooltip="Or training", id="compare.validation"),
        Binding("escape", "leave", "Back", tooltip="To the list of runs", id="compare.leave"),
    ]
    chart = getters.query_one(OverlayChart)
    readings = getters.query_one(ReadingsPanel)
    differences = getters.query_one(DifferencesPanel)

    def __init__(self, run_ids: tuple[str, ...]) -> None:
        super().__init__()
        self._run_ids = run_ids
        self._found: Comparison | None = None
        self._is_validation = False

    def compose_room(self) -> ComposeResult:
        """The chart, the readings and the differences."""
        with Container(id="comparison"):
            yield OverlayChart(id="overlay")
            yield ReadingsPanel(id="readings")
            yield DifferencesPanel(id="differences")

    def on_mount(self) -> None:
        """One row for each run, below a heading."""
        super().on_mount()
        height = len(self._run_ids) + 3
        self.readings.styles.height = height
        self.query_one("#comparison").styles.grid_rows = f"{height} 1fr"

    def on_screen_resume(self) -> None:
        """Read while it is looked at."""
        self._follow()

    def on_screen_suspend(self) -> None:
        """Nobody looks."""
        self.workers.cancel_group(self, "compare")

    @work(exclusive=True, group="compare", exit_on_error=False)
    async def _follow(self) -> None:
        """Read them again until all are over; a failure is told once, and may pass."""
        told = ""
        while True:
            try:
                found = await in_thread(self.room_app.bridge.compare, self._run_ids, self.app.size.width)
            except (EngineError, OSError) as error:
                title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
                if title != told:
                    self.app.post_message(CallFailed(title, remedy))
                told = title
            else:
                told = ""
                self.post_message(ComparisonArrived(found))
                if all(run.state.is_over for run in found.runs):
                    return
            await asyncio.sleep(READ_EVERY_S)

    @on(ComparisonArrived)
    def _take(self, message: ComparisonArrived) -> None:
        self._found = message.found
        self._show()

    def _show(self) -> None:
        if self._found is None:
            return
        self.chart.show(self._found.runs, self._is_validation)
        self.readings.show(self._found.runs, self.chart)
        self.differences.show(self._found)

    @on(CurveChart.CursorMoved)
    def _read(self) -> None:
        if self._found is not None:
            self.readings.show(self._found.runs, self.chart)

    def action_toggle_validation(self) -> None:
        """The other of the two losses."""
        self._is_validation = not self._is_validation
        self._show()

    def action_leave(self) -> None:
        """Back to the list."""
        self.app.pop_screen()

    def panel_to_maximise(self) -> Panel | None:
        """The chart, where no panel has the focus."""
        return super().panel_to_maximise() or self.chart
