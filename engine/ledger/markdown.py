"""How figures and text from outside are written in Markdown: unknown is a dash, and nothing from outside acts."""

from __future__ import annotations

import math
import time
import unicodedata
from collections.abc import Iterable, Sequence

from engine.currency import minor_digits
from engine.ledger.tariff import J_PER_KWH

UNKNOWN = "—"


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def number(value: float | None, digits: int) -> str:
    """A number with that many digits after the point."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return UNKNOWN if value is None else f"{value:,}"


def plain(value: float) -> str:
    """A number without needless zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def pair(mean: float | None, most: float | None, digits: int) -> str:
    """Mean and maximum."""
    return f"{number(mean, digits)} / {number(most, digits)}"


def kwh(joules: float | None) -> str:
    """Energy in kilowatt-hours, without the unit."""
    return UNKNOWN if joules is None else significant(joules / J_PER_KWH, 3)


def significant(value: float, digits: int) -> str:
    """A number with that many digits after the point, and more where less than two figures would be left of it."""
    if 0 < abs(value) < 10.0 ** (1 - digits):
        digits = min(12, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def with_unit(shown: str, unit: str) -> str:
    """A figure with its unit; a dash stays alone."""
    return shown if shown == UNKNOWN else f"{shown} {unit}"


def money(amount: float, currency: str) -> str:
    """An amount to the currency's smallest coin; one of less than ten of them keeps two figures."""
    return f"{significant(amount, minor_digits(currency))} {escape(currency)}"


def size(num_bytes: int | None) -> str:
    """Bytes as files are told."""
    return UNKNOWN if num_bytes is None else f"{num_bytes / 1e6:,.1f} MB"


def instant(at: float) -> str:
    """A date and a time in UTC."""
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
