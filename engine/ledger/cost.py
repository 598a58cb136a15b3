"""From joules to money, so far and to the end. Sums are decimals; formatting is the window's business."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from engine.currency import minor_digits as minor_digits
from engine.errors import StoreError
from engine.ledger.cloud import course_quote
from engine.ledger.tariff import J_PER_KWH as J_PER_KWH
from engine.ledger.tariff import MICRO as MICRO
from engine.ledger.tariff import cost_so_far, mean_price, price_at
from engine.ledger.tariff import money_of as money_of
from engine.records import CloudQuote, CostView, EnergyRow, RunPlan, Status, TariffRow
from engine.settings import EnergySettings


def round_money(amount: Decimal, currency: str) -> Decimal:
    """An amount to the currency's smallest coin, half to even."""
    return amount.quantize(Decimal(1).scaleb(-minor_digits(currency)), rounding=ROUND_HALF_EVEN)


def cost_of(joules: float, price_per_kwh: float) -> float:
    """`money_of` as the records hold it."""
    return float(money_of(joules, price_per_kwh))


class EnergyTotal(NamedTuple):
    """What all lives of a run's supervisor have used together."""

    gpu_j: float | None
    machine_j: float | None
    """None: not known for any segment."""
    gpu_source: str | None
    machine_source: str | None
    """The weakest source that went in."""
    covered_s: float
    gap_s: float
    """Seconds whose energy is in no sum, those of segments without a figure included."""

    @property
    def is_partial(self) -> bool:
        """Whether the sums are lower bounds."""
        return self.gap_s > 0


_WEAKEST_FIRST = ("estimate", "partly measured", "integrated", "battery", "counter")


def total_energy(rows: Iterable[EnergyRow]) -> EnergyTotal:
    """The sum over segments; a segment without a machine figure counts as a gap of its whole length."""
    segments = list(rows)
    return EnergyTotal(
        gpu_j=_known_sum(row.gpu_j for row in segments),
        machine_j=_known_sum(row.machine_j for row in segments),
        gpu_source=_weakest(row.gpu_source for row in segments),
        machine_source=_weakest(row.machine_source for row in segments),
        covered_s=sum(row.covered_s for row in segments if row.machine_j is not None),
        gap_s=sum(
            row.gap_s if row.machine_j is not None else max(row.gap_s, row.elapsed_s) for row in segments
        ),
    )


def cost_view(
    rows: Sequence[EnergyRow],
    energy: EnergySettings,
    plan: RunPlan,
    status: Status,
    tariff_rows: Sequence[TariffRow] = (),
    now: float | None = None,
) -> CostView:
    """A run's money so far and to its end, with the course's T4 beside it.

    The rest of a run is taken at the mean power so far for as long as the current speed needs; where there is no
    current speed, at the energy and the time that a token has taken so far. A run that is over ends as it stands.
    With a tariff, the rest costs the mean price of the hours that it will take from `now` (None: this moment).
    """
    total = total_energy(rows)
    elapsed_s = sum(row.elapsed_s for row in rows)
    projected_s, projected_j = _projection(total, elapsed_s, plan, status)
    now = time.time() if now is None else now
    cost = cost_so_far(total.machine_j, tariff_rows, energy)
    projected_cost = None
    if projected_j is not None and projected_s is not None and cost is not None:
        rest_price = mean_price(energy, now, projected_s - elapsed_s)
        projected_cost = cost + cost_of(max(0.0, projected_j - (total.machine_j or 0.0)), rest_price)
    return CostView(
        currency=energy.currency,
        price_per_kwh=price_at(energy, now),
        machine_energy_j=total.machine_j,
        gpu_energy_j=total.gpu_j,
        machine_source=total.machine_source,
        gpu_source=total.gpu_source,
        cost=cost,
        projected_cost=projected_cost,
        projected_kwh=None if projected_j is None else projected_j / J_PER_KWH,
        projected_hours=None if projected_s is None else projected_s / 3600,
        gap_s=total.gap_s,
        cloud=_course(plan),
    )


def _course(plan: RunPlan) -> CloudQuote | None:
    """The course's T4; None where the table of cloud prices is broken: a run must not hang on it."""
    try:
        return course_quote(plan)
    except StoreError:
        return None


def _projection(
    total: EnergyTotal, elapsed_s: float, plan: RunPlan, status: Status
) -> tuple[float | None, float | None]:
    """Seconds and joules of the whole run; None where nothing tells them yet."""
    if status.state.is_over:
        return (elapsed_s or None), total.machine_j
    tokens = status.tokens or 0
    left = max(0, plan.tokens_total - tokens)
    if status.tokens_per_second:
        left_s = left / status.tokens_per_second
    elif tokens and elapsed_s:
        left_s = elapsed_s / tokens * left
    else:
        return None, None
    if total.machine_j is None or total.covered_s <= 0:
        return elapsed_s + left_s, None
    return elapsed_s + left_s, total.machine_j * (1 + left_s / total.covered_s)


def _known_sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _weakest(sources: Iterable[str | None]) -> str | None:
    found = {source for source in sources if source}
    return next((source for source in _WEAKEST_FIRST if source in found), min(found, default=None))
