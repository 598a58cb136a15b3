"""The panel that says where a run stands."""

from __future__ import annotations

import pytest

from engine.records import RunState
from tests.tui.recorded import replace, snapshot
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
