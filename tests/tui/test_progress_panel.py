"""The panel that says where a run stands."""

from __future__ import annotations

import pytest

from engine.records import RunState
from tests.tui.piloted import opened, text, until
from tests.tui.recorded import RecordedBridge, in_state, replace, snapshot
from tui.verbs import state_sign
from tui.widgets.lines import BAD, DOUBTFUL, TEXT
from tui.widgets.progress_panel import ProgressPanel


def numbers(width: int, **changes: object) -> str:
    panel = ProgressPanel()
    found = snapshot(RunState.RUNNING)
    panel.show(replace(found, status=replace(found.status, **changes)))
    return "".join(text for text, _ in panel.draw(width, 3)[2])


def test_the_use_of_the_peak_stands_where_it_is_known_and_has_room() -> None:
    assert "42.0 % of peak" in numbers(120, mfu_frac=0.42)
    assert "peak" not in numbers(120, mfu_frac=None)
    narrow = numbers(80, mfu_frac=0.42)
    assert len(narrow) <= 80 and "done" in narrow


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_row_is_wider_than_the_panel(width: int) -> None:
    assert len(numbers(width, mfu_frac=0.999)) <= width


def drawn(state: str, width: int = 120) -> list[list[tuple[str, str]]]:
    panel = ProgressPanel()
    panel.show(in_state(state))
    return panel.draw(width, 9)


@pytest.mark.parametrize(
    "state", ["running", "paused", "stale", "failed", "abandoned", "finished", "preparing"]
)
def test_the_bar_has_the_colour_of_its_state(state: str) -> None:
    shot = in_state(state)
    assert drawn(state)[1][0][1] == state_sign(shot.status, shot.is_stale)[2]


def test_what_is_the_matter_is_told_apart_from_what_to_do() -> None:
    for state, style in (("failed", BAD), ("abandoned", BAD), ("stale", DOUBTFUL)):
        notes = drawn(state, 76)[3:]
        assert (notes[0][0][1], notes[-1][-1][1]) == (style, TEXT), state
        assert "8 shows its" in "".join(words for words, _ in notes[-1])


def test_a_run_that_has_finished_says_where_its_model_is() -> None:
    shot = in_state("finished")
    told = "".join(words for line in drawn("finished", 200)[3:] for words, _ in line)
    assert f"runs/{shot.status.id}/model; 7 lets it speak, 3 shows what it cost." in told


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_reason_leaves_what_to_press_in_sight(width: int) -> None:
    panel, shot = ProgressPanel(), in_state("failed")
    panel.show(replace(shot, status=replace(shot.status, reason="it broke " * 60)))
    told = ["".join(words for words, _ in line) for line in panel.draw(width, 9)][3:]
    assert len(told) == 3 and "…" in "".join(told[:2]) and all(len(row) <= width for row in told)
    assert " ".join(told).endswith("Press r to go on from the newest checkpoint; 8 shows its output.")


def test_what_was_not_read_yet_is_no_zero() -> None:
    assert "epoch —/" in numbers(200, tokens=None)


async def test_a_silent_run_offers_neither_pause_nor_save_brightly() -> None:
    bridge = RecordedBridge(in_state("stale"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: "RUNNING, SILENT" in text(app))
        active = app.screen.active_bindings
        assert not active["p"].enabled and not active["c"].enabled and active["x"].enabled
        await pilot.press("p", "c")
        await pilot.pause(0.05)
        assert not bridge.asked
