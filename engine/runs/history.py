"""The curves of a run, over the whole of it or a stretch: reduced by SQLite to what a chart has columns for.

What is drawn holds still while a run grows: strides and buckets are round, so that a new step or reading changes the
newest column alone until the next rounder stride is due.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

from engine.records import LossPoint, MinuteRow, SensorRow, Series
from engine.runs.lineage import Lineage
from engine.runs.series import merged_series
from engine.runs.tables import CHARTED_SENSORS, READING_PER_UNIT, MetaRow
from engine.sqlite import Database

BY_THE_MINUTE_S = 7200.0
"""Stretches that are longer are charted from the minutes, unless a minute is more than a column."""
MINUTE_KEYS = 2**32
"""Keys of `MinuteRow` that one sensor has."""
STEPS_A_POINT = 16
"""Of more steps than this in a point of the loss curve, so many, evenly spread, are averaged."""


class History:
    """What a store can tell of a run's past."""

    _database: Database

    def lineage(self) -> Lineage:
        """Which steps, validations and samples lead to where training stands."""
        raise NotImplementedError

    def _transaction(self) -> AbstractContextManager[None]:
        """A transaction that tells of damage."""
        raise NotImplementedError

    # --- losses -----------------------------------------------------------------------------------------------

    def last_step(self) -> int:
        """The step that training stands at; 0: none is done."""
        where, origins = self.lineage().clause("step")
        found = self._database.query(
            f"SELECT step FROM step WHERE {where} ORDER BY step DESC LIMIT 1", origins
        )
        return int(found[0][0]) if found else 0

    def first_step_since(self, at: float) -> int:
        """The first step that was done at `at` or later; the one to come where none was."""
        low, high = 1, self.last_step() + 1
        while low < high:
            middle = (low + high) // 2
            found = self._database.query(
                "SELECT step, at FROM step WHERE step >= ? ORDER BY step LIMIT 1", (middle,)
            )
            if not found or found[0][1] >= at:
                high = middle
            else:
                low = int(found[0][0]) + 1
        return low

    def train_losses(self, num_points: int, first: int = 1, last: int | None = None) -> list[LossPoint]:
        """The training loss of the steps from `first` to `last` in at most about `num_points` points.

        Each is the mean of an equal stretch of steps. `last` None: the step that training stands at.
        """
        where, origins = self.lineage().clause("step")
        newest = self.last_step()
        last = newest if last is None else min(last, newest)
        if last < first:
            return []
        stride = _round_stride((last - first + 1) / num_points)
        among, parameters = "step", (*origins, first, last, stride)
        if stride > STEPS_A_POINT:
            # Reading all of a week's steps would take the viewer longer each day.
            apart = stride // STEPS_A_POINT
            chosen = [*range(-(-first // apart) * apart, last, apart), last]
            among = "json_each(?) AS chosen JOIN step ON step.step = chosen.value"
            parameters = (str(chosen), *parameters)
        found = self._database.query(
            "SELECT max(tokens), avg(loss), max(step), max(at) "
            f"FROM {among} WHERE {where} AND step BETWEEN ? AND ? GROUP BY (step - 1) / ? ORDER BY 1",
            parameters,
        )
        return [LossPoint(tokens=tokens, loss=loss, step=step, at=at) for tokens, loss, step, at in found]

    def seconds_a_token(self, first: int, last: int, num_groups: int, group_steps: int) -> list[float]:
        """How long a token took, the mean of each of `num_groups` groups of steps spread over `first` to `last`.

        Without what lies between steps. Empty: there are fewer steps than that.
        """
        if last - first + 1 < num_groups * group_steps:
            return []
        starts = [first + (last - first + 1) * group // num_groups for group in range(num_groups)]
        chosen = [start + step for start in starts for step in range(group_steps)]
        found = self._database.query(
            "SELECT avg(1.0 / tokens_per_s) FROM json_each(?) AS chosen JOIN step ON step.step = chosen.value "
            "WHERE tokens_per_s > 0 GROUP BY chosen.key / ?",
            (str(chosen), group_steps),
        )
        return [seconds for (seconds,) in found]

    def between_steps_s(self) -> float:
        """What all validations and checkpoints have taken."""
        ((seconds,),) = self._database.query(
            "SELECT (SELECT total(seconds) FROM evaluation) + (SELECT total(write_s) FROM checkpoint)"
        )
        return float(seconds)

    # --- sensors ----------------------------------------------------------------------------------------------

    def newest_reading_s(self) -> float | None:
        """`SensorRow.elapsed_s` of the newest reading; None: there was none."""
        (newest_ms,) = self._database.query("SELECT max(elapsed_s) FROM reading")[0]
        return None if newest_ms is None else newest_ms / READING_PER_UNIT["elapsed_s"]

    def clock_of(self, elapsed_s: float) -> float | None:
        """The wall clock at the first reading from `elapsed_s` on, else at the newest; None: there was none."""
        ms = round(elapsed_s * READING_PER_UNIT["elapsed_s"])
        found = self._database.query(
            "SELECT at FROM reading WHERE elapsed_s >= ? ORDER BY elapsed_s LIMIT 1", (ms,)
        ) or self._database.query("SELECT at FROM reading ORDER BY elapsed_s DESC LIMIT 1")
        return found[0][0] / READING_PER_UNIT["at"] if found else None

    def roll_up(self) -> None:
        """Reduce the minutes that are complete and not reduced yet; a second call changes nothing.

        Raises: BusyError as `put`.
        """
        (newest_ms,) = self._database.query("SELECT max(elapsed_s) FROM reading")[0]
        first, last = self._num_rolled(), (newest_ms or 0) // 60_000
        if last <= first:
            return
        reduced = ", ".join(f"min({name}), avg({name}), max({name})" for name in CHARTED_SENSORS)
        found = self._database.query(
            f"SELECT elapsed_s / 60000, {reduced} FROM reading WHERE elapsed_s >= ? AND elapsed_s < ? GROUP BY 1",
            (first * 60_000, last * 60_000),
        )
        with self._transaction():
            for index, name in enumerate(CHARTED_SENSORS):
                first_key = self._database.word_id(name) * MINUTE_KEYS
                per = READING_PER_UNIT.get(name, 1)
                self._database.put_all(
                    MinuteRow(key=first_key + row[0], low=low / per, mean=mean / per, high=high / per)
                    for row in found
                    for low, mean, high in (row[1 + 3 * index : 4 + 3 * index],)
                    if mean is not None
                )
            self._database.put(MetaRow(key="rolled_minutes", value=str(last)))

    def _num_rolled(self) -> int:
        """How many minutes from the beginning are reduced."""
        return int(row.value) if (row := self._database.row(MetaRow, "WHERE key = 'rolled_minutes'")) else 0

    def series(
        self, name: str, num_buckets: int, from_s: float = 0.0, until_s: float | None = None
    ) -> Series:
        """One sensor from `from_s` to `until_s` of `SensorRow.elapsed_s`, reduced to `num_buckets` stretches.

        `name` is a field of `SensorRow`; `until_s` None: the newest reading. Unknown readings make no bucket. A
        stretch of over two hours is read by the minute, plus what is not rolled up yet.
        """
        if name not in SensorRow.__struct_fields__:
            raise KeyError(name)
        newest = (
            self._database.query(f"SELECT elapsed_s, {name} FROM reading ORDER BY elapsed_s DESC LIMIT 1")
            if name in self._database.columns_of(SensorRow)
            else []
        )
        if not newest:
            return merged_series(name, num_buckets, [], None)
        per = READING_PER_UNIT.get(name, 1)
        newest_ms, now = newest[0]
        first_ms = round(from_s * 1000)
        last_ms = newest_ms if until_s is None else round(until_s * 1000)
        width_ms = max((last_ms - first_ms) / num_buckets, 1e-6)
        rolled, number = self._num_rolled(), self._database.find_word_id(name)
        is_long = last_ms - first_ms > 1000 * max(BY_THE_MINUTE_S, 60.0 * num_buckets) and rolled > 0
        since_ms = max(first_ms, rolled * 60_000) if is_long and number is not None else first_ms
        parts = self._database.query(
            f"SELECT min(CAST((elapsed_s - ?) / ? AS INTEGER), ?), min({name}), sum({name}), max({name}), "
            f"count({name}) FROM reading WHERE elapsed_s BETWEEN ? AND ? AND {name} IS NOT NULL GROUP BY 1",
            (first_ms, width_ms, num_buckets - 1, since_ms, last_ms),
        )
        parts = [(index, low / per, total / per, high / per, n) for index, low, total, high, n in parts]
        if is_long and number is not None:
            parts += self._minutes(number, first_ms, last_ms, width_ms, num_buckets)
        return merged_series(name, num_buckets, parts, None if now is None else now / per)

    def _minutes(
        self, number: int, first_ms: int, last_ms: int, width_ms: float, num_buckets: int
    ) -> list[tuple[Any, ...]]:
        """The parts of a series that lie in minutes that are rolled up."""
        first_key = number * MINUTE_KEYS
        return self._database.query(
            "SELECT max(0, min(CAST((60000.0 * (key - ?) - ?) / ? AS INTEGER), ?)), min(low), 60 * sum(mean), "
            "max(high), 60 * count(*) FROM reading_minute WHERE key >= ? AND key <= ? GROUP BY 1",
            (
                first_key,
                first_ms,
                width_ms,
                num_buckets - 1,
                first_key + first_ms // 60_000,
                first_key + last_ms // 60_000,
            ),
        )


def _round_stride(least: float) -> int:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    if least <= 1:
        return 1
    power = int(10 ** math.floor(math.log10(least)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
