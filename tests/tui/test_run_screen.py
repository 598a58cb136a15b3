"""The run screen's curves by their keys: how much time they show, their cursor, their looks, their limits."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace
from textual.events import MouseScrollDown, MouseScrollUp

from engine.records import EventRow, LossPoint, ShownSpan, ThermalRow, TimeSpan
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import CPU, GPU, RecordedBridge, checks, in_state, snapshot, unticked
from tests.tui.test_charts import series
from tui import format as fmt
from tui.dialogs.confirm import StopRunDialog
from tui.dialogs.tick import TickDialog
from tui.dialogs.waive import WaiveDialog
from tui.screens.run import number_facts
from tui.time_span import moved, zoomed
from tui.widgets.cost_panel import CostPanel
from tui.widgets.curve_chart import smoothed
from tui.widgets.lines import STRONG
from tui.widgets.loss_chart import LossChart
from tui.widgets.ramp_panel import RampPanel
from tui.widgets.text_panels import EventsPanel
from tui.widgets.trend import trend


async def shown(app: Any, pilot: Any) -> LossChart:
    await until(pilot, lambda: app.snapshot is not None)
    await pilot.pause(0.05)
    return app.screen.query_one(LossChart)


def test_a_stretch_narrows_widens_and_moves_within_the_run() -> None:
    span = ShownSpan(from_s=0, until_s=8000, newest_s=8000, is_whole=True, from_at=0, until_at=8000)
    hour = zoomed(TimeSpan(), span, 1)
    assert hour.width_s == 3600, "the first that is narrower than the run"
    assert zoomed(zoomed(zoomed(hour, span, 1), span, 1), span, 1).width_s == 300
    assert zoomed(hour, span, -1) == TimeSpan(), "wider than the run is the whole of it"
    earlier = moved(hour, span, -1)
    assert earlier == TimeSpan(width_s=3600, until_s=6200)
    assert moved(moved(moved(earlier, span, -1), span, -1), span, -1).until_s == 3600, (
        "not before its beginning"
    )
    assert moved(earlier, span, 1) == hour, "at the newest reading it goes on with the run"
    assert moved(TimeSpan(), span, -1) == TimeSpan() and zoomed(hour, None, 1) == hour


@pytest.mark.parametrize("size", SIZES)
async def test_keys_choose_how_much_time_the_curves_show(size: tuple[int, int]) -> None:
    shot = in_state("gpu")
    bridge = RecordedBridge(shot)
    async with opened(bridge, size) as (app, pilot):
        chart = await shown(app, pilot)
        assert text(app).count("whole run") == 2
        whole = chart.plain
        await pilot.press("plus")
        await until(pilot, lambda: "last 1 d" in text(app) and bridge.spans[-1].width_s == 86_400)
        await until(pilot, lambda: chart.plain != whole)
        await pilot.press("plus", "plus")
        await until(pilot, lambda: "last 1 h" in text(app))
        await pilot.press("comma")
        await until(pilot, lambda: bridge.spans[-1].until_s == shot.span.newest_s - 1800)
        await pilot.press("full_stop")
        await until(pilot, lambda: bridge.spans[-1] == TimeSpan(width_s=3600))
        await pilot.press("minus")
        await until(pilot, lambda: "last 6 h" in text(app))
        await pilot.press("0")
        await until(pilot, lambda: chart.plain == whole)


async def test_a_cursor_reads_values_by_keys_and_by_mouse() -> None:
    async with opened(RecordedBridge(in_state("gpu")), (120, 34)) as (app, pilot):
        chart = await shown(app, pilot)
        plain = chart.plain
        await pilot.press("left")
        assert "419 M tokens  step 16" in chart.plain and "training 3.3" in chart.plain
        await pilot.press("left", "h", "H")
        first = chart.cursor_tokens
        assert first is not None and first < 420_000_000 and "validation" in chart.plain
        await pilot.press("home")
        at_the_start = chart.cursor_tokens
        assert at_the_start is not None and at_the_start < 2_000_000
        await pilot.press("escape")
        assert chart.cursor_tokens is None and chart.plain == plain
        await pilot.click(LossChart, offset=(30, 8))
        assert chart.cursor_tokens is not None and "tokens  step" in chart.plain


async def test_beyond_the_left_end_of_a_stretch_the_cursor_takes_the_time_along() -> None:
    shot = in_state("gpu")
    bridge = RecordedBridge(shot)
    async with opened(bridge) as (app, pilot):
        await shown(app, pilot)
        await pilot.press("plus", "plus", "plus")
        await until(pilot, lambda: "last 1 h" in text(app))
        await pilot.press("home", "left")
        await until(
            pilot, lambda: bridge.spans[-1] == TimeSpan(width_s=3600, until_s=shot.span.newest_s - 1800)
        )


async def test_the_wheel_shows_less_and_more_time() -> None:
    bridge = RecordedBridge(in_state("gpu"))
    async with opened(bridge) as (app, pilot):
        chart = await shown(app, pilot)
        chart.post_message(MouseScrollUp(chart, 9, 3, 0, -1, 0, False, False, False))
        await until(pilot, lambda: bridge.spans[-1].width_s == 86_400)
        chart.post_message(MouseScrollDown(chart, 9, 3, 0, 1, 0, False, False, False))
        await until(pilot, lambda: bridge.spans[-1] == TimeSpan())


async def test_the_chart_is_logarithmic_and_smoothed_by_keys() -> None:
    async with opened(RecordedBridge(in_state("gpu")), (120, 34)) as (app, pilot):
        chart = await shown(app, pilot)
        linear = chart.plain
        await pilot.press("y")
        await pilot.pause(0.05)
        log = chart.plain
        assert log != linear and "Loss, log" in text(app)
        await pilot.press("m")
        await pilot.pause(0.05)
        assert chart.plain != log and "Loss, log, smoothed" in text(app)
        await pilot.press("y", "m")
        assert chart.plain == linear


def test_smoothing_takes_the_noise_away_and_does_not_lag() -> None:
    points = [LossPoint(tokens=n, loss=3.0 + (-1) ** n) for n in range(1, 61)]
    assert all(abs(point.loss - 3.0) < 0.12 for point in smoothed(points)[20:40])
    falling = [LossPoint(tokens=n, loss=10.0 - n / 10) for n in range(1, 61)]
    apart = [even.loss - point.loss for even, point in zip(smoothed(falling), falling, strict=True)]
    assert all(abs(each) < 0.05 for each in apart[20:40]) and max(map(abs, apart)) < 0.4


def test_a_limit_is_drawn_where_nothing_else_is() -> None:
    rows = trend(in_state("gpu").sensors["gpu_celsius"], 40, 3, 0.0, 150.0, 149.0)
    assert rows[0].count("╌") == 40 and "╌" not in rows[1] + rows[2], "far above what was read"
    rows = trend(series(10, 50, 10, 50), 4, 3, 0.0, 60.0, 35.0)
    assert rows[1] == "╌█╌█", "crossed"


@pytest.mark.parametrize("size", SIZES)
async def test_limits_range_and_efficiency_are_told(size: tuple[int, int]) -> None:
    shot = in_state("gpu")
    async with opened(RecordedBridge(shot), size) as (app, pilot):
        await shown(app, pilot)
        words = text(app)
        assert re.search(r"GPU +69/87 +°C +mean +66", words)
        for fact in ("max ", "43.1 %", "3.19/4.00", "0.0193", "J/token", "learn. rate"):
            assert fact in words, fact
        assert " to " in words.splitlines()[3] and "done " in words.splitlines()[3]
        if size[0] >= 120:
            assert "epoch 1.35/3.23" in words


async def test_without_a_range_the_end_is_told_alone() -> None:
    shot = replace(snapshot(device=GPU), eta_low_s=None, eta_high_s=None, corpus_tokens=None)
    async with opened(RecordedBridge(shot)) as (app, pilot):
        await shown(app, pilot)
        line = text(app).splitlines()[3]
        assert "done " in line and " to " not in line and "epoch" not in line


async def test_a_resume_asks_for_what_stands_in_its_way_and_goes_on() -> None:
    bridge = RecordedBridge(in_state("stopped"))
    step = unticked()[-1]
    power = replace(
        checks()[-1], id="power", title="Power", blocking=True, is_waivable=True, remedy_action=""
    )
    bridge.in_the_way = [step, power]
    async with opened(bridge, (120, 34)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "STOPPED" in text(app))
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, TickDialog))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, WaiveDialog))
        await pilot.press(*"ups", "enter")
        await until(pilot, lambda: len(bridge.decided) == 2)
        assert bridge.decided == [({}, []), ({"power": "ups"}, [step.id])]
        await until(pilot, lambda: "RUNNING" in text(app))


async def test_a_resume_is_given_up_with_its_question_and_what_cannot_be_waived_is_told() -> None:
    bridge = RecordedBridge(in_state("stopped"))
    power = replace(checks()[-1], id="power", blocking=True, is_waivable=True, remedy_action="")
    bridge.in_the_way = [power]
    async with opened(bridge, (120, 34)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "STOPPED" in text(app))
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, WaiveDialog))
        await pilot.press("escape")
        await until(pilot, lambda: "stand in the way" in text(app))
        bridge.in_the_way = [power, replace(power, id="disk", is_waivable=False)]
        await pilot.press("r")
        await until(pilot, lambda: len(app._notifications) == 2)
        assert not app.screen.is_modal and len(bridge.decided) == 2


def plain(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(words for words, _ in line) for line in lines]


def test_a_warning_has_the_rows_it_needs_and_what_is_cut_says_so() -> None:
    def event(text: str, level: str) -> EventRow:
        return EventRow(at=1.0, level=level, kind="books", text=text, source="supervisor")

    panel = EventsPanel()
    panel._events = (event("an older one " * 9, "info"), event("a long warning " * 9, "warning"))
    rows = plain(panel.draw(40, 7))
    assert sum("warning" in row for row in rows) == 5 and "…" not in "".join(rows[:5])
    assert len(rows) == 7 and rows[-1].endswith("…"), "the last row says that it goes on"
    assert plain(panel.draw(40, 2))[-1].endswith("…")


def test_the_bill_names_the_whole_run_and_has_no_gpu_where_there_is_none() -> None:
    panel, shot = CostPanel(), snapshot(device=CPU)
    assert shot.cost.cloud is not None
    rented = replace(shot.cost.cloud, hours=48.0, usd_per_hour=0.7, usd=33.6)
    panel._cost = replace(shot.cost, gpu_source=None, gpu_energy_j=None, cloud=rented)
    rows = plain(panel.draw(60, 7))
    assert any(row.startswith("in the end") for row in rows) and not any("GPU" in row for row in rows)
    assert any(", 0.70 USD/h" in row for row in rows)
    assert any(", 0.70/h" in row for row in plain(panel.draw(36, 4)))


def test_the_source_of_both_energies_fits_where_it_is_narrow() -> None:
    panel = CostPanel()
    panel._cost = replace(in_state("gpu").cost, machine_source="partly measured", gpu_source="counter")
    assert plain(panel.draw(36, 4))[3].rstrip().endswith("partly est., GPU counter")


def test_the_numbers_have_what_the_line_of_progress_has_not_and_heat_after_what_it_costs() -> None:
    loss = ThermalRow(segment=1, paused_s=60, paused_tokens=1000, throttled_s=120, throttled_tokens=500)
    labels = [label for label, _, _ in number_facts(replace(in_state("gpu"), thermal=loss))]
    assert labels[4:9] == ["J/token", "learn. rate", "cooling", "throttled", "tokens lost"]
    assert not {"tokens/s", "epoch", "step"} & set(labels)
    shot = snapshot(device=CPU)
    unknown = replace(shot, status=replace(shot.status, mfu_frac=None))
    assert "of peak" not in [label for label, _, _ in number_facts(unknown)]


async def test_numbers_of_a_run_that_is_over_are_those_at_the_end() -> None:
    async with opened(RecordedBridge(in_state("finished"))) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: "At the end" in text(app))


async def test_a_smoothed_curve_is_named_with_the_one_beneath() -> None:
    async with opened(RecordedBridge(in_state("gpu")), (120, 34)) as (app, pilot):
        chart = await shown(app, pilot)
        await pilot.press("m")
        await until(pilot, lambda: "training, smoothed" in chart.plain and "as it was" in chart.plain)


def test_the_best_size_of_a_ramp_stands_out() -> None:
    panel = RampPanel()
    panel._rows = in_state("ramp").ramp
    lines = panel.draw(90, 12)
    assert plain(lines)[0].rstrip().endswith("speed")
    strong = [line[0][0] for line in lines if line[0][1] == STRONG]
    best = max(row.tokens_per_s or 0 for row in panel._rows)
    assert len(strong) == 1 and fmt.count(best) in strong[0]


async def test_the_run_that_was_asked_about_is_stopped_and_no_other() -> None:
    bridge = RecordedBridge(in_state("running"))
    bridge.shots["1120-other"] = in_state("running")
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        asked = app.followed_id
        other = next(run_id for run_id in bridge.shots if run_id != asked)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, StopRunDialog))
        app.look_at(other)
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.status.id == other)
        await pilot.press("y")
        await until(pilot, lambda: bridge.asked == [(asked, "stop")])
