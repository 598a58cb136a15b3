"""The bill: electricity so far and to the end, and the cloud offer of the course beside it."""

from __future__ import annotations

from engine.records import CostView
from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import FAINT, MUTED, ORANGE, STRONG, TEXT, Line, crop
from tui.widgets.panel import Panel
from tui.widgets.readings import SHORT_SOURCES

_LABEL_WIDTH, _MONEY_WIDTH = 12, 11


class CostPanel(Panel):
    """Money in the second column, what it is made of in the third; the sources below."""

    HELP = (
        "What the run costs in electricity, for the whole machine at your price a kWh. In the end is the "
        "whole run: projected from the power and the speed so far. "
        "The cloud row is what the course's rented T4 came to."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Cost"), id=id)
        self._cost: CostView | None = None
        self._is_over = False

    def show(self, cost: CostView, is_over: bool) -> None:
        """Show another bill; a run that is over has nothing to project."""
        self._cost, self._is_over = cost, is_over
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The three amounts first; where there is room, each energy with its source, the price and the gaps."""
        cost = self._cost
        if cost is None:
            return []
        basis_width = width - _LABEL_WIDTH - _MONEY_WIDTH - 1
        label = tr("in all") if self._is_over else tr("so far")
        rows = [
            _row(
                label,
                fmt.money(cost.cost, cost.currency),
                fmt.energy(cost.machine_energy_j),
                STRONG,
            ),
            _row(
                tr("in the end"),
                fmt.money(cost.projected_cost, cost.currency),
                _first_that_fits(basis_width, *_projected(cost)),
                TEXT,
            ),
            _cloud_row(cost, basis_width),
        ]
        if self._is_over:
            del rows[1]
        machine = tr(fmt.clean(cost.machine_source or mark("unknown")))
        has_gpu = cost.gpu_source is not None or cost.gpu_energy_j is not None
        gpu = tr(fmt.clean(cost.gpu_source or mark("unknown")))
        if height < 6:
            source = machine
            short_machine = tr(SHORT_SOURCES.get(cost.machine_source or "", "")) or machine
            if has_gpu:
                source = _first_that_fits(
                    width - _LABEL_WIDTH,
                    tr("machine {machine}, GPU {gpu}", machine=machine, gpu=gpu),
                    f"{machine}, GPU {gpu}",
                    f"{short_machine}, GPU {gpu}",
                )
            rows.append([(tr("source").ljust(_LABEL_WIDTH), MUTED), (source, FAINT)])
        else:
            rows += [
                _row(tr("machine"), fmt.energy(cost.machine_energy_j), machine, TEXT),
                *([_row("GPU", fmt.energy(cost.gpu_energy_j), gpu, TEXT)] if has_gpu else []),
                _row(
                    tr("price"),
                    f"{fmt.short(cost.price_per_kwh)} {cost.currency}",
                    _first_that_fits(basis_width, tr("a kWh, yours to set"), tr("a kWh")),
                    TEXT,
                ),
            ]
        if cost.gap_s >= 1:
            rows.append(_row(tr("not counted"), fmt.duration(cost.gap_s), tr("without a reading"), TEXT))
        return [crop(row, width) for row in rows]


def _projected(cost: CostView) -> list[str]:
    """The energy to the end, with its hours where they are known, and without."""
    energy = fmt.kwh(cost.projected_kwh)
    if cost.projected_hours is None:
        return [energy]
    return [tr("{energy} in {hours}", energy=energy, hours=fmt.hours(cost.projected_hours)), energy]


def _row(label: str, amount: str, basis: str, style: str) -> Line:
    return [(label.ljust(_LABEL_WIDTH), MUTED), (amount.ljust(_MONEY_WIDTH), style), (f" {basis}", MUTED)]


def _first_that_fits(width: int, *texts: str) -> str:
    """The first text that fits, else the last."""
    return next((text for text in texts if len(text) <= width), texts[-1])


def _cloud_row(cost: CostView, basis_width: int) -> Line:
    cloud = cost.cloud
    if cloud is None:
        return _row(tr("cloud"), fmt.UNKNOWN, tr("no offer"), TEXT)
    gpu = fmt.clean(cloud.gpu).removeprefix("NVIDIA ")
    hours = (
        f"{fmt.short(cloud.hours)} {tr('h')}" if cloud.hours and cloud.hours >= 24 else fmt.hours(cloud.hours)
    )
    price = fmt.number(cloud.usd_per_hour, 2)
    full = tr("{hours}, {price}/h", hours=hours, price=f"{price} USD")
    short = tr("{hours}, {price}/h", hours=hours, price=price)
    told = (f"{full}, {tr(fmt.clean(cloud.kind))}", full, short, tr("{price}/h", price=price))
    basis = _first_that_fits(basis_width, *told)
    return _row(tr("cloud {gpu}", gpu=gpu)[: _LABEL_WIDTH - 1], fmt.money(cloud.usd, "USD"), basis, ORANGE)
