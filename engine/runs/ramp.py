"""The batch ramp as the supervisor sees it: whether one is needed, what is remembered of one, what follows from it.

The trying is a process of its own, `python -m engine.train ramp`; here its rows are read and the choice is made.
"""

from __future__ import annotations

import shutil
import time

import msgspec

from engine import ramp as rules
from engine.plan import sizes_to_try, with_measured_speed
from engine.process import module_argv
from engine.records import AttemptRow, EventRow, RampRow, RampState, RunPlan
from engine.runs.folder import RunFolder
from engine.runs.store import RunStore
from engine.settings import Settings
from engine.telemetry.device import torch_build

MOST_SIZE_S = 300.0
"""A ramp that shows no progress for so long is given up: a driver that moves memory about can take hours."""
_DECISION = "ramp"
"""Fact in the store: what the batch size of the run rests on."""


class BatchRamp:
    """The ramp of one run; `plan` is what the run is to be trained by, once it is over."""

    def __init__(self, folder: RunFolder, store: RunStore, settings: Settings, plan: RunPlan) -> None:
        self._folder, self._store, self._training = folder, store, settings.training
        self._sizes = sizes_to_try(plan, settings.training)
        self._key = rules.key_of(plan, settings.training, torch_build().version)
        self._former = 0
        self._seen: RampRow | None = None
        self._seen_since_s = time.monotonic()
        self._is_given_up = False
        self.plan = plan
        """The run's plan as it is now."""

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
        """Decide without a ramp: by what a former life of this run proved, or by one that the workspace remembers.

        A ramp of a former life counts where it came to its end, or where the same size cut it short twice: that size
        may well have taken the machine along.
        """
        rows = self.close_open_row("killed", "The machine or the supervisor died meanwhile.")
        chosen = rules.choose(rows)
        if chosen is not None and (self._end_of(rows) or self._is_cut_short_again(rows)):
            self._decide(chosen, "Going on with what was proven before")
            self._keep(rows)
            return True
        found = rules.recall(self._folder.workspace, self._key, self.plan.memory_budget_bytes)
        if found is None:
            return False
        kept, chosen = found
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.at))
        self._decide(chosen, f"The batch size is remembered from {day}", is_own=False)
        return True

    def begin(self) -> list[str]:
        """The command of what does the trying: from here on its time is counted, and only what it writes counts."""
        self._seen = self._store.newest(RampRow, "number")
        self._former = self._seen.ramp if self._seen else 0
        self._seen_since_s = time.monotonic()
        return module_argv("engine.train", "ramp", str(self._folder.path))

    def is_hopeless(self) -> bool:
        """Whether nothing has come of the trying for too long, a size or anything else; to be asked every second."""
        row = self._store.newest(RampRow, "number")
        if row != self._seen:
            self._seen, self._seen_since_s = row, time.monotonic()
        self._is_given_up = time.monotonic() - self._seen_since_s > MOST_SIZE_S
        return self._is_given_up

    def conclude(self, how_it_ended: str) -> str | None:
        """Choose from what was tried; the reason where not even the smallest size has room.

        `how_it_ended` is the exit of the process that tried, in words.
        """
        note = f"Its process ended with {how_it_ended}."
        if self._is_given_up:
            note = f"It took longer than {MOST_SIZE_S:.0f} s and was given up."
        rows = [row for row in self.close_open_row("killed", note) if row.ramp > self._former]
        self.clear()
        chosen = rules.choose(rows)
        if chosen is not None:
            self._decide(chosen, "The batch size is found")
            self._keep(rows)
            return None
        if rows and all(row.state == "out-of-memory" for row in rows):
            return str(rules.no_room(self.plan, rows[0].micro_batch, rows[0].note))
        smallest = self._sizes[0]
        self._replan(smallest.micro_batch, smallest.num_recomputed_blocks)
        self._store.keep(**{_DECISION: "unproven"})
        why = rules.result_text(rows[-1]) if rows else f"Trying failed before the first size. {note}"
        text = f"No batch size could be proven, so that the training begins with the smallest. {why}"
        self._tell("warning", text, {})
        return None

    def close_open_row(self, state: RampState, note: str) -> list[RampRow]:
        """Say what became of a size that was being tried; the rows of the newest ramp."""
        rows = self._store.ramp()
        for index, row in enumerate(rows):
            if row.state == "trying":
                rows[index] = msgspec.structs.replace(row, state=state, note=note)
                self._store.tell(rows[index])
                if state != "stopped":
                    text, figures = rules.result_text(rows[index]), msgspec.to_builtins(rows[index])
                    self._tell("warning", text, figures, kind="ramp-size")
        return rows

    def clear(self) -> None:
        """Delete what the trying left on the disk."""
        shutil.rmtree(self._folder.scratch, ignore_errors=True)

    def _end_of(self, rows: list[RampRow]) -> rules.RampEnd | None:
        """How the ramp of these rows ended; None: it was cut short."""
        end = self._store.find_meta(rules.END_FACT, rules.RampEnd)
        return end if end and rows and end.ramp == rows[0].ramp else None

    def _is_cut_short_again(self, rows: list[RampRow]) -> bool:
        """Whether the size that cut these short did so to an earlier ramp of the run, too."""
        killed = [row for row in self._store.rows(RampRow) if row.state == "killed"]
        sizes = {(row.micro_batch, row.num_recomputed_blocks) for row in killed if row.ramp < rows[0].ramp}
        return any(
            row.state == "killed" and (row.micro_batch, row.num_recomputed_blocks) in sizes for row in rows
        )

    # --- what follows -----------------------------------------------------------------------------------------

    def _decide(self, chosen: RampRow, why: str, *, is_own: bool = True) -> None:
        """`is_own` is whether this very run tried it."""
        if chosen.tokens_per_s:
            self.plan = with_measured_speed(self.plan, self._training, chosen.tokens_per_s)
        self._replan(chosen.micro_batch, chosen.num_recomputed_blocks)
        self._store.keep(**{_DECISION: why, rules.SPEED_FACT: chosen.tokens_per_s})
        text = f"{why}: {rules.choice_text(chosen, self.plan)}"
        if is_own:
            self._store.tell(msgspec.structs.replace(chosen, is_chosen=True))
        else:
            text += f" To find it anew, delete cache/{rules.FILE_NAME} in the workspace."
        self._tell("info", text, msgspec.to_builtins(chosen))

    def _replan(self, micro_batch: int, num_recomputed_blocks: int) -> None:
        self.plan = rules.replan(self.plan, micro_batch, num_recomputed_blocks)
        self._store.keep(plan=self.plan)

    def _keep(self, rows: list[RampRow]) -> None:
        """Remember a ramp that is complete; what a death or a busy machine cut short is found anew by the next run."""
        end = self._end_of(rows)
        if end is None or not end.is_complete or not all(row.state in _REPEATABLE for row in rows):
            return
        ramp = rules.KeptRamp(
            at=time.time(), key=self._key, budget_bytes=self.plan.memory_budget_bytes, rows=tuple(rows)
        )
        try:
            rules.keep(self._folder.workspace, ramp)
        except OSError as error:
            self._tell("warning", f"The batch size could not be kept for the next run: {error}", {})

    def _tell(self, level: str, text: str, data: object, kind: str = "ramp") -> None:
        encoded = msgspec.json.encode(data).decode()
        self._store.tell(
            EventRow(at=time.time(), level=level, source="ramp", kind=kind, text=text, data=encoded)
        )


_REPEATABLE = ("proven", "slower", "over-budget", "out-of-memory")
