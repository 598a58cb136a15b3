"""Readings of sensors in rows of one form, in columns: now with its limit, mean, maximum, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import BAD, ESTIMATE, FAINT, MUTED, STRONG, TEXT, Line, length, ruled

_MEASURED = (mark("measured"), mark("battery"), mark("from its counter"))
SHORT_SOURCES = {"partly measured": mark("partly est.")}
_ABOUT = "≈"
"""Before a figure that is no measurement, where there is no room to say so in words."""


class Reading(NamedTuple):
    """What one row tells."""

    label: str
    unit: str
    source: str
    """As the catalogue has it."""
    now: float | None
    mean: float | None
    high: float | None
    limit: float | None
    """What it is held against; None: nothing."""
    is_known: bool
    """Whether it was ever read."""
    is_over: bool
    """Whether there is no newest reading to tell."""

    @property
    def is_measured(self) -> bool:
        """Whether its source goes without saying."""
        return self.source in _MEASURED


class _Form(NamedTuple):
    """One way of telling all rows."""

    gap: str
    has_source: bool
    """Whether the source is told in words; that of a measurement may be left out."""
    is_short: bool
    has_mean: bool = True


_FORMS = (
    _Form("  ", True, False),
    _Form("  ", True, True),
    _Form("  ", False, True),
    _Form(" ", False, True),
    _Form(" ", False, True, False),
)
"""The fullest first."""


def digits_of(unit: str) -> int:
    """Digits after the point."""
    return 1 if unit == "GiB" else 0


def readings(shown: Sequence[Reading], width: int) -> list[Line]:
    """One row a reading, all in the fullest form that has room for each."""
    told: list[Line] = []
    for form in _FORMS:
        told = _told(shown, form)
        rights = [_source(reading, form) for reading in shown]
        if all(
            length(left) + length(right) < width + (not right)
            for left, right in zip(told, rights, strict=True)
        ):
            return [ruled(left, right, width) for left, right in zip(told, rights, strict=True)]
    return [ruled(left, [], width) for left in told]


def _source(reading: Reading, form: _Form) -> Line:
    if not reading.is_known:
        return [] if form.is_short and not form.has_source else [(tr(reading.source), FAINT)]
    if not form.has_source or (form.is_short and reading.is_measured):
        return []
    source = SHORT_SOURCES.get(reading.source, reading.source) if form.is_short else reading.source
    return [(tr(source), FAINT if reading.is_measured else ESTIMATE)]


def _told(shown: Sequence[Reading], form: _Form) -> list[Line]:
    labels = _column([reading.label for reading in shown])
    nows = _column([_now(reading, form) for reading in shown], is_right=True)
    limits = _column([_limit(reading) for reading in shown])
    units = _column([reading.unit for reading in shown])
    means = _column([_mean(reading, form) for reading in shown], is_right=True)
    highs = _column([_value(reading, reading.high) for reading in shown], is_right=True)
    lines: list[Line] = []
    for reading, label, now, limit, unit, mean, high in zip(
        shown, labels, nows, limits, units, means, highs, strict=True
    ):
        held: Line = [(f"{limit} {unit}", MUTED)]
        past: Line = [(f" {fmt.UNKNOWN} ", STRONG)] if reading.is_over else []
        if reading.is_known:
            past = [(f"{form.gap}{tr('mean')} ", MUTED), (mean, TEXT)] if form.has_mean else []
            past += [(f"{form.gap}{tr('max')} ", MUTED), (high, _style(reading, reading.high, TEXT))]
        if reading.is_over:
            lines.append([(label, MUTED), *past, *held])
        else:
            plain = ESTIMATE if _is_about(reading, form) else STRONG
            newest: Line = [(f"{label} ", MUTED), (now, _style(reading, reading.now, plain))]
            lines.append([*newest, *held, *past])
    return lines


def _column(cells: list[str], *, is_right: bool = False) -> list[str]:
    width = max(map(len, cells), default=0)
    return [cell.rjust(width) if is_right else cell.ljust(width) for cell in cells]


def _value(reading: Reading, number: float | None) -> str:
    return fmt.number(number, digits_of(reading.unit))


def _now(reading: Reading, form: _Form) -> str:
    return _ABOUT * _is_about(reading, form) + _value(reading, reading.now)


def _mean(reading: Reading, form: _Form) -> str:
    is_first = reading.is_over and _is_about(reading, form)
    return _ABOUT * is_first + _value(reading, reading.mean)


def _is_about(reading: Reading, form: _Form) -> bool:
    return reading.is_known and not reading.is_measured and not form.has_source


def _limit(reading: Reading) -> str:
    return "" if reading.limit is None else f"/{_value(reading, reading.limit)}"


def _style(reading: Reading, number: float | None, usual: str) -> str:
    """In the colour of what is wrong where it is above the limit by what the figures show."""
    if reading.limit is None or number is None:
        return usual
    digits = digits_of(reading.unit)
    return BAD if round(number, digits) > round(reading.limit, digits) else usual
