"""How a plan is told in words, on the screen and on plain stdout alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.bill import BreakEven, Move
from engine.records import CloudQuote
from tui import format as fmt
from tui.language import mark, told, tr

if TYPE_CHECKING:
    from engine.estimate import Estimate

KINDS = (mark("yours"), mark("quoted"), mark("on-demand"), mark("spot"), mark("marketplace"))
"""The order in which offers are listed: the person's own, the course's, then by how they are sold."""


def by_kind(quotes: Iterable[CloudQuote]) -> list[CloudQuote]:
    """Offers grouped by how they are sold; within a group as given, what is not for this run last."""

    def place(quote: CloudQuote) -> tuple[int, bool]:
        known = quote.kind in KINDS
        return KINDS.index(quote.kind) if known else len(KINDS), not quote.is_for_this_run

    return sorted(quotes, key=place)


def hours_range(estimate: Estimate) -> str:
    """How long the run takes, with the range."""
    time_ = estimate.time
    return fmt.span(time_.hours, time_.hours_low, time_.hours_high)


def break_even_line(even: BreakEven) -> str:
    """Where this machine and an offer swap places."""
    offer = f"{even.provider} {even.gpu} {tr(even.kind)}"
    if even.cloud is None:
        return tr(
            "{offer}: no comparison; set cloud.currency_per_usd to what a dollar costs in {currency}.",
            offer=offer,
            currency=even.currency,
        )
    if even.local is None or even.is_local_cheaper is None:
        return tr(
            "{offer}: {cloud}; what it costs here is unknown.",
            offer=offer,
            cloud=fmt.money(even.cloud, even.currency),
        )
    cheaper = tr("here") if even.is_local_cheaper else tr("there")
    return tr(
        "{offer}: {cloud} against {local} here: cheaper {cheaper}. They swap places at "
        "{price_per_kwh} a kWh, or where it takes {local_hours} here or {cloud_hours} there.",
        offer=offer,
        cloud=fmt.money(even.cloud, even.currency),
        local=fmt.money(even.local, even.currency),
        cheaper=cheaper,
        price_per_kwh=fmt.price(even.price_per_kwh, even.currency),
        local_hours=fmt.hours(even.local_hours),
        cloud_hours=fmt.hours(even.cloud_hours),
    )


def break_even_short(even: BreakEven) -> str:
    """The same in a row of a narrow screen."""
    if even.cloud is None or even.local is None:
        return break_even_line(even)
    gpu = even.gpu.removeprefix("NVIDIA ").removeprefix("GeForce ")
    cheaper = tr("here") if even.is_local_cheaper else tr("there")
    there = fmt.money(even.cloud, even.currency).removesuffix(f" {even.currency}")
    return tr(
        "{kind} {gpu}: {local} here, {there} there: {cheaper}; equal at {price_per_kwh}/kWh",
        kind=tr(even.kind),
        gpu=gpu,
        local=fmt.money(even.local, even.currency),
        there=there,
        cheaper=cheaper,
        price_per_kwh=fmt.price(even.price_per_kwh, even.currency),
    )


def move_lines(move: Move) -> list[str]:
    """A run that is going: what is spent, apart; then finishing here against moving, one line an offer."""
    spent = tr(
        "Run {run_id} has spent {spent}, {spent_hours}, {spent_kwh}: gone either way, and left out below.",
        run_id=move.run_id,
        spent=fmt.money(move.spent, move.currency),
        spent_hours=fmt.hours(move.spent_hours),
        spent_kwh=fmt.kwh(move.spent_kwh),
    )
    rest = tr(
        "To finish its {rest_tokens} tokens here: {rest_cost}, {rest_hours}, {rest_kwh}.",
        rest_tokens=fmt.count(move.rest_tokens),
        rest_cost=fmt.money(move.rest_cost, move.currency),
        rest_hours=fmt.hours(move.rest_hours),
        rest_kwh=fmt.kwh(move.rest_kwh),
    )
    return [
        spent,
        rest,
        *(tr("Move now: {verdict}", verdict=_rest_line(even)) for even in move.break_even),
        tr("Basis: {basis}.", basis=told(move.basis)),
    ]


def _rest_line(even: BreakEven) -> str:
    if even.cloud is None or even.is_local_cheaper is None:
        return break_even_line(even)
    verdict = tr("finish here") if even.is_local_cheaper else tr("moving is cheaper")
    return f"{even.provider} {even.gpu} {tr(even.kind)} {fmt.money(even.cloud, even.currency)}: {verdict}."
