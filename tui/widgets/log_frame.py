"""What the lower frame of the log says: the place in a search, the state of the run, and how much is shown."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from textual.content import Content

from engine.story import LogView
from tui import format as fmt
from tui.language import tr, trn
from tui.verbs import state_sign
from tui.widgets.log_panels import COLOURS, GAPS, LogRows

if TYPE_CHECKING:
    from engine.records import RunSummary


def search_text(wanted: str, rows: LogRows, view: LogView | None) -> str:
    """What is searched for, and which of how many places the cursor stands on; + where not all output is held."""
    places = rows.places
    if not places:
        return f"/{wanted}"
    num = f"{len(places)}{'+' if view is not None and view.bytes_before + view.bytes_after else ''}"
    at = bisect.bisect_left(places, rows.cursor)
    if at == len(places) or places[at] != rows.cursor:
        return f"/{wanted}: {num}"
    return f"/{wanted}: {tr('{number} of {num}', number=at + 1, num=num)}"


def size_text(num_shown: int, view: LogView | None, *, is_filtered: bool) -> str:
    """How many lines are shown, of how many where a filter is on, and how much was printed."""
    size = trn("{num} line", "{num} lines", num_shown)
    if view is None:
        return size
    if is_filtered:
        num = sum(line.kind not in GAPS for line in view.lines)
        size = trn("{shown} of {num} line", "{shown} of {num} lines", num, shown=num_shown)
    printed = fmt.size_decimal(view.total_bytes)
    return size + (tr(", {total_bytes} printed", total_bytes=printed) if view.total_bytes else "")


def end_text(run: RunSummary | None) -> Content | None:
    """How a run that tells nothing more has ended, in the colour of that; None while it may tell more."""
    if run is None or not run.status.state.is_over:
        return None
    _, word, style = state_sign(run.status, run.is_stale)
    return Content.styled(tr("ended: {state}", state=word), COLOURS.get(style, ""))
