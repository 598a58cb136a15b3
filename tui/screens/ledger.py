"""The ledger screen: what every run cost, and what they came to."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import DataTable, Static

from engine.bill import DayLine, EntryDetail
from engine.errors import EngineError
from engine.records import LedgerEntry
from tui import format as fmt
from tui.language import tr
from tui.ledger_text import cost_text, energy_text, totals_text
from tui.messages import EntryDetailArrived, LedgerArrived, LedgerFailed
from tui.own_keys import key
from tui.screens.room import RoomScreen
from tui.threads import in_thread
from tui.verbs import state_word
from tui.widgets.ledger_panels import BooksPanel, CloudBarsPanel, DaysPanel, PredictedPanel
from tui.widgets.panel import Panel
from tui.widgets.record_table import Column, RecordTable

COLUMNS: tuple[Column[LedgerEntry], ...] = (
    Column("Run", lambda entry: fmt.clean(entry.run_id)),
    Column("State", lambda entry: state_word(entry.state)),
    Column(
        "Model",
        lambda entry: f"{fmt.clean(entry.preset)} {fmt.count(entry.parameters)}",
        from_width=116,
        sort=lambda entry: entry.parameters,
    ),
    Column("Tokens", lambda entry: fmt.count(entry.tokens), is_number=True, sort=lambda entry: entry.tokens),
    Column(
        "Took",
        lambda entry: fmt.duration(entry.elapsed_s),
        is_number=True,
        sort=lambda entry: entry.elapsed_s,
    ),
    Column(
        "GPU",
        lambda entry: fmt.energy(entry.gpu_energy_j),
        is_number=True,
        is_for_wide=True,
        sort=lambda entry: entry.gpu_energy_j,
    ),
    Column(
        "Machine",
        energy_text,
        is_number=True,
        sort=lambda entry: entry.least_energy_j,
    ),
    Column("Source", lambda entry: tr(fmt.clean(entry.energy_source or fmt.UNKNOWN)), is_for_wide=True),
    Column(
        "Cost",
        cost_text,
        is_number=True,
        sort=lambda entry: entry.least_cost,
    ),
)


class LedgerScreen(RoomScreen):
    """Reads the ledger as it is shown, and when a run has changed its state."""

    MODE = "ledger"
    CSS_PATH = "ledger.tcss"
    AUTO_FOCUS = "RecordTable"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall"), (45, "-high")]
    HELP_TEXT = """
