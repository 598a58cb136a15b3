"""The stretch of a run that its curves show: narrower, wider, earlier, later."""

from __future__ import annotations

from engine.records import ShownSpan, TimeSpan
from tui import format as fmt
from tui.language import tr

WIDTHS_S = (300.0, 900.0, 3600.0, 6 * 3600.0, 86_400.0, 3 * 86_400.0)
"""From five minutes on; the widest is the whole run."""


def zoomed(span: TimeSpan, shown: ShownSpan | None, direction: int) -> TimeSpan:
    """The next narrower (1) or wider (-1) stretch with the same end; of a width that is no more than the run's."""
    if shown is None:
        return span
    widths = [width for width in WIDTHS_S if width < shown.newest_s]
    narrower = [width for width in widths if span.width_s is None or width < span.width_s]
    wider = [width for width in widths if span.width_s is not None and width > span.width_s]
    if direction > 0:
        return TimeSpan(width_s=narrower[-1], until_s=span.until_s) if narrower else span
    return TimeSpan(width_s=wider[0], until_s=span.until_s) if wider else TimeSpan()


def moved(span: TimeSpan, shown: ShownSpan | None, direction: int) -> TimeSpan:
    """Half a width earlier (-1) or later (1); at the newest reading it goes on with the run."""
    if shown is None or span.width_s is None:
        return span
    end_s = shown.newest_s if span.until_s is None else span.until_s
    until_s = end_s + direction * span.width_s / 2
    if until_s >= shown.newest_s:
        return TimeSpan(width_s=span.width_s)
    return TimeSpan(width_s=span.width_s, until_s=max(until_s, span.width_s))


def span_text(span: TimeSpan, shown: ShownSpan | None) -> str:
    """What the curves show, in words."""
    if shown is None or span.width_s is None:
        return tr("whole run")
    if span.until_s is None:
        return tr("last {duration}", duration=fmt.round_duration(span.width_s))
    if shown.from_at is None or shown.until_at is None:
        return fmt.round_duration(span.width_s)
    return fmt.clock_range(shown.from_at, shown.until_at, 0.0)
