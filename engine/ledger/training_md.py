"""TRAINING.md: the part of it that the program writes, between two markers; the rest is the person's.

The file is handled as bytes, so that line ends, a missing last newline and bytes that are no UTF-8 stay as they
are. What a run's records hold (device names, corpus paths, reasons) is text from outside and is escaped here.
"""

from __future__ import annotations

import codecs
import math
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from engine import atomic
from engine.errors import StoreError
from engine.ledger.cloud import course_quote_for, entry_flop
from engine.ledger.cost import J_PER_KWH, minor_digits
from engine.records import LedgerEntry

BEGIN = b"<!-- llm-tui:begin -->"
END = b"<!-- llm-tui:end -->"
HEADING = (
    "# Training\n\nNotes of your own go here; what stands between the two markers is rewritten by llm-tui.\n"
)
UNKNOWN = "—"


class DayLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did on one day."""

    run_id: str
    day: str
    """ISO date, UTC."""
    hours: float
    """Hours with readings on that day."""
    tokens: int | None = None
    """Trained on by the end of the day."""
    loss: float | None = None
    machine_energy_j: float | None = None
    gpu_celsius_mean: float | None = None
    gpu_celsius_max: float | None = None
    cpu_celsius_max: float | None = None


# --- the file -------------------------------------------------------------------------------------------------


def update(path: Path, body: str) -> bool:
    """Put `body` between the markers of a file; whether that changed the file.

    A file that is absent is made; one without markers gets them at its end. Everything outside of them stays as
    it is, byte for byte; the part between takes the file's line ends. Symbolic links are followed, the mode stays.
    Raises: StoreError where the markers are damaged or the file cannot be read or written; it is as it was then.
    """
    generated = body.strip("\n").encode("utf-8", "replace")
    if BEGIN in generated or END in generated:
        raise ValueError("the body has a marker in it")
    target = Path(os.path.realpath(path))
    try:
        old = target.read_bytes()
        mode = target.stat().st_mode & 0o7777
    except FileNotFoundError:
        old, mode = None, 0o644
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}", "Make it a readable file.") from error
    new = _joined(HEADING.encode() if old is None else old, generated, path)
    if new == old:
        return False
    if old is not None and not os.access(target, os.W_OK):
        raise StoreError(f"{path} is read-only.", "Allow writing to it, then run `llm-tui report`.")
    try:
        atomic.write_bytes(target, new, mode)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error}", "Make its folder writable, then run `llm-tui report`."
        ) from error
    return True


def _joined(old: bytes, generated: bytes, path: Path) -> bytes:
    if old.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise StoreError(f"{path} is in UTF-16.", "Save it as UTF-8, then run `llm-tui report`.")
    newline = b"\r\n" if b"\r\n" in old else b"\n"
    part = newline.join((BEGIN, b"", *generated.split(b"\n"), b"", END))
    begins, ends = old.count(BEGIN), old.count(END)
    if begins == ends == 0:
        if not old:
            return part + newline
        gap = newline if old.endswith(b"\n") else newline * 2
        return old + gap + part + newline
    at, after = old.find(BEGIN), old.find(END)
    if begins != 1 or ends != 1 or after < at:
        found = f"{begins} x {BEGIN.decode()} and {ends} x {END.decode()}"
        wrong = f"{found}, the end before the begin" if begins == ends == 1 else found
        raise StoreError(
            f"{path}: the markers of the generated part are damaged: {wrong}.",
            "Leave exactly one of each, begin before end, or remove all of them for a new part at the end; "
            "then run `llm-tui report`.",
        )
    return old[:at] + part + old[after + len(END) :]


# --- its content ----------------------------------------------------------------------------------------------


def render(entries: Sequence[LedgerEntry], days: Sequence[DayLine] = ()) -> str:
    """The generated part, in Markdown: a table of all runs, then a section a run, newest first.

    `days` adds a table by the day to the sections of their runs.
    """
    if not entries:
        return "No run has ended yet."
    newest_first = sorted(entries, key=lambda entry: entry.started_at, reverse=True)
    lines = ["## Runs", "", *_runs_table(newest_first), "", *_totals(entries)]
    for entry in newest_first:
        own_days = [day for day in days if day.run_id == entry.run_id]
        lines += ["", f"### Run {escape(entry.run_id)}", "", *_section(entry)]
        if own_days:
            lines += ["", *_days_table(own_days)]
    return "\n".join(lines)


_RUN_COLUMNS: tuple[tuple[str, Callable[[LedgerEntry], str]], ...] = (
    ("run", lambda e: escape(e.run_id)),
    ("model", lambda e: f"{escape(e.preset)} ({_number(e.parameters / 1e6, 1)} M)"),
    ("device", lambda e: escape(e.device)),
    ("tokens", lambda e: f"{e.tokens:,}"),
    ("hours", lambda e: _number(e.elapsed_s / 3600, 2)),
    ("val loss", lambda e: _number(e.val_loss, 4)),
    ("GPU kWh", lambda e: _kwh(e.gpu_energy_j)),
    ("machine kWh", lambda e: f"{_machine_kwh(e)}{_source(e)}"),
    ("GPU °C mean / max", lambda e: _pair(e.gpu_celsius_mean, e.gpu_celsius_max, 0)),
    ("GPU W mean / max", lambda e: _pair(e.gpu_watts_mean, e.gpu_watts_max, 1)),
    ("cost", lambda e: _cost(e)),
    ("state", lambda e: escape(e.state)),
    ("restarts", lambda e: str(e.restarts)),
)


def _runs_table(entries: Iterable[LedgerEntry]) -> list[str]:
    return _table(
        [name for name, _ in _RUN_COLUMNS], [[cell(entry) for _, cell in _RUN_COLUMNS] for entry in entries]
    )


def _days_table(days: Sequence[DayLine]) -> list[str]:
    rows = [
        [
            escape(day.day),
            _number(day.hours, 2),
            UNKNOWN if day.tokens is None else f"{day.tokens:,}",
            _number(day.loss, 4),
            _kwh(day.machine_energy_j),
            _pair(day.gpu_celsius_mean, day.gpu_celsius_max, 0),
            _number(day.cpu_celsius_max, 0),
        ]
        for day in sorted(days, key=lambda day: day.day)
    ]
    names = ["day", "hours", "tokens", "loss", "machine kWh", "GPU °C mean / max", "CPU °C max"]
    return _table(names, rows)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _totals(entries: Sequence[LedgerEntry]) -> list[str]:
    """Energy of all runs, and money by currency; "at least" where a part is unknown."""
    known = [e.machine_energy_j for e in entries if e.machine_energy_j is not None]
    at_least = "at least " if len(known) < len(entries) or any(_is_partial(e) for e in entries) else ""
    lines = [f"Runs: {len(entries)}. Machine energy in all: {at_least if known else ''}{_kwh_sum(known)}."]
    for currency in sorted({entry.currency for entry in entries}):
        own = [e for e in entries if e.currency == currency]
        costs = [e.cost for e in own if e.cost is not None]
        at_least = "at least " if len(costs) < len(own) or any(_is_partial(e) for e in own) else ""
        shown = f"{at_least}{_money(sum(costs), currency)}" if costs else UNKNOWN
        lines.append(f"Cost in all: {shown}.")
    return lines


def _section(entry: LedgerEntry) -> list[str]:
    facts = [
        ("began", _instant(entry.started_at)),
        ("last entry", f"{_instant(entry.at)}, {escape(entry.state)}"),
        ("corpus", escape(entry.corpus)),
        ("loss", _losses(entry)),
        ("GPU energy", _with_unit(_kwh(entry.gpu_energy_j), "kWh")),
        ("machine energy", _with_unit(f"{_machine_kwh(entry)}", "kWh") + _source(entry)),
        ("price", f"{_plain(entry.price_per_kwh)} {escape(entry.currency)} a kWh"),
        ("cost", _cost(entry)),
        ("GPU temperature", f"{_pair(entry.gpu_celsius_mean, entry.gpu_celsius_max, 0)} °C, mean / max"),
        ("CPU temperature", f"{_number(entry.cpu_celsius_max, 0)} °C at most"),
        ("GPU power", f"{_pair(entry.gpu_watts_mean, entry.gpu_watts_max, 1)} W, mean / max"),
        ("machine power", f"{_number(entry.machine_watts_mean, 1)} W, mean"),
        ("storage", _storage(entry.storage_bytes)),
    ]
    if _is_partial(entry):
        facts.append(
            ("not in these figures", f"{_number(entry.gap_s, 0)} s in which the power was not known")
        )
    if entry.grams_co2 is not None:
        facts.append(("CO2", f"{_number(entry.grams_co2 / 1000, 3)} kg"))
    facts += [("checks waived", _waivers(entry.waivers)), ("a cloud T4 instead", _cloud(entry))]
    return [f"- {name}: {value}" for name, value in facts]


def _losses(entry: LedgerEntry) -> str:
    return (
        f"{_number(entry.loss, 4)} training, {_number(entry.val_loss, 4)} validation (nats a token), "
        f"{_number(entry.val_bits_per_byte, 4)} validation (bits a byte)"
    )


def _cloud(entry: LedgerEntry) -> str:
    """The course's T4 for what this run has done; in dollars, since no exchange rate is assumed."""
    if not entry.tokens:
        return UNKNOWN
    quote = course_quote_for(entry_flop(entry))
    hours = UNKNOWN if quote.hours is None else f"{quote.hours:.4g} h"
    usd = UNKNOWN if quote.usd is None else _money(quote.usd, "USD")
    return f"{usd} for {hours} at {quote.usd_per_hour:.2f} USD/h ({escape(quote.basis)})"


