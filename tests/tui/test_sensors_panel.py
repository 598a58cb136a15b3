"""The gauges: one form for all rows, scales that say how full, the unknown last, no row idle."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.tui.recorded import in_state
from tui.widgets.lines import BAD, ESTIMATE, STRONG
from tui.widgets.readings import Reading, readings
from tui.widgets.sensors_panel import SensorsPanel, gauges


def reading(label: str, **changes: Any) -> Reading:
    base = Reading(label, "W", "measured", 37.0, 34.0, 41.0, None, True, False)
    return base._replace(**changes)


def rows(width: int, *shown: Reading) -> list[str]:
    return ["".join(text for text, _ in line) for line in readings(shown, width)]


def test_figures_stand_in_columns_in_one_form() -> None:
    shown = (
        reading("GPU", unit="°C", now=69.0, limit=87.0),
        reading("machine", now=166.0, source="partly measured"),
    )
    wide = rows(70, *shown)
    assert wide[0].endswith("measured") and wide[1].endswith("partly measured")
    for width in (70, 46, 40, 34):
        one, other = rows(width, *shown)
        for word in ("mean", "max"):
            assert one.find(word) == other.find(word), (one, other)
        assert len(one) == len(other) == width
    assert "≈166" in rows(34, *shown)[1], "that it is not measured is never left out"
    assert "avg" not in "".join(rows(34, *shown)) and "partly est." in rows(46, *shown)[1]


def test_a_reading_above_its_limit_is_told_by_its_colour() -> None:
    line = readings([reading("GPU", limit=35.0)], 60)[0]
    assert [style for text, style in line if text.strip() in ("37", "41")] == [BAD, BAD]
    line = readings([reading("GPU", limit=37.0, now=37.3)], 60)[0]
    assert ("37", STRONG) in line, "by what the figures show it is at its limit"
    line = readings([reading("machine", source="estimate")], 31)[0]
    assert ("≈37", ESTIMATE) in line


@pytest.mark.parametrize("state", ["running", "finished"])
def test_what_was_never_read_stands_last_as_a_dash(state: str) -> None:
    found = gauges(in_state(state))
    assert not found[-1].is_known and found[0].is_known
    panel = SensorsPanel()
    panel._gauges = found
    for width in (34, 60):
        last = panel.draw(width, 20)[-1]
        assert "—" in "".join(text for text, _ in last) and ESTIMATE not in [style for _, style in last]


@pytest.mark.parametrize("height", range(2, 40))
def test_no_row_idles_and_the_first_are_the_highest(height: int) -> None:
    panel = SensorsPanel()
    panel._gauges = gauges(in_state("gpu"))
    drawn = panel.draw(60, height)
    assert len(drawn) == height


def test_a_scale_says_how_full() -> None:
    shot = in_state("gpu")
    by_label = {(gauge.label, gauge.unit): gauge for gauge in gauges(shot)}
    assert by_label["VRAM", "GiB"].ends == (0, 4.0)
    assert by_label["GPU", "°C"].ends == (30, 87)
    assert by_label["GPU load", "%"].ends[0] == 0 and by_label["GPU load", "%"].ends[1] >= 100
    watts = by_label["GPU", "W"]
    assert watts.series is not None and watts.ends == (0, watts.series.high), "above its limit"
    bare = gauges(replace(shot, sensor=replace(shot.sensor, gpu_memory_total_bytes=None)))
    assert next(gauge for gauge in bare if gauge.label == "VRAM").ends[1] > 3
    panel = SensorsPanel()
    panel._gauges = gauges(shot)
    plain = ["".join(text for text, _ in line) for line in panel.draw(60, 24)]
    assert any(row.endswith(" 87") for row in plain) and any(row.endswith(" 30") for row in plain)
