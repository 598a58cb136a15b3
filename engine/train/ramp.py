"""The batch ramp at work: one size after another on the device itself, each written down before it is tried.

A process of its own, so that all its memory is gone afterwards, and a size that the kernel ends takes nothing
along: what was proven before stands in the store, and the supervisor chooses from that.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from engine.errors import EngineError, StoreError
from engine.plan import MicroStep, sizes_to_try
from engine.ramp import END_FACT, RampEnd, judged, next_size, result_text
from engine.records import EventRow, Level, RampRow, RampState, RunPlan
from engine.rehearsal import Proof
from engine.runs.folder import RunFolder
from engine.runs.store import MetaRow, RunStore
from engine.train.journal import open_patiently
from engine.train.proof import Prover

_PATIENCE_S = 10.0
"""How long a row may wait for a lock on the store."""
_QUICK_S = 5.0
"""Micro-steps that take longer are not timed again."""


class OrphanedError(Exception):
    """The supervisor is gone: nobody would hear of the result."""


def ramp(run_dir: Path, parent_pid: int) -> None:
    """Try the run's sizes until they fit no longer or get slower; what came of each stands in the run's store.

    Raises: EngineError where nothing can be tried at all; OrphanedError.
    """
    folder = RunFolder(run_dir)
    store = open_patiently(folder.store_path)
    try:
        Ramp(folder, store, parent_pid).run()
    except EngineError as error:
        _write(store, _event("error", "ramp-refused", str(error)))
        raise
    finally:
        store.close()


class Ramp:
    """One ascent."""

    def __init__(self, folder: RunFolder, store: RunStore, parent_pid: int) -> None:
        self._store, self._parent_pid = store, parent_pid
        self._plan = store.meta("plan", RunPlan)
        self._training = folder.settings().training
        self._began_s = time.monotonic()
        former = store.newest(RampRow, "number")
        self._number = former.number + 1 if former else 1
        self._ramp = former.ramp + 1 if former else 1
        self._rows: list[RampRow] = []
        folder.scratch.mkdir(mode=0o700, exist_ok=True)
        self._prover = Prover(self._plan, self._training, folder.scratch, self._attend)

    def run(self) -> None:
        """Size after size, as the rules give them."""
        sizes = sizes_to_try(self._plan, self._training)
        kind = self._plan.device.kind
        while size := next_size(sizes, self._rows, time.monotonic() - self._began_s, kind):
            self._attend()
            self._rows.append(self._tried(size))
        is_complete = next_size(sizes, self._rows, 0.0, kind) is None
        if not is_complete:
            text = f"Larger sizes were left out: the ramp took {time.monotonic() - self._began_s:.0f} s."
            _write(self._store, _event("info", "ramp-time", text))
        end = msgspec.json.encode(RampEnd(ramp=self._ramp, is_complete=is_complete)).decode()
        _write(self._store, MetaRow(key=END_FACT, value=end))

    def _tried(self, size: MicroStep) -> RampRow:
        """Write down what is tried, try it, and write down what came of it."""
        started_s = time.monotonic()
        row = RampRow(
            number=self._number,
            ramp=self._ramp,
            at=time.time(),
            micro_batch=size.micro_batch,
            num_recomputed_blocks=size.num_recomputed_blocks,
            state="trying",
            budget_bytes=self._prover.budget_bytes,
        )
        self._number += 1
        _write(self._store, row)
        try:
            done = msgspec.structs.replace(self._result(row), seconds=time.monotonic() - started_s)
        except OrphanedError:
            _write(self._store, _without_result(row, "stopped", "The supervisor died meanwhile."))
            raise
        # Memory that is short is how most ramps end.
        level: Level = "warning" if done.state == "failed" else "info"
        figures = msgspec.to_builtins(done)
        _write(self._store, done, _event(level, "ramp-size", result_text(done), figures))
        return done

    def _result(self, row: RampRow) -> RampRow:
        try:
            found = self._prover.prove(row.micro_batch, row.num_recomputed_blocks)
            if isinstance(found, Proof) and self._is_doubtful(row, found):
                found = self._prover.time_again(found)
        except (EngineError, RuntimeError) as error:
            return _without_result(row, "failed", str(error).strip().split("\n")[0])
        if isinstance(found, str):
            return _without_result(row, "out-of-memory", found)
        return judged(_with(row, found), self._rows)

    def _is_doubtful(self, row: RampRow, found: Proof) -> bool:
        """Whether a size came out slower and can be timed again: something else may have been at work."""
        return found.micro_step_s < _QUICK_S and judged(_with(row, found), self._rows).state == "slower"

    def _attend(self) -> None:
        if os.getppid() != self._parent_pid:
            raise OrphanedError


def _with(row: RampRow, proof: Proof) -> RampRow:
    return msgspec.structs.replace(
        row,
        memory_bytes=proof.memory_bytes,
        tokens_per_s=proof.tokens_per_s,
        evaluate_s=proof.evaluate_s,
        save_s=proof.save_s,
        load_s=proof.load_s,
    )


def _without_result(row: RampRow, state: RampState, note: str) -> RampRow:
    return msgspec.structs.replace(row, state=state, note=note)


def _event(level: Level, kind: str, text: str, data: object = None) -> EventRow:
    encoded = msgspec.json.encode(data or {}).decode()
    return EventRow(at=time.time(), level=level, source="ramp", kind=kind, text=text, data=encoded)


def _write(store: RunStore, *rows: msgspec.Struct) -> None:
    """Write rows for sure, before anything else is done.

    Raises: StoreError where the store stays locked or full.
    """
    store.queue(*rows)
    deadline = time.monotonic() + _PATIENCE_S
    while not store.flush():
        if time.monotonic() > deadline:
            raise StoreError("The run's store stays locked.", "Make room on its disk.")
        time.sleep(0.05)
