"""The plan screen: whether to stay or to go is answered first, at every size, and what is left out is marked."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from msgspec.structs import replace

from engine.bill import BreakEven
from engine.errors import StoreError
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import (
    RecordedBridge,
    estimated,
    in_state,
)
from tui.plan_text import HERE, here_beside, move_lines, offer_cells, verdict_of
from tui.screens.plan import OfferTable
from tui.widgets.plan_panels import BreakEvenPanel, ForecastPanel


def offer(cloud: float | None, local: float | None = 0.55, **changes: object) -> BreakEven:
    """An offer against this machine."""
    base = BreakEven(
        provider="RunPod",
        gpu="NVIDIA GeForce RTX 4090",
        kind="on-demand",
        currency="USD",
        local=local,
        cloud=cloud,
        is_local_cheaper=None if cloud is None or local is None else local < cloud,
        price_per_kwh=0.232,
        local_hours=81.0,
        cloud_hours=2.3,
        hours=1.85,
    )
    return replace(base, **changes)


@pytest.mark.parametrize("size", SIZES)
async def test_in_mid_run_the_first_line_says_whether_to_finish_here(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(in_state("gpu"))
    bridge.plan = estimated(move=True)
    move = bridge.plan.move
    assert move is not None
    move = replace(move, rest_cost=0.55, break_even=(offer(0.96, gpu="NVIDIA T4"), offer(0.63)))
    bridge.plan = replace(bridge.plan, move=move)
    async with opened(bridge, size) as (app, pilot):
        await pilot.press("5")
        await until(pilot, lambda: "Finish here, or move now" in text(app))
        panel = app.screen.query_one("#even", BreakEvenPanel)
        rows = panel.plain.splitlines()
        assert rows[0].startswith("✓ Finish here: 0.55 USD left to pay; ")
        assert "RunPod RTX 4090" in rows[0] and "0.63 USD" in rows[0]
        assert "0.08 more than here" in rows[1] and "0.41 more than here" in rows[2]
        assert not any("move" in row for row in rows[:3])
        if size == (80, 24):
            assert "z: 5 more" in text(app)
        if size == (200, 50):
            assert not panel.border_subtitle, "a high screen shows all of it"
        await pilot.press("z")
        await until(pilot, lambda: "gone either way, and left out above." in " ".join(panel.plain.split()))
        assert "more" not in str(panel.border_subtitle)


def test_only_where_moving_pays_an_offer_says_move() -> None:
    assert offer_cells(offer(0.40), is_move=True)[2] == "0.15 less than here: move"
    assert offer_cells(offer(0.63), is_move=True)[2] == "0.08 more than here"
    verdict = verdict_of([offer(0.63), offer(0.40)], 10.0, is_move=True)
    assert verdict is not None and verdict.is_here is False
    assert verdict.text.startswith("→ Move: RunPod RTX 4090, 0.40 USD for what is left; here 0.55 USD")
    unknown = verdict_of([offer(None, currency="EUR")], 10.0)
    assert unknown is not None and "currency_per_usd to what a dollar costs in EUR" in unknown.text
    no_local = verdict_of([offer(0.63, local=None)], 10.0)
    assert no_local is not None and no_local.is_here is None and "unknown" in no_local.text
    assert verdict_of([], 10.0) is None


def test_the_lines_for_a_pipe_say_the_same_and_what_is_spent_last() -> None:
    move = estimated(move=True).move
    assert move is not None
    lines = move_lines(replace(move, break_even=(offer(0.63),), rest_hours=20.0))
    assert lines[0].startswith(
        "✓ Finish here: 0.55 USD left to pay; cheapest elsewhere RunPod RTX 4090, 0.63 USD"
    )
    assert lines[0].endswith(", 1 h 51 min instead of 20 h 0 min.")
    assert lines[1] == "RunPod RTX 4090: 0.63 USD, 1 h 51 min, 0.08 more than here"
    assert "has spent" in lines[-1]


@pytest.mark.parametrize("size", SIZES)
async def test_parts_of_memory_add_up_and_cut_text_is_marked(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(), size) as (app, pilot):
        await pilot.press("5")
        await until(pilot, lambda: "✓ fits" in text(app))
        await pilot.pause(0.05)
        shown = text(app)
        assert "a month of it in the cloud" not in shown, "nothing is said of what is unknown"
        if size == (80, 24):
            assert "and 2 more" in shown and "699 MiB" in shown
            forecast = app.screen.query_one("#forecast", ForecastPanel)
            assert "…" in forecast.plain and "8 more" in shown and "As of" not in shown
            forecast.focus()
            await until(pilot, lambda: "z: 8 more" in text(app))
        else:
            assert "logits" in shown and "not measured on this machine" in shown


async def test_this_machine_stands_among_the_offers_wherever_it_is_sorted_to() -> None:
    async with opened(RecordedBridge(), (120, 34)) as (app, pilot):
        await pilot.press("5")
        await until(pilot, lambda: "✓ fits" in text(app))
        table = app.screen.query_one(OfferTable)
        assert table.selected is not None and table.selected.kind == HERE
        assert table.get_cell("0", "0").spans[0].style == "bold" and not table.get_cell("1", "0").spans
        await pilot.press("s", "s", "s", "s")
        await until(pilot, lambda: "USD ▲" in text(app))
        rows = text(app).splitlines()
        here, friend = (
            next(n for n, row in enumerate(rows) if words in row) for words in ("this machine", "a friend")
        )
        assert here < friend and table.selected.kind == HERE, "the cheapest, and still selected"


def test_in_another_currency_this_machine_goes_by_the_rate_of_the_offers() -> None:
    found = estimated()
    assert here_beside(found).usd == found.cost.local  # type: ignore[union-attr]
    evens = tuple(replace(even, cloud=1.7 * (even.cloud or 0), currency="AZN") for even in found.break_even)
    other = replace(found, cost=replace(found.cost, currency="AZN"), break_even=evens)
    here = here_beside(other)
    assert here is not None and here.usd == pytest.approx((found.cost.local or 0) / 1.7)
    assert here_beside(replace(other, break_even=())) is None, "no rate is assumed"
    assert here_beside(replace(found, cost=replace(found.cost, local=None))) is None


async def test_the_palette_knows_the_plan() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        await pilot.press("ctrl+p", *"plan")
        await pilot.pause(0.4)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "plan")


@pytest.mark.parametrize("size", SIZES)
async def test_the_plan_shows_memory_hours_money_offers_and_break_even(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(), size) as (app, pilot):
        await pilot.press("5")
        await until(pilot, lambda: "✓ fits" in text(app))
        await pilot.pause(0.05)
        shown = text(app)
        assert app.current_mode == "plan"
        for words in (
            "optimizer",
            "█",
            "3.52 GiB free",
            "recomputes 11 of 12 blocks",
            "2 d 11 h (2 d 1 h to 3 d 2 h)",
            "formula",
        ):
            assert words in shown, words
        for words in (
            "4.68 kWh machine, 2.42 kWh GPU",
            "0.80 USD (0.66 to 0.99)",
            "at its peak",
            "33.60",
            "yours",
        ):
            assert words in shown, words
        assert "✓ Here: 0.80 USD, the cheapest; next RunPod RTX 4090 1.09 USD" in shown
        assert "0.29 more than here  equal at 0.232 USD/kWh" in shown
        assert "this machine" in shown and "Price: your electricity." in shown
        await pilot.press("j")
        await pilot.pause(0.05)
        shown = text(app)
        assert "this run's FLOP at 15% to 22%" in shown and "Price: yours, from" in shown
        await pilot.press("j")
        await pilot.pause(0.05)
        assert "the course: 48 h" in text(app)


async def test_a_plan_that_cannot_be_made_says_why_and_recovers() -> None:
    bridge = RecordedBridge()
    async with opened(bridge) as (app, pilot):
        bridge.failure = StoreError("It is [red]broken[/red] \x1b[2J", "Mend it.")
        await pilot.press("5")
        await until(pilot, lambda: "r tries again" in text(app))
        assert "[red]broken" in text(app) and "Mend it." in text(app)
        bridge.failure = None
        await pilot.press("r")
        await until(pilot, lambda: "✓ fits" in text(app))
        assert "r tries again" not in text(app)


async def test_a_slow_plan_keeps_no_key_waiting() -> None:
    bridge, gate = RecordedBridge(), threading.Event()

    def slow() -> Any:
        gate.wait(10)
        return bridge.plan

    bridge.estimate = slow  # type: ignore[method-assign]
    async with opened(bridge) as (app, pilot):
        await pilot.press("5")
        await until(pilot, lambda: "Working out the plan" in text(app))
        await pilot.press("4")
        await until(pilot, lambda: app.current_mode == "runs")
        gate.set()
        await pilot.press("5")
        await until(pilot, lambda: "✓ fits" in text(app))
