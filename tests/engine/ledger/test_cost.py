"""Money from joules: exact, projected by what is known, and never from nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.ledger.cost import cost_of, cost_view, minor_digits, money_of, round_money, total_energy
from engine.plan import make_plan
from engine.records import CostView, EnergyRow, RunState, Status
from engine.settings import EnergySettings, ModelSettings, Settings
from tests.engine.test_plan import CPU

PLAN = make_plan(Settings(model=ModelSettings(preset="tiny")), CPU)


def segment(number: int = 1, **changes: Any) -> EnergyRow:
    facts: dict[str, Any] = {
        "segment": number,
        "at": 0.0,
        "elapsed_s": 100.0,
        "covered_s": 100.0,
        "gpu_j": 3000.0,
        "gpu_source": "counter",
        "machine_j": 6000.0,
        "machine_source": "estimate",
    }
    return EnergyRow(**{**facts, **changes})


def status(**changes: Any) -> Status:
    unknown = dict.fromkeys(Status.__struct_fields__)
    facts = {
        "id": "run-1",
        "state": RunState.RUNNING,
        "steps": PLAN.steps,
        "tokens_total": PLAN.tokens_total,
        "currency": "USD",
        "restarts": 0,
    }
    return Status(**{**unknown, **facts, **changes})


def view(rows: list[EnergyRow], price: float = 0.17, **of_status: Any) -> CostView:
    return cost_view(rows, EnergySettings(price_per_kwh=price), PLAN, status(**of_status))


def test_money_is_exact() -> None:
    assert money_of(3_600_000, 0.17) == Decimal("0.17")
    assert money_of(3_600_000 * 3, 0.1) == Decimal("0.3")
    assert cost_of(36_000.0, 0.17) == 0.0017
    assert money_of(0.0, 0.17) == 0


def test_minor_digits_and_rounding() -> None:
    assert [minor_digits(c) for c in ("USD", "EUR", "AZN", "JPY", "KWD", "XYZ")] == [2, 2, 2, 0, 3, 2]
    assert round_money(Decimal("2.345"), "USD") == Decimal("2.34"), "half to even"
    assert round_money(Decimal("2.355"), "USD") == Decimal("2.36")
    assert str(round_money(Decimal("249.6"), "JPY")) == "250"
    assert str(round_money(Decimal("1.2"), "KWD")) == "1.200"


def test_segments_add_up_and_the_weakest_source_is_named() -> None:
    total = total_energy([segment(), segment(2, gpu_source="integrated", machine_source="partly measured")])
    assert (total.gpu_j, total.machine_j) == (6000.0, 12_000.0)
    assert (total.gpu_source, total.machine_source) == ("integrated", "estimate")
    assert not total.is_partial


def test_a_segment_without_a_figure_is_a_gap_and_not_a_zero() -> None:
    unknown = segment(2, machine_j=None, machine_source=None, gpu_j=None, gpu_source=None, covered_s=0.0)
    total = total_energy([segment(gap_s=3.0), unknown])
    assert total.machine_j == 6000.0 and total.gap_s == 103.0 and total.is_partial
    nothing = total_energy([unknown])
    assert nothing.machine_j is None and nothing.gpu_j is None and nothing.machine_source is None
    assert total_energy([]).machine_j is None


def test_the_projection_takes_the_current_speed_at_the_mean_power() -> None:
    tokens = PLAN.tokens_total // 2
    found = view([segment()], tokens=tokens, tokens_per_second=(PLAN.tokens_total - tokens) / 300.0)
    assert found.cost == cost_of(6000.0, 0.17)
    assert found.projected_hours == pytest.approx(400 / 3600)
    assert found.projected_kwh == pytest.approx(24_000 / 3.6e6)
    assert found.projected_cost == pytest.approx(cost_of(24_000.0, 0.17))


def test_without_a_current_speed_it_takes_what_a_token_took() -> None:
    found = view([segment()], tokens=PLAN.tokens_total // 4)
    assert found.projected_hours == pytest.approx(400 / 3600)
    assert found.projected_kwh == pytest.approx(24_000 / 3.6e6)


def test_before_the_first_token_nothing_is_projected() -> None:
    found = view([segment()])
    assert found.projected_hours is None and found.projected_kwh is None and found.projected_cost is None
    assert found.cost is not None
    empty = view([])
    assert empty.cost is None and empty.machine_energy_j is None and empty.projected_cost is None


def test_without_power_hours_are_projected_and_money_is_not() -> None:
    rows = [segment(machine_j=None, machine_source=None, covered_s=0.0)]
    found = view(rows, tokens=PLAN.tokens_total // 4)
    assert found.projected_hours == pytest.approx(400 / 3600)
    assert found.cost is None and found.projected_cost is None and found.gap_s == 100.0


def test_a_run_that_is_over_costs_what_it_cost() -> None:
    found = view([segment()], state=RunState.STOPPED, tokens=4096, tokens_per_second=10.0)
    assert found.projected_cost == found.cost
    assert found.projected_hours == pytest.approx(100 / 3600)


def test_the_courses_t4_stands_beside_it() -> None:
    found = view([segment()], tokens=4096)
    assert found.cloud is not None and found.cloud.gpu == "NVIDIA T4" and found.cloud.usd_per_hour == 0.70
    assert found.cloud.usd is not None and 0 < found.cloud.usd < 0.01
