"""What a kilowatt-hour costs at a moment, and the energy of a run by the price it was used at.

Windows of a tariff go by the local clock of the machine; the first that fits counts, `energy.price_per_kwh` where
none does. What was used is booked while it is used, so that no later look at another clock can move it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from engine.bill import BookedWindow
from engine.records import EnergyRow, TariffRow
from engine.settings import WEEKDAYS, EnergySettings, TariffWindow

J_PER_KWH = 3_600_000
MICRO = Decimal("0.000001")
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
BASE = 0
"""Number of the window that `energy.price_per_kwh` stands for; those of the tariff count from 1."""


def money_of(joules: float, price_per_kwh: float) -> Decimal:
    """What that much energy costs, to the millionth of the currency's unit."""
    # Through text, since 0.17 is no binary fraction and the person wrote 0.17.
    return (Decimal(str(joules)) / J_PER_KWH * Decimal(str(price_per_kwh))).quantize(MICRO)


def window_at(energy: EnergySettings, at: float) -> int:
    """The number of the window in force at an instant, `BASE` where none is."""
    return _week(_key(energy))[_minute_of_week(at)] if energy.tariff else BASE


def price_of(energy: EnergySettings, window: int) -> float:
    """What a kilowatt-hour costs in a window."""
    return energy.price_per_kwh if window == BASE else energy.tariff[window - 1].price_per_kwh


def price_at(energy: EnergySettings, at: float) -> float:
    """What a kilowatt-hour costs at an instant."""
    return price_of(energy, window_at(energy, at))


def mean_price(energy: EnergySettings, start_at: float, seconds: float) -> float:
    """The mean price over a stretch of time at steady power; the price of its beginning where it has no length.

    A change of the clock (daylight saving) within the stretch is not foreseen.
    """
    if not energy.tariff:
        return energy.price_per_kwh
    minutes = round(seconds / 60)
    if minutes <= 0:
        return price_at(energy, start_at)
    sums = _price_sums(_key(energy), energy.price_per_kwh)
    weeks, rest = divmod(minutes, _WEEK_MINUTES)
    first = _minute_of_week(start_at)
    total = weeks * sums[_WEEK_MINUTES] + sums[first + rest] - sums[first]
    return total / minutes


def describe(energy: EnergySettings) -> str:
    """The tariff in a line: "0.17 USD a kWh", or each window with its price."""
    base = f"{energy.price_per_kwh:g} {energy.currency} a kWh"
    if not energy.tariff:
        return base
    windows = [f"{w.price_per_kwh:g} {w.begins}-{w.ends} {days_of(w)}".strip() for w in energy.tariff]
    return f"{'; '.join(windows)}; else {base}"


def days_of(window: TariffWindow) -> str:
    """The days of a window in words; empty for every day."""
    if set(window.days) == set(WEEKDAYS):
        return ""
    if set(window.days) == set(WEEKDAYS[:5]):
        return "mon-fri"
    return " ".join(day for day in WEEKDAYS if day in window.days)


class _Window(msgspec.Struct, frozen=True):
    """A window that can be a key of a cache."""

    begins: int
    ends: int
    days: tuple[int, ...]
    price: float


def _key(energy: EnergySettings) -> tuple[_Window, ...]:
    return tuple(
        _Window(_minutes(w.begins), _minutes(w.ends), tuple(map(WEEKDAYS.index, w.days)), w.price_per_kwh)
        for w in energy.tariff
    )


