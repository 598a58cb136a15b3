"""The selected entry of the ledger: its three books, plan against actual, here against the cloud, money by the day."""

from __future__ import annotations

from collections.abc import Sequence

from engine.bill import BreakEven, DayLine, EntryDetail, StorageBook
from engine.records import LedgerEntry
from tui import format as fmt
from tui.language import tr
from tui.widgets.lines import BLUE, FAINT, MUTED, ORANGE, STRONG, TEXT, Line, crop, length
from tui.widgets.panel import Panel
from tui.widgets.plan_panels import bar

Row = tuple[str, str]
_LABEL_WIDTH = 10


class BooksPanel(Panel):
    """Compute, storage and energy of one run, a column each."""

    HELP = (
        "The three books of the selected run: compute, storage and energy. Each column goes from what weighs most to "
        "what weighs least; z shows all of it."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Compute · Storage · Energy"), id=id)
        self._entry: LedgerEntry | None = None
        self._storage: StorageBook | None = None

    def show(self, entry: LedgerEntry | None, detail: EntryDetail | None) -> None:
        """Show another entry; `detail` is None until it was worked out."""
        self._entry, self._storage = entry, detail.storage if detail else None
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """Three columns, or what fits of them."""
        entry = self._entry
        if entry is None:
            return [[(tr("No entry yet: a run makes one."), MUTED)]]
        books = (_compute(entry), _storage(entry, self._storage), _energy(entry))
        gap = 2
        column = (width - gap * (len(books) - 1)) // len(books)
        lines: list[Line] = []
        for index in range(min(height, max(map(len, books)))):
            line: Line = []
            for book in books:
                label, value = book[index] if index < len(book) else ("", "")
                style = STRONG if index == 0 else TEXT
                cell = crop([(label.ljust(_LABEL_WIDTH), MUTED), (value, style)], column)
                line += [*cell, (" " * (column - length(cell) + gap), TEXT)]
            lines.append(line)
        return lines


def _compute(entry: LedgerEntry) -> list[Row]:
    per_million = None if entry.cost is None or not entry.tokens else entry.cost / entry.tokens * 1e6
    return [
        (tr("took"), fmt.duration(entry.elapsed_s)),
        (tr("tokens"), fmt.count(entry.tokens)),
        (tr("1 M cost"), fmt.money(per_million, entry.currency)),
        (tr("speed"), tr("{speed} tok/s", speed=fmt.count(entry.training_tokens_per_s))),
        (tr("memory"), fmt.size(entry.memory_bytes)),
        (tr("restarts"), str(entry.restarts)),
        (tr("validated"), fmt.number(entry.val_loss, 3)),
        (tr("bits/byte"), fmt.number(entry.val_bits_per_byte, 3)),
        (tr("device"), fmt.clean(entry.device)),
        (tr("corpus"), fmt.clean(entry.corpus)),
        (tr("began"), fmt.date(entry.started_at)),
        (tr("booked"), fmt.date(entry.at)),
        (tr("waived"), fmt.clean(entry.waivers) if entry.waivers not in ("", "{}") else tr("nothing")),
    ]


def _storage(entry: LedgerEntry, book: StorageBook | None) -> list[Row]:
    rows = [
        (tr("run"), fmt.size(entry.storage_bytes)),
        (tr("checkpts"), fmt.size(entry.checkpoints_bytes)),
        (tr("model"), fmt.size(entry.model_bytes)),
        (tr("shards"), fmt.size(entry.shards_bytes)),
    ]
    if book is None:
        return [*rows, ("run.db", fmt.size(entry.database_bytes)), (tr("text"), fmt.size(entry.corpus_bytes))]
    return [
        *rows,
        (tr("can go"), fmt.size(book.retention_bytes)),
        (tr("at end"), fmt.size(book.forecast_bytes)),
        (
            tr("month"),
            tr("{amount} in the cloud", amount=fmt.money(book.cloud_usd_per_month, "USD")),
        ),
        ("run.db", fmt.size(book.database_bytes)),
        (tr("text"), fmt.size(book.corpus_bytes)),
        *((fmt.clean(point.name), fmt.size(point.num_bytes)) for point in reversed(book.checkpoints)),
        ("", fmt.said(book.retention_basis)),
        ("", fmt.said(book.cloud_basis)),
    ]


def _energy(entry: LedgerEntry) -> list[Row]:
    known = entry.machine_energy_j
    joules = None if known is None or not entry.tokens else known / entry.tokens
    at_least = "≥ " if entry.gap_s >= 1 and known is not None else ""
    co2 = fmt.UNKNOWN if entry.grams_co2 is None else f"{fmt.figures(entry.grams_co2)} g"
    return [
        (tr("machine"), f"{at_least}{fmt.energy(known)}"),
        (tr("source"), tr(fmt.clean(entry.energy_source or fmt.UNKNOWN))),
        ("GPU", fmt.energy(entry.gpu_energy_j)),
        (tr("J/token"), fmt.UNKNOWN if joules is None else fmt.figures(joules)),
        (tr("cost"), f"{at_least}{fmt.money(entry.cost, entry.currency)}"),
        (tr("a kWh"), f"{fmt.short(entry.price_per_kwh)} {entry.currency}"),
        (tr("mean"), fmt.whole(entry.machine_watts_mean, "W")),
        (tr("GPU max"), f"{fmt.whole(entry.gpu_watts_max, 'W')}, {fmt.whole(entry.gpu_celsius_max, '°C')}"),
        (tr("CPU max"), fmt.whole(entry.cpu_celsius_max, "°C")),
        (tr("gaps"), fmt.duration(entry.gap_s)),
        ("CO2", co2),
    ]


class PredictedPanel(Panel):
    """What the plan said at the start, beside what came."""

    HELP = "What the plan said of the whole run as it started, and what came."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Plan → actual"), id=id)
        self._entry: LedgerEntry | None = None

    def show(self, entry: LedgerEntry | None) -> None:
        """Show another entry."""
        self._entry = entry
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """Memory, hours, energy and money, a line each."""
        entry = self._entry
        if entry is None:
            return []
        if entry.predicted_memory_bytes is None:
            return [[(tr("No plan was kept."), MUTED)]]
        money = fmt.money(entry.predicted_cost, entry.currency).removesuffix(f" {entry.currency}")
        rows = [
            (tr("time"), fmt.hours(entry.predicted_hours), fmt.duration(entry.elapsed_s)),
            (tr("used"), fmt.kwh(entry.predicted_machine_kwh), fmt.energy(entry.machine_energy_j)),
            (tr("cost"), money, fmt.money(entry.cost, entry.currency)),
            (tr("held"), fmt.size(entry.predicted_memory_bytes), fmt.size(entry.memory_bytes)),
            ("GPU", fmt.kwh(entry.predicted_gpu_kwh), fmt.energy(entry.gpu_energy_j)),
        ]
        lines = [_planned_row(label, said, came, width) for label, said, came in rows]
        share = entry.tokens / entry.tokens_total if entry.tokens_total else 1.0
        if share < 1:
            lines[4:] = [[(tr("planned whole; {share} done", share=fmt.percent(share)), MUTED)], *lines[4:]]
        lines.append([(fmt.said(entry.predicted_basis), FAINT)])
        return [crop(line, width) for line in lines[:height]]


def _planned_row(label: str, said: str, came: str, width: int) -> Line:
    """Plan and actual; where both are too long, a duration that came is told in its larger unit."""
    if 6 + len(said) + 3 + len(came) > width:
        came = " ".join(came.split()[:2])
    return [(label.ljust(6), MUTED), (said, TEXT), (" → ", FAINT), (came, STRONG)]


class CloudBarsPanel(Panel):
    """What the run has cost here and would have cost elsewhere, as bars of one scale."""

    HELP = "Electricity here, and the rent that the same work would have cost elsewhere, in your currency."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Here and in the cloud"), id=id)
        self._entry: LedgerEntry | None = None
        self._even: Sequence[BreakEven] = ()

    def show(self, entry: LedgerEntry | None, detail: EntryDetail | None) -> None:
        """Show another entry; `detail` is None until it was worked out."""
        self._entry, self._even = entry, detail.break_even if detail else ()
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """A bar here, a bar an offer."""
        entry = self._entry
        if entry is None:
            return []
        is_wide = width >= 34
        offers = [(_name(even, is_wide), even.cloud, ORANGE) for even in self._even]
        amounts: list[tuple[str, float | None, str]] = [(tr("here"), entry.cost, BLUE), *offers]
        most = max((amount for _, amount, _ in amounts if amount is not None), default=0.0)
        name_width = min(20, max(len(name) for name, _, _ in amounts)) + 1
        moneys = [fmt.money(amount, entry.currency) for _, amount, _ in amounts]
        money_width = max(map(len, moneys)) + 1
        bar_width = max(1, width - name_width - money_width)
        lines: list[Line] = []
        for name, amount, style in amounts[:height]:
            shown = bar(amount / most if amount is not None and most else 0.0, bar_width)
            line: Line = [
                (name[: name_width - 1].ljust(name_width), MUTED),
                (fmt.money(amount, entry.currency).ljust(money_width), TEXT),
                (shown, style),
            ]
            lines.append(crop(line, width))
        if any(even.cloud is None for even in self._even) and len(lines) < height:
            lines.append(crop([(tr("set cloud.currency_per_usd to compare"), MUTED)], width))
        return lines


def _name(even: BreakEven, is_wide: bool) -> str:
    """An offer in few letters: how it is sold, and where there is room on what."""
    short = {"quoted": tr("course"), "on-demand": tr("rented"), "marketplace": tr("market")}
    kind = short.get(even.kind, tr(fmt.clean(even.kind)))
    gpu = fmt.clean(even.gpu).removeprefix("NVIDIA ").removeprefix("GeForce ")
    return f"{kind} {gpu}" if is_wide else kind


class DaysPanel(Panel):
    """Money by the day, over all runs of one currency."""

    HELP = "What electricity has cost on each day, over all runs; the newest day at the right."
    _BLOCKS = " ▁▂▃▄▅▆▇█"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Money a day"), id=id)
        self._days: list[tuple[str, float]] = []
        self._currency = ""

    def show(self, days: Sequence[DayLine], currency: str) -> None:
        """Show the days of the runs that were paid in `currency`."""
        sums: dict[str, float] = {}
        for day in days:
            if day.cost is not None:
                sums[day.day] = sums.get(day.day, 0.0) + day.cost
        self._days, self._currency = sorted(sums.items()), currency
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """A column a day, its scale above, the first and the last day below."""
        if not self._days:
            return [[(tr("No day is known yet."), MUTED)]]
        wide = 2 if 2 * len(self._days) <= width else 1
        days = self._days[-(width // wide) :]
        most = max(cost for _, cost in days)
        rows = max(1, height - 2)
        levels = [round(cost / most * rows * 8) if most else 0 for _, cost in days]
        levels = [max(1, level) for level in levels]
        lines: list[Line] = [[(tr("max "), MUTED), (fmt.money(most, self._currency), TEXT)]]
        for below in range(rows - 1, -1, -1):
            cells = (self._BLOCKS[min(8, max(0, level - 8 * below))] for level in levels)
            lines.append([("".join((cell * wide)[:wide] for cell in cells), BLUE)])
        first, last = days[0][0], days[-1][0]
        text = tr("{first} to {last}", first=fmt.day_of_year(first), last=fmt.day_of_year(last))
        text = fmt.day(last) if first == last else text
        lines.append([(text, MUTED)])
        return [crop(line, width) for line in lines[:height]]
