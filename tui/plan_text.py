"""How a plan is told in words, on the screen and on plain stdout alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from engine.bill import BreakEven, Move
from engine.records import CloudQuote
from tui import format as fmt
from tui.language import mark, told, tr

if TYPE_CHECKING:
    from engine.estimate import Estimate

HERE = mark("here")
"""The kind of the one that is no offer: this machine and its electricity."""
KINDS = (HERE, mark("yours"), mark("quoted"), mark("on-demand"), mark("spot"), mark("marketplace"))
"""The order in which offers are listed: the person's own, the course's, then by how they are sold."""


def by_kind(quotes: Iterable[CloudQuote]) -> list[CloudQuote]:
    """Offers grouped by how they are sold; within a group as given, what is not for this run last."""

    def place(quote: CloudQuote) -> tuple[int, bool]:
        known = quote.kind in KINDS
        return KINDS.index(quote.kind) if known else len(KINDS), not quote.is_for_this_run

    return sorted(quotes, key=place)


def here_beside(estimate: Estimate) -> CloudQuote | None:
    """This machine as one of the offers; None where its money or the rate of exchange is unknown.

    With a run going it is for what is left of it.
    """
    move, time_ = estimate.move, estimate.time
    if move is not None:
        local, currency, hours, low, high = move.rest_cost, move.currency, move.rest_hours, None, None
        rate = _per_usd(move.cloud, move.break_even, currency)
    else:
        local, currency = estimate.cost.local, estimate.cost.currency
        hours, low, high = time_.hours, time_.hours_low, time_.hours_high
        rate = _per_usd(estimate.cloud, estimate.break_even, currency)
    if local is None or rate is None:
        return None
    return CloudQuote(
        provider=tr("this machine"),
        gpu=estimate.memory.device,
        kind=HERE,
        usd_per_hour=local / rate / hours if hours else 0.0,
        hours=hours,
        usd=local / rate,
        as_of="",
        source="",
        basis=move.basis if move else time_.basis,
        hours_low=low,
        hours_high=high,
    )


def _per_usd(quotes: Iterable[CloudQuote], break_even: Iterable[BreakEven], currency: str) -> float | None:
    """What a dollar is in the person's currency, by an offer that is known in both."""
    if currency == "USD":
        return 1.0
    usd = {(quote.provider, quote.gpu, quote.kind, quote.hours): quote.usd for quote in quotes}
    for even in break_even:
        if even.cloud and (in_usd := usd.get((even.provider, even.gpu, even.kind, even.hours))):
            return even.cloud / in_usd
    return None


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


def short_gpu(gpu: str) -> str:
    """A GPU without its maker's names."""
    return fmt.clean(gpu).replace("NVIDIA ", "").replace("GeForce ", "")


class Verdict(NamedTuple):
    """Here or elsewhere, in one sentence."""

    head: str
    """What comes out."""
    rests: tuple[str, ...]
    """What it is compared with, from the longest form to none."""
    is_here: bool | None
    """Whether this machine is the cheaper one; None: unknown."""

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.head}{self.rests[0]}."


def verdict_of(
    break_even: Sequence[BreakEven], hours: float | None = None, *, is_move: bool = False
) -> Verdict | None:
    """What the comparison comes to; `hours` are those here. None where no offer can be compared.

    With `is_move` it is a run that is going, and what is left of it.
    """
    if not break_even:
        return None
    known = by_cost(break_even)
    if not known:
        currency = break_even[0].currency
        how = tr(": set cloud.currency_per_usd to what a dollar costs in {currency}", currency=currency)
        return Verdict(tr("? No comparison"), (how,), None)
    even = known[0]
    offer, cloud = f"{fmt.clean(even.provider)} {short_gpu(even.gpu)}", fmt.money(even.cloud, even.currency)
    if even.local is None or even.is_local_cheaper is None:
        rest = tr("; cheapest elsewhere {offer}, {cloud}", offer=offer, cloud=cloud)
        return Verdict(tr("? What it costs here is unknown"), (rest, ""), None)
    local = fmt.money(even.local, even.currency)
    times = ""
    if even.hours is not None and hours is not None:
        there_here = (even.hours, hours) if even.is_local_cheaper else (hours, even.hours)
        there, here = map(fmt.hours, there_here)
        times = tr(", {there} instead of {here}", there=there, here=here)
    if even.is_local_cheaper:
        following = tr("; next {offer} {cloud}", offer=offer, cloud=cloud)
        if is_move:
            rest = tr("; cheapest elsewhere {offer}, {cloud}", offer=offer, cloud=cloud)
            head = tr("✓ Finish here: {local} left to pay", local=local)
            return Verdict(head, (rest + times, rest, following, ""), True)
        head = tr("✓ Here: {local}, the cheapest", local=local)
        return Verdict(head, (following + times, following, ""), True)
    rest = tr("; here {local}", local=local)
    if is_move:
        head = tr("→ Move: {offer}, {cloud} for what is left", offer=offer, cloud=cloud)
    else:
        head = tr("→ {offer}: {cloud}, the cheapest", offer=offer, cloud=cloud)
    return Verdict(head, (rest + times, rest, ""), False)


