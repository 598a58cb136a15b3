"""Stretches of a run: the steps since training last began, and the time that a viewer looks at."""

from __future__ import annotations

import math
from typing import NamedTuple

from engine.records import (
    AttemptRow,
    Origin,
    RunPlan,
    ShownSpan,
    Status,
    StepRow,
    TimeSpan,
)
from engine.runs.store import RunStore

RATE_STEPS = 20
"""Steps that the current speed is the mean of."""
WHOLE = TimeSpan()
"""The whole run, up to now."""
_RANGE_GROUPS, _GROUP_STEPS = 8, 8
"""At how many places of the present stretch the range of the time left is looked for, and how many steps each is the
mean of."""


class Stretch(NamedTuple):
    """The steps since training last began: at a start of the trainer, or back at a checkpoint."""

    at: StepRow | None
    """The step that training stands at; None: the beginning."""
    rows: list[StepRow]
    """Its newest steps, the newest first; empty before the first one is done."""
    from_step: int
    """The step that it goes on from."""

    @classmethod
    def of(cls, store: RunStore) -> Stretch:
        """The present one. Steps beyond it, done before and to be done again, are left out."""
        origin = store.find_meta("origin", Origin)
        attempt = store.newest(AttemptRow, "attempt")
        if origin is None:  # no trainer yet, or one of an older version
            rows = store.rows(StepRow, "ORDER BY step DESC LIMIT ?", (RATE_STEPS,))
            return cls(rows[0] if rows else None, rows, 0)
        if (
            attempt is not None and attempt.attempt > origin.attempt
        ):  # it is starting, and has not said from where
            rows, from_step = [], attempt.from_step
        else:
            which = (origin.attempt, origin.rollbacks, origin.step, RATE_STEPS)
            tail = "WHERE attempt = ? AND rollbacks = ? AND step > ? ORDER BY step DESC LIMIT ?"
            rows, from_step = store.rows(StepRow, tail, which), origin.step
        if rows:
            return cls(rows[0], rows, from_step)
        before = store.rows(StepRow, "WHERE step <= ? ORDER BY step DESC LIMIT 1", (from_step,))
        return cls(before[0] if before else None, [], from_step)

    def tokens_per_s(self, store: RunStore, plan: RunPlan) -> float | None:
        """The speed of its newest steps, without pauses; that of the stretch before while it has none.

        The first step of a stretch is left out once there is another: kernels are chosen and memory is allocated in
        it. None: no step was ever done.
        """
        rows = [row for row in self.rows if row.step != self.from_step + 1] or self.rows
        if not rows:
            tail = "WHERE step <= ? ORDER BY step DESC LIMIT ?"
            rows = store.rows(StepRow, tail, (self.from_step, RATE_STEPS))
        seconds = sum(plan.tokens_per_step / row.tokens_per_s for row in rows if row.tokens_per_s > 0)
        return len(rows) * plan.tokens_per_step / seconds if seconds else None

    def eta_range(
        self, store: RunStore, status: Status, cooling_s: float
    ) -> tuple[float | None, float | None]:
        """As `RunSnapshot.eta_low_s` and `eta_high_s`; `cooling_s` is what the run has paused for heat."""
        if status.eta_s is None or not self.rows:
            return None, None
        found = store.seconds_a_token(self.from_step + 2, self.rows[0].step, _RANGE_GROUPS, _GROUP_STEPS)
        if not found or not status.tokens:
            return None, None
        left = status.tokens_total - status.tokens
        share = (cooling_s + store.between_steps_s()) / (status.tokens * sum(found) / len(found))
        low, high = min(found) * left, max(found) * left * (1 + share)
        return min(low, status.eta_s), max(high, status.eta_s)


def shown_span(store: RunStore, span: TimeSpan, num_buckets: int) -> ShownSpan | None:
    """What of a run a chart of `num_buckets` columns shows; None: it has no reading.

    The ends lie at whole columns, so that the chart holds still until the next column begins.
    """
    newest_s = store.newest_reading_s()
    if newest_s is None:
        return None
    asked = span.width_s
    width_s = max(newest_s, 1.0) if asked is None else asked
    column_s = width_s / num_buckets
    if asked is None:
        column_s = 2.0 ** math.floor(math.log2(column_s))
        width_s = math.ceil(max(newest_s, 1.0) / column_s) * column_s
    until_s = newest_s if span.until_s is None else min(max(span.until_s, width_s), newest_s)
    until_s = max(math.ceil(until_s / column_s - 1e-9) * column_s, width_s)
    return ShownSpan(
        from_s=until_s - width_s,
        until_s=until_s,
        newest_s=newest_s,
        is_whole=asked is None,
        from_at=store.clock_of(until_s - width_s),
        until_at=store.clock_of(until_s),
    )
