"""Here or in the cloud: where the two cost the same, and, in mid-run, whether to finish here or to move.

Local money is electricity alone, in the person's currency; the cloud's is in US dollars. No rate of exchange is
assumed: another currency than USD needs `cloud.currency_per_usd`, else nothing is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.bill import BreakEven, Move
from engine.ledger.tariff import J_PER_KWH
from engine.records import CloudQuote, CostView, Status
from engine.settings import CloudSettings

_ORDER = ("yours", "quoted", "on-demand", "spot", "marketplace")
_MOVING = "the way there (its upload, its set-up) is not counted; what is spent is left out"


def per_usd(cloud: CloudSettings, currency: str) -> float | None:
    """What a US dollar is worth in the person's currency; None where nobody said."""
    return 1.0 if currency == "USD" else cloud.currency_per_usd


def break_evens(
    quotes: Sequence[CloudQuote],
    *,
    local: float | None,
    kwh: float | None,
    hours: float | None,
    currency: str,
    rate: float | None,
) -> tuple[BreakEven, ...]:
    """The person's own offers, the course, and the cheapest of each kind of offer against this machine.

    `local`, `kwh` and `hours` are those of the same work here; `rate` is `per_usd`.
    """
    return tuple(_break_even(quote, local, kwh, hours, currency, rate) for quote in _representative(quotes))


def _representative(quotes: Sequence[CloudQuote]) -> list[CloudQuote]:
    chosen: list[CloudQuote] = []
    seen: set[str] = set()
    for quote in quotes:
        if quote.usd is None or not quote.is_for_this_run:
            continue
        if quote.kind == "yours" or quote.kind not in seen:
            chosen.append(quote)
            seen.add(quote.kind)
    return sorted(chosen, key=lambda quote: _ORDER.index(quote.kind) if quote.kind in _ORDER else len(_ORDER))


def _break_even(
    quote: CloudQuote,
    local: float | None,
    kwh: float | None,
    hours: float | None,
    currency: str,
    rate: float | None,
) -> BreakEven:
    cloud = None if quote.usd is None or rate is None else quote.usd * rate
    price_per_kwh = local_hours = cloud_hours = None
    if cloud is not None and kwh:
        price_per_kwh = cloud / kwh
    if cloud is not None and local and hours:
        local_hours = hours * cloud / local
    if rate is not None and local is not None and quote.usd_per_hour:
        cloud_hours = local / (quote.usd_per_hour * rate)
    return BreakEven(
        provider=quote.provider,
        gpu=quote.gpu,
        kind=quote.kind,
        currency=currency,
        local=local,
        cloud=cloud,
        is_local_cheaper=None if cloud is None or local is None else local < cloud,
        price_per_kwh=price_per_kwh,
        local_hours=local_hours,
        cloud_hours=cloud_hours,
        hours=quote.hours,
    )


def move_of(status: Status, cost: CostView, quotes: Sequence[CloudQuote], cloud: CloudSettings) -> Move:
    """Whether to finish a run here or to move it; `quotes` are for what is left of it."""
    rest_cost = _less(cost.projected_cost, cost.cost)
    spent_kwh = None if cost.machine_energy_j is None else cost.machine_energy_j / J_PER_KWH
    spent_hours = None if status.elapsed_s is None else status.elapsed_s / 3600
    rest_kwh = _less(cost.projected_kwh, spent_kwh)
    rest_hours = _less(cost.projected_hours, spent_hours)
    return Move(
        run_id=status.id,
        currency=cost.currency,
        spent=cost.cost,
        spent_hours=spent_hours,
        spent_kwh=spent_kwh,
        rest_tokens=max(0, status.tokens_total - (status.tokens or 0)),
        rest_hours=rest_hours,
        rest_kwh=rest_kwh,
        rest_cost=rest_cost,
        cloud=tuple(quotes),
        break_even=break_evens(
            quotes,
            local=rest_cost,
            kwh=rest_kwh,
            hours=rest_hours,
            currency=cost.currency,
            rate=per_usd(cloud, cost.currency),
        ),
        basis=f"here: the power and the speed so far; {_MOVING}",
    )


def _less(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else max(0.0, whole - part)