def _minutes(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return 60 * int(hour) + int(minute)


def _minute_of_week(at: float) -> int:
    local = time.localtime(at)
    return local.tm_wday * _DAY_MINUTES + local.tm_hour * 60 + local.tm_min


@functools.lru_cache(maxsize=8)
def _week(windows: tuple[_Window, ...]) -> list[int]:
    """The window of every minute of a week that begins on Monday."""
    minutes = [BASE] * _WEEK_MINUTES
    for number in range(len(windows), 0, -1):
        window = windows[number - 1]
        length = (window.ends - window.begins) % _DAY_MINUTES or _DAY_MINUTES
        for day in window.days:
            start = day * _DAY_MINUTES + window.begins
            for minute in range(start, start + length):
                minutes[minute % _WEEK_MINUTES] = number
    return minutes


def unreachable(energy: EnergySettings) -> list[int]:
    """Numbers, from 1, of the windows in which no minute of the week falls: those before them fit first."""
    reached = set(_week(_key(energy)))
    return [number for number in range(1, len(energy.tariff) + 1) if number not in reached]


@functools.lru_cache(maxsize=8)
def _price_sums(windows: tuple[_Window, ...], base_price: float) -> list[float]:
    """The running sum of the price of each minute over two weeks, from 0."""
    prices = [base_price, *(window.price for window in windows)]
    sums = [0.0]
    for number in _week(windows) * 2:
        sums.append(sums[-1] + prices[number])
    return sums


class TariffMeter:
    """Books what one life of the supervisor uses by the price in force at that moment."""

    def __init__(self, energy: EnergySettings, former: Iterable[TariffRow], segment: int) -> None:
        self._energy = energy
        self._segment = segment
        self._former = [row for row in former if row.segment != segment]
        self._own: dict[int, TariffRow] = {}
        self._booked_j = 0.0
        self._booked_s = 0.0

    @property
    def rows(self) -> list[TariffRow]:
        """Everything that was booked, of all lives."""
        return [*self._former, *self._own.values()]

    def add(self, energy: EnergyRow) -> list[TariffRow]:
        """Book what has been used since the last call; the rows that changed, none at a flat price."""
        if not self._energy.tariff or energy.machine_j is None:
            return []
        joules, seconds = energy.machine_j - self._booked_j, energy.covered_s - self._booked_s
        self._booked_j, self._booked_s = energy.machine_j, energy.covered_s
        window = window_at(self._energy, energy.at)
        before = self._own.get(window)
        row = TariffRow(
            key=f"{self._segment} {window}",
            segment=self._segment,
            window=window,
            price_per_kwh=price_of(self._energy, window),
            machine_j=joules + (before.machine_j if before else 0.0),
            seconds=seconds + (before.seconds if before else 0.0),
        )
        self._own[window] = row
        return [row]


def cost_so_far(machine_j: float | None, rows: Sequence[TariffRow], energy: EnergySettings) -> float | None:
    """What a run has cost: by the price of each moment, or at the flat price; None where its energy is unknown."""
    if machine_j is None:
        return None
    if not energy.tariff:
        return float(money_of(machine_j, energy.price_per_kwh))
    return float(sum((money_of(row.machine_j, row.price_per_kwh) for row in rows), Decimal(0)))


def booked_windows(
    machine_j: float | None, rows: Sequence[TariffRow], energy: EnergySettings
) -> list[BookedWindow]:
    """The energy of a run by price, with the tariff in force; empty where it is unknown."""
    if machine_j is None:
        return []
    if not energy.tariff:
        return [_booked("always", energy.price_per_kwh, machine_j)]
    used: dict[tuple[int, float], float] = {}
    for row in rows:
        key = (row.window, row.price_per_kwh)
        used[key] = used.get(key, 0.0) + row.machine_j
    return [_booked(_name(energy, window), price, joules) for (window, price), joules in sorted(used.items())]


def rows_of(booked: Iterable[BookedWindow], energy: EnergySettings, segment: int) -> list[TariffRow]:
    """What an entry of the ledger keeps of a run's windows, as rows again; how long each was in use is not kept."""
    windows = {_name(energy, window): window for window in range(len(energy.tariff) + 1)}
    return [
        TariffRow(
            key=f"{segment} {windows.get(found.window, BASE)} {number}",
            segment=segment,
            window=windows.get(found.window, BASE),
            price_per_kwh=found.price_micro / 1e6,
            machine_j=found.machine_j,
            seconds=0.0,
        )
        for number, found in enumerate(booked)
    ]


def _name(energy: EnergySettings, window: int) -> str:
    if window == BASE or window > len(energy.tariff):
        return "else"
    found = energy.tariff[window - 1]
    return f"{found.begins}-{found.ends} {days_of(found)}".strip()


def _booked(name: str, price: float, joules: float) -> BookedWindow:
    def micro(amount: Decimal) -> int:
        return int((amount * 1_000_000).to_integral_value())

    return BookedWindow(
        window=name,
        price_micro=micro(Decimal(str(price))),
        machine_j=joules,
        cost_micro=micro(money_of(joules, price)),
    )
