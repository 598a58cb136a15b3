"""The generated part of TRAINING.md: all runs, and for each its days, its prediction, its checks, its samples.

It is made of the ledger alone, so that a run whose folder is gone keeps all of it. Text from outside (device names,
corpus paths, reasons, what a model said) is escaped in `engine/ledger/markdown.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from engine.bill import BookedWindow, DayLine
from engine.errors import StoreError
from engine.ledger.cloud import course_quote_for, entry_flop
from engine.ledger.markdown import (
    UNKNOWN,
    count,
    escape,
    instant,
    kwh,
    money,
    number,
    pair,
    plain,
    significant,
    size,
    table,
    with_unit,
)
from engine.records import Check, LedgerEntry, TextSampleRow

Item = TypeVar("Item")


def render(entries: Sequence[LedgerEntry]) -> str:
    """The generated part, in Markdown: a table of all runs, then a section a run, newest first."""
    if not entries:
        return "No run has ended yet."
    newest_first = sorted(entries, key=lambda entry: entry.started_at, reverse=True)
    lines = ["## Runs", "", *_runs_table(newest_first), "", *_totals(entries)]
    for entry in newest_first:
        lines += ["", f"### Run {escape(entry.run_id)}", "", *_section(entry)]
        for part in (_days(entry), _prediction(entry), _checks(entry), _samples(entry)):
            if part:
                lines += ["", *part]
    return "\n".join(lines)


def listed(text: str, kind: type[Item]) -> list[Item]:
    """The records of a JSON list that an entry keeps as text; none where it cannot be read."""
    try:
        return msgspec.json.decode(text, type=list[kind])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, UnicodeError):
        return []


_RUN_COLUMNS: tuple[tuple[str, Callable[[LedgerEntry], str]], ...] = (
    ("run", lambda e: escape(e.run_id)),
    ("model", lambda e: f"{escape(e.preset)} ({number(e.parameters / 1e6, 1)} M)"),
    ("device", lambda e: escape(e.device)),
    ("tokens", lambda e: f"{e.tokens:,}"),
    ("hours", lambda e: number(e.elapsed_s / 3600, 2)),
    ("val loss", lambda e: number(e.val_loss, 4)),
    ("GPU kWh", lambda e: kwh(e.gpu_energy_j)),
    ("machine kWh", lambda e: f"{_machine_kwh(e)}{_source(e)}"),
    ("GPU °C mean / max", lambda e: pair(e.gpu_celsius_mean, e.gpu_celsius_max, 0)),
    ("GPU W mean / max", lambda e: pair(e.gpu_watts_mean, e.gpu_watts_max, 1)),
    ("cost", lambda e: _cost(e)),
    ("state", lambda e: escape(e.state)),
    ("restarts", lambda e: str(e.restarts)),
)


def _runs_table(entries: Iterable[LedgerEntry]) -> list[str]:
    return table(
        [name for name, _ in _RUN_COLUMNS], [[cell(entry) for _, cell in _RUN_COLUMNS] for entry in entries]
    )


def _totals(entries: Sequence[LedgerEntry]) -> list[str]:
    """Energy of all runs, and money by currency; "at least" where a part is unknown."""
    known = [e.least_energy_j for e in entries if e.least_energy_j is not None]
    at_least = "at least " if any(entry.is_energy_floor for entry in entries) else ""
    energy = with_unit(kwh(sum(known) if known else None), "kWh")
    lines = [f"Runs: {len(entries)}. Machine energy in all: {at_least if known else ''}{energy}."]
    for currency in sorted({entry.currency for entry in entries}):
        own = [e for e in entries if e.currency == currency]
        costs = [e.least_cost for e in own if e.least_cost is not None]
        at_least = "at least " if any(entry.is_cost_floor for entry in own) else ""
        shown = f"{at_least}{money(sum(costs), currency)}" if costs else UNKNOWN
        lines.append(f"Cost in all: {shown}.")
    return lines


def _section(entry: LedgerEntry) -> list[str]:
    facts = [
        ("began", instant(entry.started_at)),
        ("last entry", f"{instant(entry.at)}, {escape(entry.state)}"),
        ("corpus", escape(entry.corpus)),
        ("loss", _losses(entry)),
        ("GPU energy", with_unit(kwh(entry.gpu_energy_j), "kWh")),
        ("machine energy", with_unit(f"{_machine_kwh(entry)}", "kWh") + _source(entry)),
        ("price", _prices(entry)),
        ("cost", _cost(entry)),
        ("GPU temperature", f"{pair(entry.gpu_celsius_mean, entry.gpu_celsius_max, 0)} °C, mean / max"),
        ("CPU temperature", f"{number(entry.cpu_celsius_max, 0)} °C at most"),
        ("GPU power", f"{pair(entry.gpu_watts_mean, entry.gpu_watts_max, 1)} W, mean / max"),
        ("machine power", f"{number(entry.machine_watts_mean, 1)} W, mean"),
        ("storage", _storage(entry)),
    ]
    if entry.is_partial:
        facts.append(("not in these figures", f"{number(entry.gap_s, 0)} s in which the power was not known"))
    if entry.grams_co2 is not None:
        facts.append(("CO2", f"{significant(entry.grams_co2 / 1000, 3)} kg"))
    if ticked := _ticked(entry):
        facts.append(("ticked by hand", ticked))
    facts += [("checks waived", _waivers(entry.waivers)), ("a cloud T4 instead", _cloud(entry))]
    return [f"- {name}: {value}" for name, value in facts]


def _losses(entry: LedgerEntry) -> str:
    return (
        f"{number(entry.loss, 4)} training, {number(entry.val_loss, 4)} validation (nats a token), "
        f"{number(entry.val_bits_per_byte, 4)} validation (bits a byte)"
    )


def _cloud(entry: LedgerEntry) -> str:
    """The course's T4 for what this run has done; in dollars, since no exchange rate is assumed."""
    if not entry.tokens:
        return UNKNOWN
    try:
        quote = course_quote_for(entry_flop(entry))
    except StoreError:
        return UNKNOWN
    hours = UNKNOWN if quote.hours is None else f"{quote.hours:.4g} h"
    usd = UNKNOWN if quote.usd is None else money(quote.usd, "USD")
    return f"{usd} for {hours} at {quote.usd_per_hour:.2f} USD/h ({escape(quote.basis)})"


