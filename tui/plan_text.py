"""How a plan is told in words, on the screen and on plain stdout alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.bill import BreakEven, Move
from engine.records import CloudQuote
from tui import format as fmt

if TYPE_CHECKING:
    from engine.estimate import Estimate

KINDS = ("yours", "quoted", "on-demand", "spot", "marketplace")
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
    offer = f"{even.provider} {even.gpu} {even.kind}"
    if even.cloud is None:
        return (
            f"{offer}: no comparison; set cloud.currency_per_usd to what a dollar costs in {even.currency}."
        )
    if even.local is None or even.is_local_cheaper is None:
        return f"{offer}: {fmt.money(even.cloud, even.currency)}; what it costs here is unknown."
    cheaper = "here" if even.is_local_cheaper else "there"
    return (
        f"{offer}: {fmt.money(even.cloud, even.currency)} against {fmt.money(even.local, even.currency)} here: cheaper "
        f"{cheaper}. They swap places at {fmt.price(even.price_per_kwh, even.currency)} a kWh, or where it takes "
        f"{fmt.hours(even.local_hours)} here or {fmt.hours(even.cloud_hours)} there."
    )


def break_even_short(even: BreakEven) -> str:
    """The same in a row of a narrow screen."""
    if even.cloud is None or even.local is None:
        return break_even_line(even)
    gpu = even.gpu.removeprefix("NVIDIA ").removeprefix("GeForce ")
    cheaper = "here" if even.is_local_cheaper else "there"
    there = fmt.money(even.cloud, even.currency).removesuffix(f" {even.currency}")
    return (
        f"{even.kind} {gpu}: {fmt.money(even.local, even.currency)} here, {there} there: {cheaper}; equal at "
        f"{fmt.price(even.price_per_kwh, even.currency)}/kWh"
    )


def move_lines(move: Move) -> list[str]:
    """A run that is going: what is spent, apart; then finishing here against moving, one line an offer."""
    spent = (
        f"Run {move.run_id} has spent {fmt.money(move.spent, move.currency)}, {fmt.hours(move.spent_hours)}, "
        f"{fmt.kwh(move.spent_kwh)}: gone either way, and left out below."
    )
    rest = (
        f"To finish its {fmt.count(move.rest_tokens)} tokens here: {fmt.money(move.rest_cost, move.currency)}, "
        f"{fmt.hours(move.rest_hours)}, {fmt.kwh(move.rest_kwh)}."
    )
    return [
        spent,
        rest,
        *(f"Move now: {_rest_line(even)}" for even in move.break_even),
        f"Basis: {move.basis}.",
    ]


def _rest_line(even: BreakEven) -> str:
    if even.cloud is None or even.is_local_cheaper is None:
        return break_even_line(even)
    verdict = "finish here" if even.is_local_cheaper else "moving is cheaper"
    return f"{even.provider} {even.gpu} {even.kind} {fmt.money(even.cloud, even.currency)}: {verdict}."
