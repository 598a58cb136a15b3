"""The ledger screen: what every run cost, and what they came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Static

from engine.errors import EngineError
from engine.records import LedgerEntry
from tui import format as fmt
from tui.bridge import in_thread
from tui.messages import CallFailed, LedgerArrived
from tui.screens.room import RoomScreen
from tui.widgets.facts_panel import Fact, FactsPanel
from tui.widgets.lines import MUTED, STRONG, TEXT
from tui.widgets.panel import Panel
from tui.widgets.record_table import Column, RecordTable

COLUMNS: tuple[Column[LedgerEntry], ...] = (
    Column("Run", lambda entry: fmt.clean(entry.run_id)),
    Column("State", lambda entry: fmt.clean(entry.state)),
    Column(
        "Model", lambda entry: f"{fmt.clean(entry.preset)} {fmt.count(entry.parameters)}", is_for_wide=True
    ),
    Column("Tokens", lambda entry: fmt.count(entry.tokens), is_number=True),
    Column("Took", lambda entry: fmt.duration(entry.elapsed_s), is_number=True),
    Column("GPU", lambda entry: fmt.energy(entry.gpu_energy_j), is_number=True, is_for_wide=True),
    Column("Machine", lambda entry: fmt.energy(entry.machine_energy_j), is_number=True),
    Column("Source", lambda entry: fmt.clean(entry.energy_source or fmt.UNKNOWN), is_for_wide=True),
    Column("Cost", lambda entry: fmt.money(entry.cost, entry.currency), is_number=True),
)


class LedgerScreen(RoomScreen):
    """Reads the ledger as it is shown, and when a run has changed its state."""

    MODE = "ledger"
    CSS_PATH = "ledger.tcss"
    AUTO_FOCUS = "RecordTable"
    HELP_TEXT = """
What every run cost: tokens, hours, energy, money. An entry stays when the run's folder is gone.
A total says "at least" where a part of it is unknown.

  r        read the ledger again
  j k ↑ ↓  select an entry; more on it stands below
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "read_ledger", "Read again", id="ledger.read"),
    ]
    table = getters.query_one("#table", RecordTable)
    about = getters.query_one("#about", FactsPanel)
    totals = getters.query_one("#totals", Static)

    def compose_room(self) -> ComposeResult:
        """The table, the totals, more on the selected entry."""
        yield RecordTable(COLUMNS, id="table")
        yield Static("", id="totals", markup=False)
        yield Static(
            Content("No run has been booked yet: the first entry is made when a run begins."), id="nothing"
        )
        yield FactsPanel(
            "Selected entry", id="about", column_width=36, help_text="More on the entry under the cursor."
        )

    def on_mount(self) -> None:
        """Follow the states of the runs: a run that ends makes an entry."""
        super().on_mount()
        self._states: tuple[tuple[str, str], ...] | None = None
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
        except EngineError as error:
            self.app.post_message(CallFailed(error.title, error.remedy))

    @on(LedgerArrived)
    def _show(self, message: LedgerArrived) -> None:
        entries = sorted(message.entries, key=lambda entry: entry.started_at, reverse=True)
        self.set_class(not entries, "-empty")
        self.table.show({entry.run_id: entry for entry in entries})
        self.totals.update(Content(totals_text(entries)))
        self._show_selected()

    @on(DataTable.RowHighlighted)
    def _show_selected(self) -> None:
        entry = self.table.selected
        self.about.show(_facts(entry) if entry else [("No entry yet.", "A run makes one.", MUTED)])

    def panel_to_maximise(self) -> Panel | None:
        """The facts of the selected entry."""
        return super().panel_to_maximise() or self.about


def totals_text(entries: Sequence[LedgerEntry]) -> str:
    """What all entries come to; "at least" where a part is unknown, one sum a currency."""
    if not entries:
        return "No run has been booked yet."
    parts = [
        "1 run" if len(entries) == 1 else f"{len(entries)} runs",
        f"{fmt.count(sum(entry.tokens for entry in entries))} tokens",
        fmt.duration(sum(entry.elapsed_s for entry in entries)),
        at_least([entry.machine_energy_j for entry in entries], fmt.energy),
    ]
    for currency in sorted({entry.currency for entry in entries}):
        costs = [entry.cost for entry in entries if entry.currency == currency]
        parts.append(at_least(costs, partial(fmt.money, currency=currency)))
    return f"{parts[0]}: {', '.join(parts[1:])}"


def at_least(amounts: list[float | None], write: Callable[[float | None], str]) -> str:
    """The sum of what is known; unknown where nothing is."""
    known = [amount for amount in amounts if amount is not None]
    text = write(sum(known) if known else None)
    return text if len(known) == len(amounts) or not known else f"at least {text}"


def _facts(entry: LedgerEntry) -> list[Fact]:
    co2 = fmt.UNKNOWN if entry.grams_co2 is None else f"{entry.grams_co2:.0f} g"
    return [
        ("ended", f"{fmt.date(entry.at)} {fmt.clean(entry.state)}", STRONG),
        ("began", fmt.date(entry.started_at), TEXT),
        ("device", fmt.clean(entry.device), TEXT),
        ("corpus", fmt.clean(entry.corpus), TEXT),
        ("validation", fmt.number(entry.val_loss, 3), TEXT),
        ("bits a byte", fmt.number(entry.val_bits_per_byte, 3), TEXT),
        ("GPU energy", fmt.energy(entry.gpu_energy_j), TEXT),
        ("machine", f"{fmt.energy(entry.machine_energy_j)} {fmt.clean(entry.energy_source or '')}", TEXT),
        ("price", f"{entry.price_per_kwh:g} {entry.currency} a kWh", TEXT),
        ("cost", fmt.money(entry.cost, entry.currency), STRONG),
        ("storage", fmt.size(entry.storage_bytes), TEXT),
        ("CO2", co2, TEXT),
        (
            "GPU at most",
            f"{fmt.whole(entry.gpu_celsius_max, '°C')}, {fmt.whole(entry.gpu_watts_max, 'W')}",
            TEXT,
        ),
        ("CPU at most", fmt.whole(entry.cpu_celsius_max, "°C"), TEXT),
        ("mean power", fmt.whole(entry.machine_watts_mean, "W"), TEXT),
        ("restarts", str(entry.restarts), TEXT),
        ("not counted", fmt.duration(entry.gap_s), TEXT),
        ("waived", fmt.clean(entry.waivers) if entry.waivers not in ("", "{}") else "nothing", TEXT),
    ]
