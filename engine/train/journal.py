"""What the trainer tells the run: rows, events and a heartbeat. A store that is locked never stalls training."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec

from engine.errors import StoreError
from engine.records import (
    AcknowledgementRow,
    AttemptRow,
    CheckpointRow,
    CommandRow,
    EventRow,
    HeartbeatRow,
    Level,
    Origin,
    RunState,
    StateRow,
)
from engine.runs.lineage import Lineage
from engine.runs.store import MetaRow, RunStore
from engine.sqlite import BusyError

BUSY_MS = 50
_BEAT_S = 1.0
_FLUSH_EVERY_S = 0.5


class Heartbeat:
    """A sign of life once a second from a thread with a connection of its own, whatever the trainer is doing."""

    def __init__(self, store_path: Path) -> None:
        self._store_path = store_path
        self._phase = "starting"
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def phase(self) -> str:
        """What the trainer is doing, in a word or two."""
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        self._phase = phase
        self._wake.set()

    def stop(self) -> None:
        """End the thread; the last sign stays."""
        self._is_over = True
        self._wake.set()
        self._thread.join(timeout=2.0)

    def _beat(self) -> None:
        store: RunStore | None = None
        while not self._is_over:
            try:
                store = store or RunStore(self._store_path, busy_ms=BUSY_MS)
                store.put(HeartbeatRow(role="trainer", pid=os.getpid(), at=time.time(), phase=self._phase))
            except (BusyError, StoreError):
                pass  # locked or full: the next beat is a second away
            self._wake.wait(_BEAT_S)
            self._wake.clear()
        if store is not None:
            store.close()


def open_patiently(store_path: Path, patience_s: float = 20.0) -> RunStore:
    """A connection whose writes wait for a lock 50 ms at most; opening it waits longer, for a start is no hurry.

    Raises: StoreError where the store cannot be opened in that time.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return RunStore(store_path, busy_ms=BUSY_MS)
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Journal:
    """The trainer's connection to `run.db`: writes are queued and flushed a few times a second."""

    def __init__(self, store_path: Path) -> None:
        self.store = open_patiently(store_path)
        self.heartbeat = Heartbeat(store_path)
        self._flushed_at = 0.0
        self._answered: set[int] = set()
        newest_state = self.store.state()
        self.state = RunState(newest_state.state) if newest_state else None
        """What the run was last said to be; None: nothing yet."""
        newest = self.store.newest(AttemptRow, "attempt")
        self.attempt = newest.attempt if newest else 1
        """Which start of the trainer this is."""
        self.rollbacks = 0
        """How often the run had gone back to a checkpoint before the present stretch."""

    def close(self) -> None:
        """Write what is queued, for a few seconds if need be, and close."""
        self.heartbeat.stop()
        deadline = time.monotonic() + 5.0
        while not self.store.flush() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.store.close()

    def write(self, *rows: msgspec.Struct) -> None:
        """Queue rows; they reach the disk within about half a second of training."""
        self.store.queue(*rows)
        self.flush_soon()

    def keep(self, **facts: object) -> None:
        """Write facts about the run, in place of what they were."""
        for key, fact in facts.items():
            self.store.queue(MetaRow(key=key, value=msgspec.json.encode(fact).decode()))
        self.flush()

    def enter(self, row: CheckpointRow) -> None:
        """Write the row of a checkpoint that was found, where its writer was killed before it could."""
        if not self.store.rows(CheckpointRow, "WHERE step = ?", (row.step,)):
            self.write(row)

    def begin_stretch(self, rollbacks: int, step: int) -> None:
        """Enter from where training goes on: its newest good checkpoint, so that what lies beyond is none."""
        self.rollbacks = rollbacks
        origin = Origin(attempt=self.attempt, rollbacks=rollbacks, step=step)
        told = Lineage(self.store.find_meta("origins", tuple[Origin, ...]) or ())
        for row in self.store.rows(CheckpointRow, "WHERE step > ?", (step,)):
            self.store.queue(msgspec.structs.replace(row, is_damaged=True))
        self.keep(origin=origin, origins=told.going_on(origin).origins)

    def flush_soon(self) -> None:
        """Flush, unless that was done a moment ago."""
        if time.monotonic() - self._flushed_at >= _FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> bool:
        """Flush now; False where the store is locked or full, and the rows wait."""
        self._flushed_at = time.monotonic()
        return self.store.flush()

    def tell(self, level: Level, kind: str, text: str, **data: object) -> None:
        """Write an event."""
        encoded = msgspec.json.encode(data).decode()
        self.store.queue(
            EventRow(at=time.time(), level=level, source="trainer", kind=kind, text=text, data=encoded)
        )
        self.flush()

    def set_state(self, state: RunState, reason: str = "") -> None:
        """Append a state of the run, unless it was said last."""
        if state is not self.state:
            self.state = state
            self.store.queue(StateRow(at=time.time(), state=state.value, reason=reason))
            self.flush()

    def commands(self) -> list[CommandRow]:
        """Commands that this trainer has not answered, oldest first; none while the store cannot be read."""
        try:
            return [command for command in self.store.open_commands() if command.id not in self._answered]
        except StoreError:
            return []

    def answer(self, command: CommandRow, message: str, *, is_done: bool = True) -> None:
        """Acknowledge a command; it is not given again, even where the store is locked for now."""
        self._answered.add(command.id)
        self.store.queue(
            AcknowledgementRow(command_id=command.id, at=time.time(), is_done=is_done, message=message)
        )
        self.flush()