def by_cost(break_even: Sequence[BreakEven]) -> list[BreakEven]:
    """The offers whose cost is known, the cheapest first."""
    return sorted((even for even in break_even if even.cloud is not None), key=lambda even: even.cloud or 0.0)


def offer_cells(even: BreakEven, *, is_move: bool = False) -> tuple[str, str, str, str, str]:
    """An offer in columns: its name, its cost, how that differs, where both are equal, and by which hours."""
    name, cloud = f"{fmt.clean(even.provider)} {short_gpu(even.gpu)}", fmt.money(even.cloud, even.currency)
    takes = "" if even.hours is None else fmt.hours(even.hours)
    if even.local is None or even.cloud is None:
        return name, cloud, "", takes, ""
    more = even.cloud - even.local
    if min(even.cloud, even.local) >= 0.0995:
        more = round(even.cloud, 2) - round(even.local, 2)
    size = fmt.number(abs(more), 2) if abs(more) >= 0.005 else fmt.money(abs(more), "").strip()
    if more == 0:
        differs = tr("as much as here")
    elif more > 0:
        differs = tr("{amount} more than here", amount=size)
    else:
        differs = tr("{amount} less than here", amount=size) + (tr(": move") if is_move else "")
    if is_move or even.price_per_kwh is None:
        return name, cloud, differs, takes, ""
    equal = tr("equal at {price}/kWh", price=fmt.price(even.price_per_kwh, even.currency))
    if even.local_hours is None or even.cloud_hours is None:
        return name, cloud, differs, equal, ""
    by_hours = tr(
        ", at {local_hours} here, or at {cloud_hours} there",
        local_hours=fmt.hours(even.local_hours),
        cloud_hours=fmt.hours(even.cloud_hours),
    )
    return name, cloud, differs, equal, by_hours


def move_facts(move: Move) -> list[str]:
    """What is left of a run that is going, what that rests on, and what is spent, which is not compared."""
    rest = tr(
        "To finish its {rest_tokens} tokens here: {rest_cost}, {rest_hours}, {rest_kwh}.",
        rest_tokens=fmt.count(move.rest_tokens),
        rest_cost=fmt.money(move.rest_cost, move.currency),
        rest_hours=fmt.hours(move.rest_hours),
        rest_kwh=fmt.kwh(move.rest_kwh),
    )
    spent = tr(
        "Run {run_id} has spent {spent}, {spent_hours}, {spent_kwh}: gone either way, and left out above.",
        run_id=move.run_id,
        spent=fmt.money(move.spent, move.currency),
        spent_hours=fmt.hours(move.spent_hours),
        spent_kwh=fmt.kwh(move.spent_kwh),
    )
    return [rest, tr("Basis: {basis}.", basis=told(move.basis)), spent]


def move_lines(move: Move) -> list[str]:
    """A run that is going: whether to finish here or to move, one line an offer, and what that rests on."""
    verdict = verdict_of(move.break_even, move.rest_hours, is_move=True)
    offers = []
    for even in by_cost(move.break_even):
        name, cloud, differs, takes, _ = offer_cells(even, is_move=True)
        offers.append(f"{name}: {', '.join(part for part in (cloud, takes, differs) if part)}")
    return [*([verdict.text] if verdict else []), *offers, *move_facts(move)]
