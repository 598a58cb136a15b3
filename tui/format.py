"""How facts are written for people: numbers, units, times, money, and the one cleaning of text from outside.

Everything unknown is `UNKNOWN`; nothing here turns an unknown into a zero. Figures, dates and durations are those of
the language in use; what a program reads is never written here.
"""

from __future__ import annotations

import time
import unicodedata

from tui.language import code, figure, mark, told, tr

UNKNOWN = "—"

_MOST_MARKS = 2
"""Combining marks kept on one character; more is how text climbs over the lines around it."""


class _Cleaner(dict[int, str]):
    """What each code point is shown as, found out once a code point."""

    def __missing__(self, code: int) -> str:
        shown = _harmless(code)
        self[code] = shown
        return shown


def _harmless(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xFE00 <= code <= 0xFE0F:
        return ""
    character = chr(code)
    # Cc: C1 controls. Cf: bidi controls, zero-width joiners, tags. Cs: lone surrogates. Co, Cn: no known width.
    is_risky = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return "\N{REPLACEMENT CHARACTER}" if is_risky else character


_CLEANER = _Cleaner()


def clean(text: str, *, keep_newlines: bool = False) -> str:
    """Text from outside as text that is safe in a terminal: every control becomes a visible sign.

    With `keep_newlines` a line break stays one and a tab becomes four spaces; else both become visible signs.
    """
    if text.isascii() and text.isprintable():
        return text
    if keep_newlines:
        lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
        return "\n".join(_limit_marks(line.translate(_CLEANER)) for line in lines)
    return _limit_marks(text.translate(_CLEANER))


def said(text: str, *, keep_newlines: bool = False) -> str:
    """What the engine says: in the language where that sentence is known, and cleaned like all text from outside."""
    return clean(told(text), keep_newlines=keep_newlines)


def _limit_marks(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def count(value: float | None) -> str:
    """A count in three figures with k, M, B or T: `842 k`, `1.00 B`."""
    if value is None:
        return UNKNOWN
    scaled, suffix = _scaled(float(value), 1000.0, ("", "k", "M", "B", "T"))
    return f"{_figures(scaled, is_whole=not suffix)} {suffix}".rstrip()


def size(num_bytes: float | None) -> str:
    """Bytes in binary units, as memory is sold: `3.31 GiB`."""
    if num_bytes is None:
        return UNKNOWN
    scaled, suffix = _scaled(float(num_bytes), 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))
    return f"{_figures(scaled, is_whole=suffix == 'B')} {suffix}"


def size_decimal(num_bytes: float | None) -> str:
    """Bytes in decimal units, as files and rates are told: `12.3 MB`."""
    if num_bytes is None:
        return UNKNOWN
    scaled, suffix = _scaled(float(num_bytes), 1000.0, ("B", "kB", "MB", "GB", "TB"))
    return f"{_figures(scaled, is_whole=suffix == 'B')} {suffix}"


def _scaled(value: float, base: float, suffixes: tuple[str, ...]) -> tuple[float, str]:
    for suffix in suffixes[:-1]:
        if abs(value) < base * 0.9995:
            return value, suffix
        value /= base
    return value, suffixes[-1]


def _figures(value: float, *, is_whole: bool) -> str:
    if is_whole or abs(value) >= 99.95:
        return f"{value:.0f}"
    return figure(f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}")


def number(value: float | None, digits: int) -> str:
    """A number with a fixed number of digits after the point."""
    return UNKNOWN if value is None else figure(f"{value:.{digits}f}")


def short(value: float | None) -> str:
    """A number as short as it can be told: `0.7`, `12`."""
    return UNKNOWN if value is None else figure(f"{value:g}")


def figures(value: float | None) -> str:
    """A number in three figures: `0.0213`, `1.2e+04`."""
    return UNKNOWN if value is None else figure(f"{value:.3g}")


def thousands(value: float | None) -> str:
    """A whole number with its thousands set apart: `1,234,567`."""
    return UNKNOWN if value is None else figure(f"{value:,.0f}")


def rate(value: float | None) -> str:
    """A learning rate: `1.5e-03`."""
    return UNKNOWN if value is None else figure(f"{value:.2e}")


def percent(frac: float | None) -> str:
    """A share from 0 to 1: `42.1 %`; never 100 before the end."""
    if frac is None:
        return UNKNOWN
    return figure(f"{min(frac, 0.999) * 100:.1f} %") if frac < 1 else "100 %"


def signed_percent(frac: float | None) -> str:
    """A share by which something differs: `+1.3 %`."""
    return UNKNOWN if frac is None else figure(f"{100 * frac:+.1f} %")


def whole(value: float | None, unit: str) -> str:
    """A reading without digits after the point, with its unit: `63 °C`."""
    return UNKNOWN if value is None else f"{value:.0f} {unit}"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units: `2 d 4 h`, `5 h 12 min`, `3 min 12 s`, `48 s`."""
    if seconds is None:
        return UNKNOWN
    left = max(0, round(seconds))
    second, minute, hour, day = (tr(unit) for unit in _TIME_UNITS)
    if left < 60:
        return f"{left} {second}"
    if left < 3600:
        return f"{left // 60} {minute} {left % 60} {second}"
    if left < 86_400:
        return f"{left // 3600} {hour} {left % 3600 // 60} {minute}"
    return f"{left // 86_400} {day} {left % 86_400 // 3600} {hour}"


_TIME_UNITS = (mark("s"), mark("min"), mark("h"), mark("d"))


def round_duration(seconds: float) -> str:
    """A duration that is a whole number of one unit: `5 min`, `6 h`, `3 d`."""
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return duration(seconds)


def hours(value: float | None) -> str:
    """Hours as `duration` writes them."""
    return UNKNOWN if value is None else duration(value * 3600)


def span(value: float | None, low: float | None, high: float | None) -> str:
    """Hours with their range: `52 h 10 min (43 h 0 min to 2 d 17 h)`; without one, the hours alone."""
    if low is None or high is None or value is None or hours(low) == hours(high):
        return hours(value)
    return tr("{hours} ({low} to {high})", hours=hours(value), low=hours(low), high=hours(high))


def clock(at: float | None, now: float) -> str:
    """A local time: `19:42` within a day of `now`, `Thu 19:42` within six, else `03 Dec 19:42`."""
    if at is None:
        return UNKNOWN
    then = time.localtime(at)
    day = ""
    if then[:3] != time.localtime(now)[:3]:
        is_near = abs(at - now) < 6 * 86_400
        day = f"{weekday(then.tm_wday)} " if is_near else f"{then.tm_mday:02d} {month(then.tm_mon)} "
    return day + time.strftime("%H:%M", then)


_WEEKDAYS = (mark("Mon"), mark("Tue"), mark("Wed"), mark("Thu"), mark("Fri"), mark("Sat"), mark("Sun"))
_MONTHS = (
    *(mark("Jan"), mark("Feb"), mark("Mar"), mark("Apr"), mark("May"), mark("Jun")),
    *(mark("Jul"), mark("Aug"), mark("Sep"), mark("Oct"), mark("Nov"), mark("Dec")),
)


def weekday(number: int) -> str:
    """The short name of a weekday, 0 being Monday."""
    return tr(_WEEKDAYS[number])


def month(number: int) -> str:
    """The short name of a month, from 1."""
    return tr(_MONTHS[number - 1])


def clock_range(low: float | None, high: float | None, now: float) -> str:
    """Two local times: `15:02 to 17:40`, `Fri 15:02 to Sat 02:11`; the day is named once where it is the same."""
    if low is None or high is None:
        return UNKNOWN
    first, last = clock(low, now), clock(high, now)
    if time.localtime(low)[:3] == time.localtime(high)[:3]:
        last = last[-5:]
    return tr("{first} to {last}", first=first, last=last)


def clock_s(at: float) -> str:
    """A local time of day with seconds."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def date(at: float) -> str:
    """A local date and time: `2026-11-23 19:42`."""
    return time.strftime(f"{_DATE_PATTERNS[code()]} %H:%M", time.localtime(at))


_DATE_PATTERNS = {"en": "%Y-%m-%d", "az": "%d.%m.%Y"}


def day(iso: str) -> str:
    """A day that is known as `2026-11-23`."""
    is_date = iso.replace("-", "").isdigit()
    return ".".join(reversed(iso.split("-"))) if code() == "az" and is_date else iso


def day_of_year(iso: str) -> str:
    """A day that is known as `2026-11-23`, without its year: `11-23`."""
    return f"{iso[8:]}.{iso[5:7]}" if code() == "az" else iso[5:]


def money(amount: float | None, currency: str) -> str:
    """An amount with its currency: `33.60 USD`; below a tenth with two figures: `0.0042 USD`."""
    if amount is None:
        return UNKNOWN
    if amount == 0 or abs(amount) >= 0.0995:
        return figure(f"{amount:.2f}") + f" {currency}"
    if abs(amount) < 0.0001:
        return figure("<0.0001") + f" {currency}"
    return figure(f"{amount:.4f}") + f" {currency}"


def price(amount: float | None, currency: str) -> str:
    """A price of a unit in three figures: `0.17 USD`, `1,240 USD`."""
    if amount is None:
        return UNKNOWN
    return f"{figure(f'{amount:,.0f}' if amount >= 999.5 else f'{amount:.3g}')} {currency}"


def energy(joules: float | None) -> str:
    """Energy in Wh, from a tenth of a kWh on in kWh."""
    if joules is None:
        return UNKNOWN
    watt_hours = joules / 3600
    if watt_hours < 100:
        return f"{figure(f'{watt_hours:.2f}' if watt_hours < 10 else f'{watt_hours:.1f}')} Wh"
    return kwh(watt_hours / 1000)


def kwh(value: float | None) -> str:
    """Kilowatt-hours in three figures; below a tenth in Wh."""
    if value is None:
        return UNKNOWN
    if value < 0.1:
        return energy(value * 3.6e6)
    return f"{_figures(value, is_whole=False)} kWh"
