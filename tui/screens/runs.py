"""The runs screen: every run of the workspace, newest first."""

from __future__ import annotations

from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Static

from engine.records import RunSummary
from tui import format as fmt
from tui.dialogs.confirm import StopRunDialog
from tui.messages import RunOpenRequested, VerbRequested
from tui.screens.room import RoomScreen
from tui.verbs import possible_verbs, state_sign
from tui.widgets.facts_panel import Fact, FactsPanel
from tui.widgets.lines import MUTED, STRONG, TEXT
from tui.widgets.panel import Panel
from tui.widgets.record_table import Column, RecordTable


def _state(run: RunSummary) -> str:
    sign, word, _ = state_sign(run.status, run.is_stale)
    return f"{sign} {word}"


def _progress(run: RunSummary) -> str:
    total = run.status.tokens_total
    return fmt.percent((run.status.tokens or 0) / total if total else None)


COLUMNS: tuple[Column[RunSummary], ...] = (
    Column("Run", lambda run: fmt.clean(run.id)),
    Column("State", _state),
    Column("Began", lambda run: fmt.date(run.created_at), is_for_wide=True),
    Column("Model", lambda run: f"{fmt.clean(run.preset)} {fmt.count(run.parameters)}", is_for_wide=True),
    Column("Done", _progress, is_number=True),
    Column("Loss", lambda run: fmt.number(run.status.loss, 3), is_number=True),
    Column("Val.", lambda run: fmt.number(run.status.val_loss, 3), is_number=True),
    Column("Took", lambda run: fmt.duration(run.status.elapsed_s), is_number=True, is_for_wide=True),
    Column("Cost", lambda run: fmt.money(run.status.cost, run.status.currency), is_number=True),
)


class RunTable(RecordTable[RunSummary]):
    """The runs; enter opens the selected one."""

    HELP = "The runs, newest first. Enter shows the selected one on the run screen."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", tooltip="Show it on the run screen", id="runs.open"),
    ]


class RunsScreen(RoomScreen):
    """Shows the app's `runs`; the selected one can be opened, stopped and gone on with."""

    MODE = "runs"
    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RecordTable"
    HELP_TEXT = """
Every run of this workspace, newest first.

  enter    show the selected run on the run screen
  p r      pause it, or go on with it
  x        stop it (asks first)
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "ask('pause')", "Pause", id="runs.pause"),
        Binding("r", "ask('resume')", "Resume", tooltip="Go on with it", id="runs.resume"),
        Binding("x", "stop_run", "Stop", tooltip="Write a checkpoint and end", id="runs.stop"),
    ]
    table = getters.query_one("#table", RecordTable)
    about = getters.query_one("#about", FactsPanel)

    def compose_room(self) -> ComposeResult:
        """The table, and more on the selected run."""
        yield RunTable(COLUMNS, id="table")
        yield Static(Content("No run yet. Press 1 for the checks, and s there to start one."), id="nothing")
        yield FactsPanel(
            "Selected run", id="about", column_width=36, help_text="More on the run under the cursor."
        )

    def on_mount(self) -> None:
        """Follow the list of runs."""
        super().on_mount()
        self.watch(self.app, "runs", self._show)

    def _show(self) -> None:
        self.set_class(not self.room_app.runs, "-empty")
        self.table.show({run.id: run for run in self.room_app.runs})
        self._show_selected()

    @on(DataTable.RowHighlighted)
    def _show_selected(self) -> None:
        run = self.table.selected
        self.about.show(_facts(run) if run else [("No run yet.", "Press 1 for the checks.", MUTED)])
        self.offer(run and (run.id, possible_verbs(run.status)))

    @property
    def _selected(self) -> RunSummary | None:
        run = self.table.selected if self.is_mounted else None
        return run if isinstance(run, RunSummary) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense for the selected run."""
        run = self._selected
        if action in ("ask", "stop_run"):
            verb = parameters[0] if action == "ask" else "stop"
            return run is not None and verb in possible_verbs(run.status)
        return super().check_action(action, parameters)

    @on(DataTable.RowSelected)
    def _open_run(self) -> None:
        """Show the selected run on the run screen."""
        if run := self._selected:
            self.app.post_message(RunOpenRequested(run.id))

    def action_ask(self, verb: str) -> None:
        """Ask the selected run for something."""
        if run := self._selected:
            self.app.post_message(VerbRequested(run.id, verb))

    def action_stop_run(self) -> None:
        """Stop the selected run, once that is confirmed."""
        run = self._selected
        if run is None:
            return

        def stop(is_sure: bool | None) -> None:
            if is_sure:
                self.app.post_message(VerbRequested(run.id, "stop"))

        self.app.push_screen(StopRunDialog(run.id), stop)

    def panel_to_maximise(self) -> Panel | None:
        """The facts of the selected run."""
        return super().panel_to_maximise() or self.about


def _facts(run: RunSummary) -> list[Fact]:
    status = run.status
    return [
        ("state", _state(run), STRONG),
        ("began", fmt.date(run.created_at), TEXT),
        ("model", f"{fmt.clean(run.preset)}, {fmt.count(run.parameters)} parameters", TEXT),
        ("tokens", f"{fmt.count(status.tokens)} of {fmt.count(status.tokens_total)}", TEXT),
        ("speed", f"{fmt.count(status.tokens_per_second)} tokens/s", TEXT),
        ("took", fmt.duration(status.elapsed_s), TEXT),
        ("left", fmt.duration(status.eta_s), TEXT),
        ("bits a byte", fmt.number(status.val_bits_per_byte, 3), TEXT),
        ("energy", f"{fmt.energy(status.machine_energy_j)} {fmt.clean(status.energy_source or '')}", TEXT),
        ("cost", fmt.money(status.cost, status.currency), TEXT),
        ("restarts", str(status.restarts), TEXT),
        ("reason", fmt.clean(status.reason or fmt.UNKNOWN), TEXT),
    ]
