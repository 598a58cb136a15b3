"""The sensors' curves, read again only when a new column may have begun to show: what a viewer asks every second."""

from __future__ import annotations

import time

import msgspec

from engine.records import SensorRow, Series, ShownSpan
from engine.runs.store import RunStore
from engine.runs.tables import CHARTED_SENSORS

_LOOKS_A_COLUMN = 16
"""How often the newest column of a chart is brought up to date while it fills."""
_OLDEST_S = 60.0


class CurveMemory:
    """The curves that were last read, of one stretch of one run."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._read_s = 0.0
        self._curves: dict[str, Series] = {}

    def sensors(
        self,
        run_id: str,
        store: RunStore,
        num_buckets: int,
        shown: ShownSpan | None,
        newest: SensorRow | None,
    ) -> dict[str, Series]:
        """Every charted sensor; the curves may be a sixteenth of a column old, their `now` never."""
        from_s, until_s = (shown.from_s, shown.until_s) if shown else (0.0, None)
        key = (run_id, num_buckets, from_s, until_s)
        column_s = ((until_s or 0.0) - from_s) / num_buckets
        age_s = time.monotonic() - self._read_s
        if key != self._key or age_s > min(_OLDEST_S, column_s / _LOOKS_A_COLUMN):
            self._curves = {
                name: store.series(name, num_buckets, from_s, until_s) for name in CHARTED_SENSORS
            }
            self._key, self._read_s = key, time.monotonic()
        if newest is None or shown is None:
            return self._curves
        return {name: _brought_up(series, newest, shown) for name, series in self._curves.items()}


def _brought_up(series: Series, newest: SensorRow, shown: ShownSpan) -> Series:
    now = getattr(newest, series.name)
    is_in_sight = shown.until_s >= shown.newest_s and series.low is not None and series.high is not None
    if now is None or not is_in_sight:
        return msgspec.structs.replace(series, now=now)
    return msgspec.structs.replace(
        series, now=now, low=min(series.low or now, now), high=max(series.high or now, now)
    )
