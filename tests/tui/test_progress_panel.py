"""The panel that says where a run stands."""

from __future__ import annotations

import pytest

from engine.records import RunState
from tests.tui.recorded import replace, snapshot, with_long_reason
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


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_reason_leaves_room_for_the_key(width: int) -> None:
    panel = ProgressPanel()
    panel.show(with_long_reason())
    notes = ["".join(text for text, _ in line) for line in panel.draw(width, 5)[3:]]
    assert len(notes) == 2 and all(len(note) <= width for note in notes)
    told = " ".join(notes)
    assert told.startswith("The trainer ended with exit code 1") and "…" in told
    assert told.endswith("Press r to go on from the newest checkpoint.")
