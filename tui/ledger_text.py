"""What the ledger says in words, on the screen and on plain stdout alike: no total is less than what it sums up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from engine.records import LedgerEntry
from tui import format as fmt
from tui.language import tr, trn


def energy_text(entry: LedgerEntry) -> str:
    """What the machine used; with a sign where it may have been more."""
    return _floor(fmt.energy(entry.least_energy_j), entry.is_energy_floor)


def cost_text(entry: LedgerEntry) -> str:
    """What it cost; with a sign where it may have been more."""
    return _floor(fmt.money(entry.least_cost, entry.currency), entry.is_cost_floor)


def _floor(text: str, is_floor: bool) -> str:
    return f"≥ {text}" if is_floor and text != fmt.UNKNOWN else text


def totals_text(entries: Sequence[LedgerEntry]) -> str:
    """What all entries come to; "at least" where a part is unknown, one sum a currency."""
    if not entries:
        return tr("No run has been booked yet.")
    parts = [
        trn("{num} run", "{num} runs", len(entries)),
        tr("{tokens} tokens", tokens=fmt.count(sum(entry.tokens for entry in entries))),
        fmt.duration(sum(entry.elapsed_s for entry in entries)),
        at_least([(entry.least_energy_j, entry.is_energy_floor) for entry in entries], fmt.energy),
        *cost_texts(entries),
    ]
    return f"{parts[0]}: {', '.join(parts[1:])}"


def cost_texts(entries: Sequence[LedgerEntry]) -> list[str]:
    """What all entries cost, one sum a currency."""
    return [
        at_least(
            [(entry.least_cost, entry.is_cost_floor) for entry in entries if entry.currency == currency],
            partial(fmt.money, currency=currency),
        )
        for currency in sorted({entry.currency for entry in entries})
    ]


def at_least(amounts: Sequence[tuple[float | None, bool]], write: Callable[[float | None], str]) -> str:
    """The sum of what is known, each amount with whether it may have been more; unknown where nothing is."""
    known = [amount for amount, _ in amounts if amount is not None]
    text = write(sum(known) if known else None)
    is_floor = any(is_floor for _, is_floor in amounts)
    return tr("at least {amount}", amount=text) if known and is_floor else text
