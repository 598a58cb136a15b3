"""The drawing widgets: what they draw, and that they send only what changed."""

import re

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from engine.records import Bucket, LossPoint, Series
from tests.tui.recorded import losses
from tui.theme import NIGHT
from tui.widgets.axis import column_means, nice_step, x_axis, x_end, y_range
from tui.widgets.lines import crop, length, wrap
from tui.widgets.loss_chart import LossChart
from tui.widgets.trend import trend


def series(*means: float | None) -> Series:
    known = [mean for mean in means if mean is not None]
    buckets = tuple(
        Bucket(index=index, low=mean, mean=mean, high=mean)
        for index, mean in enumerate(means)
        if mean is not None
    )
    return Series(
        name="gpu_watts",
        num_buckets=max(1, len(means)),
        buckets=buckets,
        now=means[-1] if means else None,
        low=min(known, default=None),
        mean=None,
        high=max(known, default=None),
    )


def test_a_gap_stays_a_gap_and_the_ends_of_the_scale_are_reached() -> None:
    assert trend(series(0, 10, 20, None, None, None, 30, 40), 8, 1, 0, 40) == ["▁▃▅   ▆█"]
    assert trend(series(0, 8, 16, 24), 4, 2, 0, 24) == ["  ▃█", "▁▆██"]
    assert trend(series(3.1, 3.2), 2, 1, 0, 4) == ["▆▇"], "three quarters full, whatever it was before"
    assert trend(series(), 4, 1, 0, 1) == ["    "]


def test_a_slow_sensor_is_no_gap() -> None:
    assert " " not in trend(series(5, None, 5, None, 5, None, 5), 7, 1, 0, 10)[0]


def test_axes_hold_still_while_the_curve_grows() -> None:
    assert [x_end(tokens, 1000) for tokens in (1, 124, 126, 251, 501, 1000)] == [1, 125, 250, 500, 1000, 1000]
    points = losses(1000)
    low, high, step = y_range(points, 1000)
    assert low <= min(point.loss for point in points) and (high - low) / step <= 8
    assert [nice_step(least) for least in (0.02, 0.03, 0.7, 1.0, 3.0)] == pytest.approx(
        [0.02, 0.05, 1.0, 1.0, 5.0]
    )


def test_noise_is_averaged_a_column() -> None:
    points = [LossPoint(tokens=tokens, loss=4.0 + (-1) ** tokens) for tokens in range(1, 101)]
    means = column_means(points, (0, 100), 10)
    assert len(means) == 10 and all(abs(point.loss - 4.0) < 0.3 for point in means)


def test_lines_are_cropped_and_wrapped_by_cells_not_characters() -> None:
    assert length(crop([("日本語日本語", "")], 7)) <= 7
    assert crop([("abcdef", "")], 4)[-1] == ("…", "")
    assert wrap("a long line of words", 10) == ["a long", "line of", "words"]
    assert all(length([(row, "")]) <= 5 for row in wrap("日本語日本語 abcdefgh", 5))
    assert wrap("one\n\ntwo", 10) == ["one", "", "two"]


class ChartApp(App[None]):
    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(NIGHT.variables)

    def compose(self) -> ComposeResult:
        yield LossChart()


async def test_chart_shows_both_series_with_numbers_and_sends_only_what_changed() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.query_one(LossChart)
        sent: list[Region] = []
        points = losses(500_000)
        chart.show(points, points[::40], 1_000_000)
        await pilot.pause()
        assert "training" in chart.plain and "◆ validation" in chart.plain
        assert (
            chart.plain.count("◆") > 4
            and "0 tokens" in chart.plain
            and "500 k" in chart.plain
            and "3.0┤" in chart.plain
        )
        original = chart.refresh
        chart.refresh = lambda *regions, **options: (sent.extend(regions), original(*regions, **options))[1]  # type: ignore[method-assign]
        chart.show(points, points[::40], 1_000_000)
        assert sent == []
        chart.show((*points[:-1], LossPoint(tokens=500_000, loss=4.0)), points[::40], 1_000_000)
        assert sent and sum(region.area for region in sent) < 60


async def test_chart_survives_infinities_and_tiny_panels() -> None:
    app = ChartApp()
    async with app.run_test(size=(12, 5)) as pilot:
        chart = app.query_one(LossChart)
        chart.show(
            (LossPoint(tokens=1, loss=float("inf")), LossPoint(tokens=2, loss=float("nan"))), (), 10, "none"
        )
        await pilot.resize_terminal(80, 24)
        assert "none" in chart.plain
        chart.show((LossPoint(tokens=1, loss=3.0), LossPoint(tokens=2, loss=float("nan"))), (), 10)
        assert "training" in chart.plain


@pytest.mark.parametrize("width", [24, 46, 60, 90, 130])
@pytest.mark.parametrize("ends", [(0, 500_170_752), (403_000_000, 411_000_000), (0, 2_003_000)])
@pytest.mark.parametrize("is_short", [False, True])
def test_numbers_on_the_x_axis_stand_where_they_say(
    width: int, ends: tuple[int, int], is_short: bool
) -> None:
    row = "".join(text for text, _ in x_axis(ends, width, 3, "", is_short=is_short)[-1])
    found = [(m.start(), float(m[1]), m[2]) for m in re.finditer(r"(\d[\d.]*)(?: ([kM]))?(?=[ ─]|$)", row)]
    assert len(found) >= (2 if width < 46 else 3) and "tokens" in row
    for start, number, suffix in found:
        value = number * {"M": 1e6, "k": 1e3}.get(suffix or "", 1)
        place = 3 + (value - ends[0]) / (ends[1] - ends[0]) * (width - 1)
        assert start - 7 <= place <= start + 14, (row, number)
        assert abs(value / 1000 - round(value / 1000)) < 1e-6


def test_an_axis_names_multiples_of_one_step() -> None:
    row = "".join(text for text, _ in x_axis((403_000_000, 411_000_000), 90, 3, "", is_short=False)[-1])
    assert re.findall(r"\d+", row) == ["404", "406", "408", "410"]