What every run cost: tokens, hours, energy, money. An entry stays when the run's folder is gone.
A total says "at least" where a part of it is unknown. Below: the three books of the selected run, what its plan
said beside what came, the same work in the cloud, and what each day has cost.

  r        read the ledger again
  s        sort by the next column, S the other way; or click a heading
  j k ↑ ↓  select an entry; more on it stands below
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "read_ledger", "Read again", id="ledger.read"),
    ]
    table = getters.query_one("#table", RecordTable)
    books = getters.query_one("#books", BooksPanel)
    predicted = getters.query_one("#predicted", PredictedPanel)
    cloud = getters.query_one("#cloud", CloudBarsPanel)
    days = getters.query_one("#days", DaysPanel)
    nothing = getters.query_one("#nothing", Static)
    totals = getters.query_one("#totals", Static)

    def compose_room(self) -> ComposeResult:
        """The table, the totals, more on the selected entry."""
        yield RecordTable(COLUMNS, id="table")
        yield Static("", id="totals", markup=False)
        yield Static(Content(_nothing()), id="nothing")
        yield BooksPanel(id="books")
        with Horizontal(id="lower"):
            yield PredictedPanel(id="predicted")
            yield CloudBarsPanel(id="cloud")
            yield DaysPanel(id="days")

    def on_mount(self) -> None:
        """Follow the states of the runs: a run that ends makes an entry."""
        super().on_mount()
        self._states: tuple[tuple[str, str], ...] | None = None
        self._details: dict[str, tuple[LedgerEntry, EntryDetail]] = {}
        self._entries: list[LedgerEntry] = []
        self.watch(self.app, "runs", self._read_on_change)

    def on_screen_resume(self) -> None:
        """Read what was written meanwhile."""
        self.action_read_ledger()

    def _read_on_change(self) -> None:
        states = tuple((run.id, run.status.state.value) for run in self.room_app.runs)
        if self._states is not None and states != self._states and self.is_current:
            self.action_read_ledger()
        self._states = states

    @work(exclusive=True, group="ledger", exit_on_error=False)
    async def action_read_ledger(self) -> None:
        """Read the ledger."""
        try:
            self.post_message(LedgerArrived(await in_thread(self.room_app.bridge.ledger)))
        except (EngineError, OSError) as error:
            self.post_message(LedgerFailed(getattr(error, "title", str(error)), getattr(error, "remedy", "")))

    @on(LedgerFailed)
    def _show_failure(self, message: LedgerFailed) -> None:
        """An unreadable ledger is not an empty one: say why in its place."""
        self.add_class("-empty")
        self.offer(True)
        why = fmt.said(f"{message.title}\n{message.remedy}".strip(), keep_newlines=True)
        self.nothing.update(Content(tr("{why}\nr reads it again.", why=why)))

    @on(LedgerArrived)
    def _show(self, message: LedgerArrived) -> None:
        entries = sorted(message.entries, key=lambda entry: entry.started_at, reverse=True)
        self._entries = entries
        self.set_class(not entries, "-empty")
        self.offer(not entries)
        self.nothing.update(Content(_nothing()))
        self.table.show({entry.run_id: entry for entry in entries})
        self.totals.update(Content(totals_text(entries)))
        self._show_selected()

    @on(DataTable.RowHighlighted)
    def _show_selected(self) -> None:
        entry = self.table.selected
        known, detail = self._details.get(entry.run_id, (None, None)) if entry else (None, None)
        if entry is not None and known != entry:
            self._read_detail(entry)
        self.books.show(entry, detail)
        self.cloud.show(entry, detail)
        self.predicted.show(entry)
        currency = entry.currency if entry else ""
        self.days.show(days_of(self._entries, currency), currency)

    @work(exclusive=True, group="ledger-detail", exit_on_error=False)
    async def _read_detail(self, entry: LedgerEntry) -> None:
        """Work out what the entry alone does not say; what cannot be had stays unknown."""
        with contextlib.suppress(EngineError, OSError):
            detail = await in_thread(self.room_app.bridge.entry_detail, entry)
            self._details[entry.run_id] = (entry, detail)
            self.post_message(EntryDetailArrived(entry.run_id, detail))

    @on(EntryDetailArrived)
    def _show_detail(self, message: EntryDetailArrived) -> None:
        entry = self.table.selected
        if entry is not None and entry.run_id == message.run_id:
            self.books.show(entry, message.detail)
            self.cloud.show(entry, message.detail)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is to be seen at large where nothing was booked."""
        if action == "toggle_maximised" and self.has_class("-empty"):
            return False
        return super().check_action(action, parameters)

    def panel_to_maximise(self) -> Panel | None:
        """The books of the selected entry, unless another panel has the focus."""
        return super().panel_to_maximise() or self.books


def _nothing() -> str:
    """What stands there before the first entry, and the ways to one."""
    return tr(
        "No run has been booked yet: the first entry is made at a run's first checkpoint.\n\n{checks} makes the "
        "checks, and {start} there starts a run; {plan} tells what it would cost.",
        checks=key("app.preflight"),
        start=key("preflight.start"),
        plan=key("app.plan"),
    )


def days_of(entries: Sequence[LedgerEntry], currency: str) -> list[DayLine]:
    """The days of every run that was paid in a currency; none of an entry whose days cannot be read."""
    found: list[DayLine] = []
    for entry in entries:
        if entry.currency == currency:
            with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
                found += msgspec.json.decode(entry.days, type=list[DayLine])
    return found