def _ticked(entry: LedgerEntry) -> str:
    """The person's own steps that they said were done."""
    checks = listed(entry.checks, Check)
    return "; ".join(
        escape(check.title) for check in checks if check.id.startswith("manual-") and check.status == "pass"
    )


def _waivers(text: str) -> str:
    try:
        waivers = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError):
        return escape(text) or UNKNOWN
    if not waivers:
        return "none"
    return "; ".join(f"{escape(check)}: {escape(reason)}" for check, reason in waivers.items())


def _prices(entry: LedgerEntry) -> str:
    """The price, and with a tariff what was used at each of its prices."""
    base = f"{plain(entry.price_per_kwh)} {escape(entry.currency)} a kWh"
    windows = listed(entry.tariff, BookedWindow)
    if len(windows) < 2 and all(window.window == "always" for window in windows):
        return base
    used = [
        f"{plain(w.price_micro / 1e6)} {escape(w.window)}: {kwh(w.machine_j)} kWh, "
        f"{money(w.cost_micro / 1e6, entry.currency)}"
        for w in windows
    ]
    return f"{base} outside of the tariff's hours; used at {'; at '.join(used)}"


def _storage(entry: LedgerEntry) -> str:
    parts = (
        ("text", entry.corpus_bytes),
        ("token shards", entry.shards_bytes),
        ("checkpoints", entry.checkpoints_bytes),
        ("model", entry.model_bytes),
        ("run database", entry.database_bytes),
    )
    told = ", ".join(f"{name} {size(num_bytes)}" for name, num_bytes in parts if num_bytes is not None)
    return f"{size(entry.storage_bytes)} in the run's folder" + (f" ({told})" if told else "")


