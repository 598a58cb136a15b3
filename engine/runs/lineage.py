"""Which of a run's rows lead to where training stands: going back to a checkpoint leaves a branch behind.

Rows are kept by their step, so that a step that is done again replaces its row; what was done beyond the checkpoint
and is not done again yet, or was left out the second time, is of a branch that was given up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from engine.records import AttemptRow, Origin


class Lineage(NamedTuple):
    """The stretches of a run, the present one last, each with the step that it went on from."""

    origins: tuple[Origin, ...] = ()
    """Those that no later one went back behind: their steps rise. Empty: no trainer has told."""

    def going_on(self, origin: Origin) -> Lineage:
        """The same once training goes on from there."""
        return Lineage((*(each for each in self.origins if each.step < origin.step), origin))

    def after(self, attempt: AttemptRow | None) -> Lineage:
        """The same with a start of the trainer that has not told yet from where it goes on."""
        if not self.origins or attempt is None or attempt.attempt <= self.origins[-1].attempt:
            return self
        rollbacks = self.origins[-1].rollbacks
        return self.going_on(Origin(attempt=attempt.attempt, rollbacks=rollbacks, step=attempt.from_step))

    def clause(self, table: str) -> tuple[str, tuple[Any, ...]]:
        """What follows WHERE for the rows of a table that lead to where training stands, and its parameters."""
        if not self.origins:
            return "1", ()
        clause = (
            f"NOT EXISTS (SELECT 1 FROM json_each(?) AS later WHERE {table}.step > json_extract(later.value, '$.step') "
            "AND (json_extract(later.value, '$.attempt'), json_extract(later.value, '$.rollbacks')) > "
            f"(coalesce({table}.attempt, 1), coalesce({table}.rollbacks, 0)))"
        )
        return clause, (msgspec.json.encode(self.origins).decode(),)
