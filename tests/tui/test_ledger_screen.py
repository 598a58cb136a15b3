"""The ledger screen: totals that are no less than their parts, and a place for what there is to say."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.bill import DayLine
from engine.errors import StoreError
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import (
    RecordedBridge,
    days,
    entry,
)
from tui.headless import print_ledger
from tui.ledger_text import totals_text
from tui.widgets.ledger_panels import BooksPanel, CloudBarsPanel, DaysPanel, PredictedPanel

ONLY_GPU = entry(
    "gpu-alone", 600, machine_energy_j=None, gpu_energy_j=6.4e6, energy_source=None, cost=None, elapsed_s=2e5
)
GAPPED = entry("gapped", 900, gap_s=90.0)


def test_a_total_is_no_less_than_what_the_gpu_alone_has_used(capsys: pytest.CaptureFixture[str]) -> None:
    told = totals_text([entry("whole", 60), ONLY_GPU])
    assert "at least 1.78 kWh" in told and "at least 0.30 USD" in told
    assert totals_text([GAPPED]).count("at least") == 2, "power was unknown for a time"
    print_ledger([entry("whole", 60), ONLY_GPU])
    printed = capsys.readouterr().out
    assert "machine ≥ 1.78 kWh" in printed and "total at least 0.30 USD" in printed


@pytest.mark.parametrize("size", SIZES)
async def test_a_figure_that_may_be_more_has_its_sign_in_the_table(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(entries=(entry("whole", 60), ONLY_GPU)), size) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "2 runs: " in text(app))
        row = next(line for line in text(app).splitlines() if line.startswith(" gpu-alone"))
        assert "≥ 1.78 kWh" in row and "≥ 0.30 USD" in row
        await pilot.press("j")
        await until(
            pilot, lambda: app.screen.query_one("#cloud", CloudBarsPanel).plain.count("≥ 0.30 USD") == 1
        )


@pytest.mark.parametrize("size", SIZES)
async def test_the_books_take_the_rows_that_the_table_leaves(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(entries=(entry("one", 60, waivers='{"power": "it is plugged in"}'),))
    async with opened(bridge, size) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "can go" in text(app) or "can be deleted now" in text(app))
        books = app.screen.query_one(BooksPanel)
        if size[1] < 45:
            assert app.screen.query_one("#table").size.height <= 3, "one entry needs no more"
        rows = books.plain.splitlines()
        assert rows[1].startswith("waived") and "power" in rows[1], "a waiver is among the first"
        if size == (80, 24):
            assert len(rows) >= 8 and "z: " in str(books.border_subtitle)
        else:
            assert "unknown: set cloud.usd_per_gib_month" in books.plain and not books.border_subtitle
        assert "5 min 24 s → 6 min 42 s" in app.screen.query_one(PredictedPanel).plain


@pytest.mark.parametrize("num", (1, 3, 40))
@pytest.mark.parametrize("size", ((80, 24), (100, 32), (120, 34), (120, 44), (160, 45), (200, 50), (200, 70)))
async def test_all_of_it_fits_at_every_size(size: tuple[int, int], num: int) -> None:
    entries = tuple(entry(f"1122-080000-134m-77{n:02}", 60 + n, elapsed_s=2e5) for n in range(num))
    async with opened(RecordedBridge(entries=entries), size) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: f"{num} run" in text(app))
        await pilot.pause(0.1)
        assert app.screen.max_scroll_y == 0 and app.screen.query_one("#table").max_scroll_x == 0
        assert app.screen.query_one(BooksPanel).size.height >= 5
        assert app.screen.query_one("#lower").size.height >= 7


async def test_a_day_without_money_is_a_gap() -> None:
    async with opened(RecordedBridge(entries=(entry("one", 60),)), (120, 34)) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "max " in text(app))
        panel = app.screen.query_one(DaysPanel)
        lines = [
            DayLine(run_id="x", day=day, hours=1, cost=1.0) for day in ("2026-11-20", "2026-11-23", "soon")
        ]
        panel.show(lines, "USD")
        rows = panel.plain.splitlines()
        columns = rows[1].rstrip()
        assert columns.startswith("████████ ") and columns.endswith(" ████████")
        assert len(columns) == 4 * 8 + 3, "four days of eight cells, a cell between them"
        assert "11-20 to 11-23" in panel.plain
        panel.show(
            [DayLine(run_id="x", day=day, hours=1, cost=1.0) for day in ("2020-01-01", "2026-11-23")], "USD"
        )
        assert len(panel.plain.splitlines()[1]) == panel.size.width, (
            "the last days, as many as there are cells"
        )


async def test_an_empty_ledger_says_where_to_go() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "No run has been booked" in text(app))
        shown = " ".join(text(app).split())
        assert "1 makes the checks, and s there starts a run; 5 tells what it would cost." in shown
        assert "Zoom" not in shown


@pytest.mark.parametrize("size", SIZES)
async def test_the_ledger_sums_up_and_says_at_least(size: tuple[int, int]) -> None:
    entries = (entry("one", 60), entry("two", 600, machine_energy_j=None, cost=None, energy_source=None))
    async with opened(RecordedBridge(entries=entries), size) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "2 runs: " in text(app))
        assert "at least 6.92 Wh" in text(app) and "at least 0.0012 USD" in text(app)


@pytest.mark.parametrize("size", SIZES)
async def test_the_ledger_shows_three_books_plan_and_actual_cloud_and_days(size: tuple[int, int]) -> None:
    entries = (entry("one", 60), entry("two", 90_000, days=days(90_000, (0.5, 0.25)), cost=0.75))
    async with opened(RecordedBridge(entries=entries), size) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "can go" in text(app) or "can be deleted now" in text(app))
        shown = text(app)
        for words in (
            "Compute · Storage · Energy",
            "1 M cost" if size[0] == 80 else "cost of 1 M tokens",
            "0.0006 USD",
            "J/token" if size[0] == 80 else "joules a token",
            "0.0124",
            "checkpts" if size[0] == 80 else "checkpoints",
            "69.1 MiB",
            "5 min 24 s → 6 min 42 s",
            "812 MiB → 734 MiB",
            "here",
            "0.0012 USD",
            "course",
            "spot",
            "max 0.50 USD",
        ):
            assert words in shown, words


async def test_the_ledger_sorts_by_value_with_unknown_last() -> None:
    entries = (
        entry("big", 60, cost=12.0),
        entry("none", 600, machine_energy_j=None, cost=None),
        entry("small", 6000, cost=2.0),
    )
    async with opened(RecordedBridge(entries=entries), (120, 34)) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "3 runs: " in text(app))

        def order() -> list[str]:
            lines = text(app).splitlines()
            places = {
                n: i for i, line in enumerate(lines) for n in ("big", "none", "small") if f" {n} " in line
            }
            return sorted(places, key=lambda name: places[name])

        assert order() == ["big", "none", "small"], "newest first"
        for _ in range(9):
            await pilot.press("s")
        await pilot.pause(0.05)
        assert "Cost ▲" in text(app) and order() == ["small", "big", "none"]
        await pilot.press("S")
        await pilot.pause(0.05)
        assert "Cost ▼" in text(app) and order() == ["big", "small", "none"]
        await pilot.press("s")
        await pilot.pause(0.05)
        assert "▲" not in text(app) and order() == ["big", "none", "small"]


async def test_another_entry_shows_its_own_books_and_one_whose_folder_is_gone_says_unknown() -> None:
    entries = (entry("one", 60), entry("two", 600, elapsed_s=7_265.0))
    bridge = RecordedBridge(entries=entries)
    bridge.details["two"] = replace(bridge.details["two"], storage=None)
    async with opened(bridge) as (app, pilot):
        await pilot.press("3")
        await until(pilot, lambda: "can go" in text(app))
        await pilot.press("j")
        await until(pilot, lambda: "took      2 h 1 min" in text(app))
        assert "can go" not in text(app) and "run.db" in text(app)


async def test_a_ledger_that_cannot_be_read_is_not_shown_as_an_empty_one() -> None:
    bridge = RecordedBridge(entries=(entry("one", 60),))
    async with opened(bridge) as (app, pilot):
        bridge.failure = StoreError("ledger.db: entry 3 (run [b]x[/b]) was changed.", "Move ledger.db aside.")
        await pilot.press("3")
        await until(pilot, lambda: "entry 3 (run [b]x[/b]) was changed." in text(app))
        assert "Move ledger.db aside." in text(app) and "No run has been booked" not in text(app)
        bridge.failure = None
        await pilot.press("r")
        await until(pilot, lambda: "1 run: " in text(app))


def test_totals_never_turn_unknown_into_zero() -> None:
    assert "—, —" in totals_text([entry("one", 1, machine_energy_j=None, cost=None)])
    assert "at least" not in totals_text([entry("one", 1), entry("two", 2)])
    mixed = totals_text([entry("one", 1, currency="EUR", cost=1.0), entry("two", 1, cost=2.0)])
    assert "1.00 EUR, 2.00 USD" in mixed