_DAY_COLUMNS: tuple[tuple[str, Callable[[DayLine, str], str]], ...] = (
    ("day (UTC)", lambda d, _: escape(d.day)),
    ("hours", lambda d, _: number(d.hours, 2)),
    ("tokens", lambda d, _: count(d.tokens)),
    ("loss", lambda d, _: number(d.loss, 4)),
    ("GPU kWh", lambda d, _: kwh(d.gpu_energy_j)),
    ("machine kWh", lambda d, _: kwh(d.machine_energy_j)),
    ("GPU °C mean / max", lambda d, _: pair(d.gpu_celsius_mean, d.gpu_celsius_max, 0)),
    ("CPU °C max", lambda d, _: number(d.cpu_celsius_max, 0)),
    ("GPU W mean / max", lambda d, _: pair(d.gpu_watts_mean, d.gpu_watts_max, 1)),
    ("machine W mean / max", lambda d, _: pair(d.machine_watts_mean, d.machine_watts_max, 1)),
    ("cost", lambda d, currency: UNKNOWN if d.cost is None else money(d.cost, currency)),
    ("checkpoints", lambda d, _: str(d.num_checkpoints)),
    ("incidents", lambda d, _: ", ".join(escape(kind) for kind in d.incidents) or "none"),
)


def _days(entry: LedgerEntry) -> list[str]:
    days = sorted(listed(entry.days, DayLine), key=lambda day: day.day)
    if not days:
        return []
    rows = [[cell(day, entry.currency) for _, cell in _DAY_COLUMNS] for day in days]
    heading = "By day, from the readings of every second (the totals above may rest on a counter):"
    return [heading, "", *table([name for name, _ in _DAY_COLUMNS], rows)]


def _prediction(entry: LedgerEntry) -> list[str]:
    """What the plan said, beside what came."""
    if entry.predicted_memory_bytes is None:
        return []
    predicted_cost = UNKNOWN if entry.predicted_cost is None else money(entry.predicted_cost, entry.currency)
    rows = [
        ("memory", size(entry.predicted_memory_bytes), size(entry.memory_bytes)),
        ("hours", _figure(entry.predicted_hours), _figure(entry.elapsed_s / 3600)),
        ("GPU kWh", _figure(entry.predicted_gpu_kwh), kwh(entry.gpu_energy_j)),
        ("machine kWh", _figure(entry.predicted_machine_kwh), _machine_kwh(entry)),
        ("cost", predicted_cost, _cost(entry)),
    ]
    share = entry.tokens / entry.tokens_total if entry.tokens_total else 1.0
    part = "" if share >= 1 else f" The prediction is for the whole run; {share:.1%} of it was trained."
    basis = f"Predicted at the start ({escape(entry.predicted_basis)}).{part}"
    return [basis, "", *table(["", "predicted", "actual"], rows)]


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else significant(value, 3)


def _checks(entry: LedgerEntry) -> list[str]:
    rows = [
        [escape(check.title), escape(check.status), escape(check.evidence)]
        for check in listed(entry.checks, Check)
    ]
    return ["The preflight:", "", *table(["check", "verdict", "evidence"], rows)] if rows else []


def _samples(entry: LedgerEntry) -> list[str]:
    samples = listed(entry.samples, TextSampleRow)
    lines = []
    for name, sample in zip(("first", "last"), samples, strict=False):
        lines.append(f"- {name} sample, step {sample.step:,}: {escape(sample.prompt + sample.text)}")
    return lines


def _machine_kwh(entry: LedgerEntry) -> str:
    at_least = "at least " if entry.is_partial and entry.machine_energy_j is not None else ""
    return f"{at_least}{kwh(entry.machine_energy_j)}"


def _source(entry: LedgerEntry) -> str:
    if entry.machine_energy_j is None:
        return ""
    return f" ({escape(entry.energy_source or 'source unknown')})"


def _cost(entry: LedgerEntry) -> str:
    if entry.cost is None:
        return UNKNOWN
    return f"{'at least ' if entry.is_partial else ''}{money(entry.cost, entry.currency)}"
