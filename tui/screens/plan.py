"""The plan screen: before anything runs, whether it fits, how long it takes, what it costs, and whether the cloud is
the better deal.

The figures come from the engine in a thread; nothing is worked out here.
"""

from __future__ import annotations

from typing import ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Resize
from textual.geometry import Size
from textual.widgets import DataTable, Static

from engine.errors import EngineError
from engine.records import CloudQuote
from tui import format as fmt
from tui.language import told, tr
from tui.messages import EstimateArrived, EstimateFailed
from tui.plan_text import HERE, by_kind, here_beside, short_gpu
from tui.screens.room import RoomScreen
from tui.threads import in_thread
from tui.widgets.lines import wrap
from tui.widgets.panel import Panel
from tui.widgets.plan_panels import BreakEvenPanel, ForecastPanel, MemoryPanel
from tui.widgets.record_table import Column, RecordTable

COLUMNS: tuple[Column[CloudQuote], ...] = (
    Column("Offer", lambda quote: fmt.clean(quote.provider)),
    Column("GPU", lambda quote: short_gpu(quote.gpu)),
    Column("Kind", lambda quote: tr(fmt.clean(quote.kind)) if quote.is_for_this_run else tr("as quoted")),
    Column(
        "USD", lambda quote: fmt.money(quote.usd, "").strip(), is_number=True, sort=lambda quote: quote.usd
    ),
    Column("Time", lambda quote: fmt.hours(quote.hours), is_number=True, sort=lambda quote: quote.hours),
    Column(
        "From",
        lambda quote: fmt.hours(quote.hours_low),
        is_number=True,
        is_for_wide=True,
        sort=lambda quote: quote.hours_low,
    ),
    Column(
        "To",
        lambda quote: fmt.hours(quote.hours_high),
        is_number=True,
        is_for_wide=True,
        sort=lambda quote: quote.hours_high,
    ),
    Column(
        "USD/h",
        lambda quote: fmt.number(quote.usd_per_hour, 2),
        is_number=True,
        sort=lambda quote: quote.usd_per_hour,
    ),
    Column(
        "As of",
        lambda quote: tr("now") if quote.kind in ("yours", HERE) else fmt.day(fmt.clean(quote.as_of)),
        is_for_wide=True,
    ),
)


class OfferTable(RecordTable[CloudQuote]):
    """The offers, and among them this machine."""

    def row_style(self, record: CloudQuote) -> str:
        """This machine stands out wherever it is sorted to."""
        return "bold" if record.kind == HERE else ""


class PlanScreen(RoomScreen):
    """Asks for the plan when it is shown, and again with r."""

    MODE = "plan"
    CSS_PATH = "plan.tcss"
    AUTO_FOCUS = "RecordTable"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall"), (45, "-high")]
    HELP_TEXT = """
What a run of these settings would take, before it runs, and what it would cost elsewhere.
Hours are measured by a rehearsal or an earlier run on this machine, else by formula: it says which.
The table: this machine, your own offers, the course's example, then by how they are sold.

  r        work it out again
  s        sort the offers by the next column, S the other way
  j k ↑ ↓  select an offer; what it rests on stands below the table
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "read_plan", "Again", tooltip="Work it out again", id="plan.read"),
    ]
    table = getters.query_one("#offers", RecordTable)
    memory = getters.query_one("#memory", MemoryPanel)
    forecast = getters.query_one("#forecast", ForecastPanel)
    even = getters.query_one("#even", BreakEvenPanel)
    basis = getters.query_one("#basis", Static)

    def compose_room(self) -> ComposeResult:
        """Memory and what it takes, the offers, and where local and cloud swap places."""
        yield Static(Content(tr("Working out the plan …")), id="waiting")
        with Horizontal(id="upper"):
            yield MemoryPanel(id="memory")
            yield ForecastPanel(id="forecast")
        yield OfferTable(COLUMNS, id="offers")
        yield Static("", id="basis", markup=False)
        yield BreakEvenPanel(id="even")

    def on_mount(self) -> None:
        """Nothing stands there until the plan is worked out."""
        super().on_mount()
        self.add_class("-waiting")

    def on_screen_resume(self) -> None:
        """The settings, the free memory and the run that is going may have changed."""
        self.action_read_plan()

    @work(exclusive=True, group="plan", exit_on_error=False)
    async def action_read_plan(self) -> None:
        """Work out the plan."""
        try:
            self.post_message(EstimateArrived(await in_thread(self.room_app.bridge.estimate)))
        except (EngineError, OSError) as error:
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(EstimateFailed(title, remedy))

    @on(EstimateArrived)
    def _show(self, message: EstimateArrived) -> None:
        found = message.estimate
        self.remove_class("-waiting")
        self.memory.show(found.memory)
        self.forecast.show(found)
        quotes = found.move.cloud if found.move else found.cloud
        here = here_beside(found)
        offers = by_kind([*([here] if here else []), *quotes])
        self.table.show({str(number): quote for number, quote in enumerate(offers)})
        even = found.move.break_even if found.move else found.break_even
        hours = found.move.rest_hours if found.move else found.time.hours
        self.even.show(even, found.move, hours, found.cloud_problem)
        self._show_basis()

    @on(EstimateFailed)
    def _show_failure(self, message: EstimateFailed) -> None:
        self.add_class("-waiting")
        why = fmt.said(f"{message.title}\n{message.remedy}".strip(), keep_newlines=True)
        text = tr("{why}\nr tries again.", why=why)
        self.query_one("#waiting", Static).update(Content(text))

    @on(DataTable.RowHighlighted)
    def _show_basis(self) -> None:
        quote = self.table.selected
        if quote is None:
            return
        example = "" if quote.is_for_this_run else tr("As quoted, not for this run. ")
        if quote.kind == HERE:
            text = tr("{basis}. Price: your electricity.", basis=told(quote.basis))
        elif quote.kind == "yours":
            text = tr("{basis}. Price: yours, from settings.toml.", basis=told(quote.basis))
        else:
            text = tr(
                "{example}{basis}. Price: {source}, as of {as_of}.",
                example=example,
                basis=told(quote.basis),
                source=told(quote.source),
                as_of=told(fmt.day(quote.as_of)),
            )
        self.basis.update(Content("\n".join(_first_rows(fmt.clean(text), self.basis.content_size))))

    def on_resize(self, event: Resize) -> None:
        """Another width breaks what the offer rests on elsewhere."""
        self.call_after_refresh(self._show_basis)

    def panel_to_maximise(self) -> Panel | None:
        """The comparison, unless another panel has the focus."""
        return super().panel_to_maximise() or self.even


def _first_rows(text: str, size: Size) -> list[str]:
    """Text as rows of a place; the last one says where there is more of it."""
    width, height = max(1, size.width), max(1, size.height)
    rows = wrap(text, width)
    if len(rows) <= height:
        return rows
    return [*rows[: height - 1], f"{rows[height - 1][: width - 2]} …"]
