"""The batch ramp on the run screen, and what the app does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.records import RunState
from tests.tui.recorded import RecordedBridge, in_state, snapshot
from tui.app import LlmTui
from tui.screens.run import RunScreen
from tui.widgets.loss_chart import LossChart
from tui.widgets.ramp_panel import RampPanel


@pytest.mark.parametrize("size", [(80, 24), (120, 34), (200, 50)])
async def test_every_size_stands_there_and_the_chart_comes_back_with_the_training(
    size: tuple[int, int],
) -> None:
    shot = in_state("ramp")
    bridge = RecordedBridge(shot)
    app = LlmTui(Path("/home/ana/gpt"), bridge)
    async with app.run_test(size=size) as pilot:
        await pilot.press("2")
        await pilot.pause(0.3)
        screen = app.screen
        assert isinstance(screen, RunScreen)
        panel, chart = screen.query_one(RampPanel), screen.query_one(LossChart)
        assert panel.display and not chart.display
        assert screen.focused is panel
        text = panel.plain
        for words in ("2.93 GiB", "3.15 k", "works", "slower", "trying", "191 MiB"):
            assert words in text
        assert len([line for line in text.splitlines() if "GiB" in line or "trying" in line]) == 6
        assert "batch size: trying 32 sequences at a time" in screen.progress.plain
        assert "RTX 2050" in screen.progress.plain and "finding" not in screen.progress.plain, "said once"
        assert "3.15 k tokens/s at best" in screen.progress.plain
        bridge.shots[shot.status.id] = snapshot(RunState.RUNNING)
        await pilot.pause(1.3)
        assert chart.display and not panel.display
        assert screen.focused is chart
