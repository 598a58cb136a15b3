"""Prices by the clock: which window counts when, and that energy is booked at the price it was used at."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.ledger.tariff import (
    BASE,
    TariffMeter,
    booked_windows,
    cost_so_far,
    describe,
    mean_price,
    price_at,
    window_at,
)
from engine.records import EnergyRow
from engine.settings import EnergySettings, TariffWindow

NIGHT = TariffWindow(
    begins="22:00", ends="06:00", days=["mon", "tue", "wed", "thu", "fri"], price_per_kwh=0.1
)
WEEKEND = TariffWindow(begins="00:00", ends="24:00", days=["sat", "sun"], price_per_kwh=0.2)
ENERGY = EnergySettings(price_per_kwh=0.4, currency="EUR", tariff=[NIGHT, WEEKEND])


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A zone east of UTC with daylight saving, so that UTC and local cannot be mixed up unseen."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(day: int, clock: str) -> float:
    """A local time in the week from Monday, 5 January 2026."""
    return time.mktime(time.strptime(f"2026-01-{4 + day:02} {clock}", "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    ("day", "clock", "price"),
    [
        (1, "21:59", 0.4),
        (1, "22:00", 0.1),
        (2, "05:59", 0.1),
        (2, "06:00", 0.4),
        (6, "05:59", 0.1),  # Friday's night, into Saturday: the first that fits counts
        (6, "06:00", 0.2),
        (7, "23:59", 0.2),
        (8, "00:00", 0.4),  # Sunday has no night window
        (8, "22:00", 0.1),
    ],
)
def test_the_window_in_force(day: int, clock: str, price: float) -> None:
    assert price_at(ENERGY, at(day, clock)) == price


def test_daylight_saving_follows_the_clock_on_the_wall() -> None:
    summer = time.mktime(time.strptime("2026-07-06 22:30", "%Y-%m-%d %H:%M"))
    assert price_at(ENERGY, summer) == 0.1 and price_at(ENERGY, summer - 3600) == 0.4


def test_equal_ends_are_a_whole_day_and_flat_is_flat() -> None:
    all_day = EnergySettings(tariff=[TariffWindow(begins="07:00", ends="07:00", price_per_kwh=0.5)])
    assert {price_at(all_day, at(1, f"{hour:02}:00")) for hour in range(24)} == {0.5}
    assert window_at(EnergySettings(), at(1, "23:00")) == BASE
    assert mean_price(EnergySettings(price_per_kwh=0.3), 0.0, 1e6) == 0.3


def test_the_mean_price_of_a_stretch() -> None:
    assert mean_price(ENERGY, at(1, "21:00"), 2 * 3600) == pytest.approx(0.25)
    assert mean_price(ENERGY, at(1, "21:00"), 0) == 0.4
    week = (40 * 0.1 + 42 * 0.2 + (168 - 82) * 0.4) / 168
    assert mean_price(ENERGY, at(1, "12:00"), 7 * 86_400) == pytest.approx(week)
    assert mean_price(ENERGY, at(3, "03:00"), 21 * 86_400) == pytest.approx(week)


def row(when: float, joules: float | None, segment: int = 1) -> EnergyRow:
    return EnergyRow(segment=segment, at=when, elapsed_s=0.0, covered_s=0.0, machine_j=joules)


def test_energy_is_booked_at_the_price_it_was_used_at_over_all_lives() -> None:
    first = TariffMeter(ENERGY, [], 1)
    first.add(row(at(1, "21:59"), 3.6e6))
    first.add(row(at(1, "22:01"), 2 * 3.6e6))
    second = TariffMeter(ENERGY, first.rows, 2)
    second.add(row(at(1, "23:00"), 3.6e6, segment=2))
    second.add(row(at(2, "07:00"), 3 * 3.6e6, segment=2))
    assert sum(r.machine_j for r in second.rows) == pytest.approx(5 * 3.6e6), "all of it, none of it twice"
    assert cost_so_far(5 * 3.6e6, second.rows, ENERGY) == pytest.approx(3 * 0.4 + 2 * 0.1)
    booked = booked_windows(5 * 3.6e6, second.rows, ENERGY)
    assert [(w.window, w.price_micro, w.cost_micro) for w in booked] == [
        ("else", 400_000, 1_200_000),
        ("22:00-06:00 mon-fri", 100_000, 200_000),
    ]
    assert len({r.key for r in second.rows}) == len(second.rows) == 4


def test_flat_and_unknown() -> None:
    flat = EnergySettings(price_per_kwh=0.17)
    assert TariffMeter(flat, [], 1).add(row(0.0, 3.6e6)) == []
    assert TariffMeter(ENERGY, [], 1).add(row(0.0, None)) == []
    assert cost_so_far(3.6e6, [], flat) == 0.17
    assert cost_so_far(None, [], ENERGY) is None and booked_windows(None, [], flat) == []
    assert [w.window for w in booked_windows(3.6e6, [], flat)] == ["always"]


def test_a_tariff_in_words() -> None:
    assert describe(EnergySettings()) == "0.17 USD a kWh"
    assert describe(ENERGY) == "0.1 22:00-06:00 mon-fri; 0.2 00:00-24:00 sat sun; else 0.4 EUR a kWh"