def _waivers(text: str) -> str:
    try:
        waivers = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError):
        return escape(text) or UNKNOWN
    if not waivers:
        return "none"
    return "; ".join(f"{escape(check)}: {escape(reason)}" for check, reason in waivers.items())


# --- cells ----------------------------------------------------------------------------------------------------


def _is_partial(entry: LedgerEntry) -> bool:
    return entry.gap_s >= 1.0


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def _plain(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _pair(mean: float | None, most: float | None, digits: int) -> str:
    return f"{_number(mean, digits)} / {_number(most, digits)}"


def _kwh(joules: float | None) -> str:
    return UNKNOWN if joules is None else _significant(joules / J_PER_KWH, 3)


def _significant(value: float, digits: int) -> str:
    """A number with that many digits after the point, and more where less than two figures would be left of it."""
    if 0 < abs(value) < 10.0 ** (1 - digits):
        digits = min(12, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _kwh_sum(joules: Sequence[float]) -> str:
    return _with_unit(_kwh(sum(joules) if joules else None), "kWh")


def _with_unit(shown: str, unit: str) -> str:
    return shown if shown == UNKNOWN else f"{shown} {unit}"


def _machine_kwh(entry: LedgerEntry) -> str:
    at_least = "at least " if _is_partial(entry) and entry.machine_energy_j is not None else ""
    return f"{at_least}{_kwh(entry.machine_energy_j)}"


def _source(entry: LedgerEntry) -> str:
    if entry.machine_energy_j is None:
        return ""
    return f" ({escape(entry.energy_source or 'source unknown')})"


def _cost(entry: LedgerEntry) -> str:
    if entry.cost is None:
        return UNKNOWN
    return f"{'at least ' if _is_partial(entry) else ''}{_money(entry.cost, entry.currency)}"


def _money(amount: float, currency: str) -> str:
    """An amount to the currency's smallest coin; one of less than ten of them keeps two figures."""
    return f"{_significant(amount, minor_digits(currency))} {escape(currency)}"


def _storage(num_bytes: int | None) -> str:
    return UNKNOWN if num_bytes is None else f"{num_bytes / 1e6:,.1f} MB"


def _instant(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


_ESCAPED = {
    **{ord(sign): f"\\{sign}" for sign in "\\`*_[]|#~!"},
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
}
_MOST_CHARACTERS = 300


def escape(text: str) -> str:
    """Text from outside as one line of Markdown that shows it and does nothing else.

    Line breaks and tabs become spaces, other control, bidi and invisible characters U+FFFD; long text is cut.
    """
    kept = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
    flat = "".join(_harmless(character) for character in kept)
    return flat.strip().translate(_ESCAPED)


def _harmless(character: str) -> str:
    if character in "\n\r\t\v\f\x85\u2028\u2029":
        return " "
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") else character
