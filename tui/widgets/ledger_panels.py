"""The selected entry of the ledger: its three books, plan against actual, here against the cloud, money by the day."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import date, timedelta

from engine.bill import BreakEven, DayLine, EntryDetail, StorageBook
from engine.records import LedgerEntry
from tui import format as fmt
from tui.language import mark, tr
from tui.ledger_text import cost_text, energy_text
from tui.widgets.cut_panel import CutPanel
from tui.widgets.lines import BLUE, FAINT, MUTED, ORANGE, STRONG, TEXT, Line, crop, length, wrap
from tui.widgets.panel import Panel
from tui.widgets.plan_panels import bar

Row = tuple[str, str]
_LABEL_WIDTH, _LONG_LABEL_WIDTH = 10, 20
_LONG_FROM = 34
"""Width of a book from which its labels are written out."""
_LONG = {
    "1 M cost": mark("cost of 1 M tokens"),
    "validated": mark("validation loss"),
    "checkpts": mark("checkpoints"),
    "can go": mark("can be deleted now"),
    "at end": mark("at the run's end"),
    "month": mark("a month of it"),
    "J/token": mark("joules a token"),
    "a kWh": mark("price of a kWh"),
    "mean": mark("mean power"),
    "GPU max": mark("GPU at most"),
    "CPU max": mark("CPU at most"),
    "gaps": mark("power unknown for"),
}
_MOST_DAY_WIDTH = 8


class BooksPanel(CutPanel):
    """Compute, storage and energy of one run, a column each."""

    HELP = (
        "The three books of the selected run: compute, storage and energy. Each column goes from what weighs most to "
        "what weighs least; z shows all of it."
    )
    is_meant_by_z = True

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Compute · Storage · Energy"), id=id)
        self._entry: LedgerEntry | None = None
        self._storage: StorageBook | None = None

    def show(self, entry: LedgerEntry | None, detail: EntryDetail | None) -> None:
        """Show another entry; `detail` is None until it was worked out."""
        self._entry, self._storage = entry, detail.storage if detail else None
        self.redraw()

    def whole(self, width: int, height: int) -> list[Line]:
        """Three columns."""
        entry = self._entry
        if entry is None:
            return [[(tr("No entry yet: a run makes one."), MUTED)]]
        gap = 2
        column = (width - 2 * gap) // 3
        books = [
            _cells(book, column) for book in (_compute(entry), _storage(entry, self._storage), _energy(entry))
        ]
        lines: list[Line] = []
        for index in range(max(map(len, books))):
            line: Line = []
            for book in books:
                cell = book[index] if index < len(book) else []
                line += [*cell, (" " * (column - length(cell) + gap), TEXT)]
            lines.append(line)
        return lines


def _cells(book: Sequence[Row], width: int) -> list[Line]:
    """The rows of one book; running text, which has no label, is wrapped."""
    is_long = width >= _LONG_FROM
    longer = {tr(short): tr(label) for short, label in _LONG.items()} if is_long else {}
    lines: list[Line] = []
    for index, (label, value) in enumerate(book):
        if label:
            told = longer.get(label, label).ljust(_LONG_LABEL_WIDTH if is_long else _LABEL_WIDTH)
            lines.append(crop([(told, MUTED), (value, STRONG if index == 0 else TEXT)], width))
        else:
            lines += [[(row, MUTED)] for row in wrap(value, max(1, width))]
    return lines


def _compute(entry: LedgerEntry) -> list[Row]:
    per_million = None if entry.cost is None or not entry.tokens else entry.cost / entry.tokens * 1e6
    is_waived = entry.waivers not in ("", "{}")
    waived = (tr("waived"), fmt.clean(entry.waivers) if is_waived else tr("nothing"))
    return [
        (tr("took"), fmt.duration(entry.elapsed_s)),
        *([waived] if is_waived else []),
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
        *([] if is_waived else [waived]),
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
    co2 = fmt.UNKNOWN if entry.grams_co2 is None else f"{fmt.figures(entry.grams_co2)} g"
    return [
        (tr("machine"), energy_text(entry)),
        (tr("source"), tr(fmt.clean(entry.energy_source or fmt.UNKNOWN))),
        ("GPU", fmt.energy(entry.gpu_energy_j)),
        (tr("J/token"), fmt.UNKNOWN if joules is None else fmt.figures(joules)),
        (tr("cost"), cost_text(entry)),
        (tr("a kWh"), f"{fmt.short(entry.price_per_kwh)} {entry.currency}"),
        (tr("mean"), fmt.whole(entry.machine_watts_mean, "W")),
        (tr("GPU max"), f"{fmt.whole(entry.gpu_watts_max, 'W')}, {fmt.whole(entry.gpu_celsius_max, '°C')}"),
        (tr("CPU max"), fmt.whole(entry.cpu_celsius_max, "°C")),
        (tr("gaps"), fmt.duration(entry.gap_s)),
        ("CO2", co2),
    ]


class PredictedPanel(CutPanel):
    """What the plan said at the start, beside what came."""

    HELP = "What the plan said of the whole run as it started, and what came."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Plan → actual"), id=id)
        self._entry: LedgerEntry | None = None

    def show(self, entry: LedgerEntry | None) -> None:
        """Show another entry."""
        self._entry = entry
        self.redraw()

    def whole(self, width: int, height: int) -> list[Line]:
        """Memory, hours, energy and money, a line each."""
        entry = self._entry
        if entry is None:
            return []
        if entry.predicted_memory_bytes is None:
            return [[(tr("No plan was kept."), MUTED)]]
        money = fmt.money(entry.predicted_cost, entry.currency).removesuffix(f" {entry.currency}")
        rows = [
            (tr("time"), fmt.hours(entry.predicted_hours), fmt.duration(entry.elapsed_s)),
            (tr("used"), fmt.kwh(entry.predicted_machine_kwh), energy_text(entry)),
            (tr("cost"), money, cost_text(entry)),
            (tr("held"), fmt.size(entry.predicted_memory_bytes), fmt.size(entry.memory_bytes)),
        ]
        if entry.predicted_gpu_kwh is not None or entry.gpu_energy_j is not None:
            rows.append(("GPU", fmt.kwh(entry.predicted_gpu_kwh), fmt.energy(entry.gpu_energy_j)))
        lines = [_planned_row(label, said, came, width) for label, said, came in rows]
        share = entry.tokens / entry.tokens_total if entry.tokens_total else 1.0
        if share < 1:
            lines[4:] = [[(tr("planned whole; {share} done", share=fmt.percent(share)), MUTED)], *lines[4:]]
        basis = wrap(fmt.said(entry.predicted_basis), max(1, width)) if entry.predicted_basis else []
        return [crop(line, width) for line in [*lines, *([(row, FAINT)] for row in basis)]]


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
        bars = [(tr("here"), entry.least_cost, cost_text(entry), BLUE)]
        bars += [
            (_name(even, is_wide), even.cloud, fmt.money(even.cloud, entry.currency), ORANGE)
            for even in self._even
        ]
        most = max((amount for _, amount, _, _ in bars if amount is not None), default=0.0)
        name_width = min(20, max(len(name) for name, *_ in bars)) + 1
        money_width = max(len(money) for _, _, money, _ in bars) + 1
        bar_width = max(1, width - name_width - money_width)
        lines: list[Line] = []
        for name, amount, money, style in bars[:height]:
            shown = bar(amount / most if amount is not None and most else 0.0, bar_width)
            line: Line = [
                (name[: name_width - 1].ljust(name_width), MUTED),
                (money.ljust(money_width), TEXT),
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
        self._days: dict[date, float] = {}
        self._currency = ""

    def show(self, days: Sequence[DayLine], currency: str) -> None:
        """Show the days of the runs that were paid in `currency`."""
        sums: dict[date, float] = {}
        for line in days:
            with contextlib.suppress(ValueError):
                if line.cost is not None:
                    day = date.fromisoformat(line.day)
                    sums[day] = sums.get(day, 0.0) + line.cost
        self._days, self._currency = sums, currency
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """A column a day, its scale above, the first and the last day below; a day without money is a gap."""
        if not self._days:
            return [[(tr("No day is known yet."), MUTED)]]
        last = max(self._days)
        num = min(max(1, width), (last - min(self._days)).days + 1)
        days = [last - timedelta(days=ago) for ago in range(num - 1, -1, -1)]
        wide, gap = min(_MOST_DAY_WIDTH, (width + 1) // num - 1), 1
        if wide < 1:
            wide, gap = 1, 0
        most = max(self._days.get(day, 0.0) for day in days)
        rows = max(1, height - 2)
        levels = [_level(self._days.get(day), most, 8 * rows) for day in days]
        lines: list[Line] = [[(tr("max "), MUTED), (fmt.money(most, self._currency), TEXT)]]
        for below in range(rows - 1, -1, -1):
            cells = (self._BLOCKS[min(8, max(0, level - 8 * below))] for level in levels)
            lines.append([((" " * gap).join(cell * wide for cell in cells), BLUE)])
        first_day, last_day = days[0].isoformat(), last.isoformat()
        text = tr("{first} to {last}", first=fmt.day_of_year(first_day), last=fmt.day_of_year(last_day))
        lines.append([(fmt.day(last_day) if num == 1 else text, MUTED)])
        return [crop(line, width) for line in lines[:height]]


def _level(cost: float | None, most: float, full: int) -> int:
    """How high a day's column is; what was paid for is seen, however little it was."""
    return 0 if cost is None else max(1, round(cost / most * full)) if most else 1
