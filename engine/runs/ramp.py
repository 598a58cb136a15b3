"""The batch ramp as the supervisor sees it: whether one is needed, what is remembered of one, what follows from it.

The trying is a process of its own, `python -m engine.train ramp`; here its rows are read and the choice is made.
"""

from __future__ import annotations

import shutil
import time

import msgspec

from engine import ramp as rules
from engine.plan import sizes_to_try
from engine.process import module_argv
from engine.records import AttemptRow, EventRow, RampRow, RampState, RunPlan
from engine.runs.folder import RunFolder
from engine.runs.store import RunStore
from engine.settings import Settings
from engine.telemetry.device import torch_build

MOST_SIZE_S = 300.0
"""A size that takes longer than this is given up: a driver that moves memory about can take hours."""
_DECISION = "ramp"
"""Fact in the store: what the batch size of the run rests on."""


class BatchRamp:
    """The ramp of one run; `plan` is what the run is to be trained by, once it is over."""

    def __init__(self, folder: RunFolder, store: RunStore, settings: Settings, plan: RunPlan) -> None:
        self._folder, self._store, self._training = folder, store, settings.training
        self._sizes = sizes_to_try(plan, settings.training)
        self._key = rules.key_of(plan, settings.training, torch_build().version)
        self._trying: int | None = None
        self._trying_since_s = 0.0
        self.plan = plan
        """The run's plan as it is now."""
        self.command = module_argv("engine.train", "ramp", str(folder.path))
        """What does the trying."""

    @property
    def is_needed(self) -> bool:
        """Whether the size was left open, and neither decided for this run nor trained with."""
        return (
            self._training.micro_batch == "auto"
            and len(self._sizes) > 1
            and self._store.num_rows(AttemptRow) == 0
            and self._store.find_meta(_DECISION, str) is None
        )

    def recall(self) -> bool:
        """Decide without a ramp: by what a former life of this run proved, or by one that the workspace remembers."""
        rows = self.close_open_row("killed", "The supervisor died meanwhile.")
        chosen = rules.choose(rows)
        if chosen is not None and not any(row.state == "stopped" for row in rows):
            self._decide(chosen, "Going on with what was proven before")
            return True
        found = rules.recall(self._folder.workspace, self._key, self.plan.memory_budget_bytes)
        if found is None:
            return False
        kept, chosen = found
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.at))
        self._decide(chosen, f"The batch size is remembered from {day}", is_own=False)
        return True

    def is_hopeless(self) -> bool:
        """Whether the size that is being tried takes too long; to be asked every second."""
        row = self._store.newest(RampRow, "number")
        number = row.number if row and row.state == "trying" else None
        if number != self._trying:
            self._trying, self._trying_since_s = number, time.monotonic()
        return number is not None and time.monotonic() - self._trying_since_s > MOST_SIZE_S

    def conclude(self, how_it_ended: str) -> str | None:
        """Choose from what was tried; the reason where not even the smallest size has room.

        `how_it_ended` is the exit of the process that tried, in words.
        """
        rows = self.close_open_row("killed", f"Its process ended with {how_it_ended}.")
        self.clear()
        chosen = rules.choose(rows)
        if chosen is not None:
            self._decide(chosen, "The batch size is found")
            if all(row.state in _REPEATABLE for row in rows):
                self._keep(rows)
            return None
        if rows and all(row.state == "out-of-memory" for row in rows):
            return str(rules.no_room(self.plan, rows[0].micro_batch, rows[0].note))
        smallest = self._sizes[0]
        self._replan(smallest.micro_batch, smallest.num_recomputed_blocks)
        self._store.set_meta(**{_DECISION: "unproven"})
        why = rules.result_text(rows[-1]) if rows else f"Trying ended with {how_it_ended}."
        text = f"No batch size could be proven, so that the training begins with the smallest. {why}"
        self._tell("warning", text, {})
        return None

    def close_open_row(self, state: RampState, note: str) -> list[RampRow]:
        """Say what became of a size that was being tried; the rows of the newest ramp."""
        rows = self._store.ramp()
        for index, row in enumerate(rows):
            if row.state == "trying":
                rows[index] = msgspec.structs.replace(row, state=state, note=note)
                self._store.put(rows[index])
                if state != "stopped":
                    text, figures = rules.result_text(rows[index]), msgspec.to_builtins(rows[index])
                    self._tell("warning", text, figures, kind="ramp-size")
        return rows

    def clear(self) -> None:
        """Delete what the trying left on the disk."""
        shutil.rmtree(self._folder.scratch, ignore_errors=True)

    # --- what follows -----------------------------------------------------------------------------------------

    def _decide(self, chosen: RampRow, why: str, *, is_own: bool = True) -> None:
        """`is_own` is whether this very run tried it."""
        self._replan(chosen.micro_batch, chosen.num_recomputed_blocks)
        self._store.set_meta(**{_DECISION: why})
        if is_own:
            self._store.put(msgspec.structs.replace(chosen, is_chosen=True))
        text = f"{why}: {rules.choice_text(chosen, self.plan)}"
        self._tell("info", text, msgspec.to_builtins(chosen))

    def _replan(self, micro_batch: int, num_recomputed_blocks: int) -> None:
        self.plan = rules.replan(self.plan, micro_batch, num_recomputed_blocks)
        self._store.set_meta(plan=self.plan)

    def _keep(self, rows: list[RampRow]) -> None:
        ramp = rules.KeptRamp(
            at=time.time(), key=self._key, budget_bytes=self.plan.memory_budget_bytes, rows=tuple(rows)
        )
        try:
            rules.keep(self._folder.workspace, ramp)
        except OSError as error:
            self._tell("warning", f"The batch size could not be kept for the next run: {error}", {})

    def _tell(self, level: str, text: str, data: object, kind: str = "ramp") -> None:
        encoded = msgspec.json.encode(data).decode()
        self._store.put(
            EventRow(at=time.time(), level=level, source="ramp", kind=kind, text=text, data=encoded)
        )


_REPEATABLE = ("proven", "slower", "over-budget", "out-of-memory")
