"""`run.db`: everything that the processes of one run tell each other and the viewers.

Who writes what is fixed, so that no two processes ever write the same row: the supervisor the states, attempts,
sensors and energy; the trainer steps, evaluations, samples and checkpoints; a client the commands. States and
events are only appended, by anyone. A reader opens read-only and can stall nobody (WAL).
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.clock import boot_id
from engine.errors import DamagedStoreError, StoreError
from engine.ledger.days import DayStep, MinuteSum
from engine.records import (
    AcknowledgementRow,
    AttemptRow,
    CheckpointRow,
    CommandRow,
    EventRow,
    HeartbeatRow,
    Origin,
    RampRow,
    RunState,
    SensorRow,
    StateRow,
)
from engine.runs.history import History
from engine.runs.lineage import Lineage
from engine.runs.tables import CHARTED_SENSORS as CHARTED_SENSORS
from engine.runs.tables import READING_PER_UNIT, TABLES
from engine.runs.tables import MetaRow as MetaRow
from engine.sqlite import BusyError, DamageError, Database, Row, files_of, is_damage

SCHEMA_VERSION = 1
_MAX_PENDING_ROWS = 100_000
REMEDY = "`llm-tui resume` makes it anew from what can still be read, and goes on from the newest checkpoint."

Meta = TypeVar("Meta")


class RunStore(History):
    """One process's connection to a run's `run.db`.

    Raises: StoreError where the file is absent (reading), damaged or of a newer version.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_ms: int = 2000) -> None:
        if read_only and not path.exists():
            raise StoreError(f"{path} is not there.", "The run was deleted, or never got as far as this.")
        self.path = path
        self._database = Database(path, TABLES, read_only=read_only, busy_ms=busy_ms)
        self._pending: deque[msgspec.Struct] = deque(maxlen=_MAX_PENDING_ROWS)
        self._files = files_of(self.path)
        self._damage: str | None = None

    def close(self) -> None:
        """Close the connection; rows that are still pending are tried once more."""
        if self._pending:
            self.flush()
        self._database.close()

    @property
    def damage(self) -> str | None:
        """Why this connection is of no use any more, as a write found or the files beside it show; None: it is."""
        if self._damage is None:
            present = files_of(self.path)
            for name, number in self._files.items():
                if present.get(name) != number:
                    self._damage = f"{name} was deleted or replaced while the run was using it"
            self._files = present
        return self._damage

    def find_damage(self) -> str | None:
        """As `damage`, and what SQLite finds on looking through the whole file; a second for a long run."""
        return self.damage or self._database.find_damage()

    def release(self) -> Database:
        """Give the connection away: for making the store anew from it. The store is of no use afterwards."""
        return self._database

    # --- writing ----------------------------------------------------------------------------------------------

    def put(self, *rows: msgspec.Struct) -> None:
        """Write rows in one transaction, waiting up to `busy_ms` for the lock.

        Raises: BusyError where the lock is held for longer.
        """
        with self._transaction():
            self._database.put_all(_stamped(row) for row in rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._database.transaction():
                yield
        except DamageError as error:
            if not is_damage(error):
                raise
            self._damage = str(error)
            raise DamagedStoreError(f"{self.path} cannot be written: {error}", REMEDY) from error

    def queue(self, *rows: msgspec.Struct) -> None:
        """Remember rows until `flush`; the oldest of more than 100,000 are given up."""
        self._pending.extend(_stamped(row) for row in rows)

    def flush(self) -> bool:
        """Write what is queued; False where it could not be written now and is kept for the next time."""
        if not self._pending:
            return True
        rows = tuple(self._pending)
        try:
            self.put(*rows)
        except (BusyError, DamagedStoreError):
            return False
        for _ in rows:
            self._pending.popleft()
        return True

    @property
    def is_stalled(self) -> bool:
        """Whether rows wait that could not be written."""
        return bool(self._pending)

    def tell(self, *rows: msgspec.Struct) -> None:
        """Write rows now, or with the next flush where the store is locked, full or damaged."""
        self.queue(*rows)
        self.flush()

    def set_meta(self, **facts: Any) -> None:
        """Write facts as JSON."""
        self.put(*_meta_rows(facts))

    def keep(self, **facts: Any) -> None:
        """Write facts as `tell` does rows."""
        self.tell(*_meta_rows(facts))

    def set_state(self, state: RunState, reason: str = "") -> None:
        """Append a state, unless it is the newest one already."""
        newest = self.state()
        if newest is None or newest.state != state or newest.reason != reason:
            self.tell(StateRow(at=time.time(), state=state.value, reason=reason))

    def post_command(self, verb: str, who: str) -> int:
        """Append a request; the answer is its id."""
        with self._transaction():
            newest = self._database.query("SELECT coalesce(max(id), 0) FROM command")[0][0]
            self._database.put(CommandRow(id=newest + 1, at=time.time(), verb=verb, who=who))
        return int(newest) + 1

    def acknowledge(self, command_id: int, message: str, *, is_done: bool = True) -> None:
        """Answer a command."""
        self.put(AcknowledgementRow(command_id=command_id, at=time.time(), is_done=is_done, message=message))

    # --- reading ----------------------------------------------------------------------------------------------

    def meta(self, key: str, kind: type[Meta]) -> Meta:
        """A fact written once.

        Raises: StoreError where it is not there or of another shape.
        """
        fact = self.find_meta(key, kind)
        if fact is not None:
            return fact
        raise StoreError(
            f"{self._database.path} has no {key}.",
            f"The run was made by another version, or is damaged. {REMEDY}",
        )

    def find_meta(self, key: str, kind: type[Meta]) -> Meta | None:
        """A fact, None where it was never written. Raises: StoreError where it is of another shape."""
        row = self._database.row(MetaRow, "WHERE key = ?", (key,))
        try:
            return None if row is None else msgspec.json.decode(row.value, type=kind)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self._database.path}: {key} is damaged: {error}") from error

    def rows(self, record: type[Row], tail: str = "", parameters: tuple[Any, ...] = ()) -> list[Row]:
        """The rows of a table; `tail` as in `Database.rows`."""
        return self._database.rows(record, tail, parameters)

    def newest(self, record: type[Row], by: str = "rowid") -> Row | None:
        """The row with the largest `by`, None where there is none."""
        return self._database.row(record, f"ORDER BY {by} DESC")

    def state(self) -> StateRow | None:
        """The newest state."""
        return self.newest(StateRow)

    def heartbeat(self, role: str) -> HeartbeatRow | None:
        """The last sign of life of a role."""
        return self._database.row(HeartbeatRow, "WHERE role = ?", (role,))

    def open_commands(self) -> list[CommandRow]:
        """Commands without an answer, oldest first."""
        return self.rows(CommandRow, "WHERE id NOT IN (SELECT command_id FROM acknowledgement) ORDER BY id")

    def acknowledgement(self, command_id: int) -> AcknowledgementRow | None:
        """The answer to a command, None while there is none."""
        return self._database.row(AcknowledgementRow, "WHERE command_id = ?", (command_id,))

    def num_rows(self, record: type[msgspec.Struct]) -> int:
        """How many rows a table has."""
        if not self._database.columns_of(record):
            return 0
        name = next(table.name for table in TABLES if table.record is record)
        return int(self._database.query(f"SELECT count(*) FROM {name}")[0][0])

    def ramp(self) -> list[RampRow]:
        """The sizes of the newest batch ramp, in the order of trying."""
        return self.rows(RampRow, "WHERE ramp = (SELECT max(ramp) FROM ramp) ORDER BY number")

    def num_states(self) -> int:
        """How many states the run has been in."""
        return self.num_rows(StateRow)

    def events(self, after: int = 0) -> list[tuple[int, EventRow]]:
        """Events with their row number, those after `after`, oldest first."""
        numbers = self._database.query("SELECT rowid FROM event WHERE rowid > ? ORDER BY rowid", (after,))
        rows = self.rows(EventRow, "WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, len(numbers)))
        return [(number, row) for (number,), row in zip(numbers, rows, strict=True)]

    def newest_checkpoint(self) -> CheckpointRow | None:
        """The newest that no trainer found damaged; None where there is none."""
        found = self.rows(CheckpointRow, "ORDER BY step DESC")
        return next((row for row in found if not row.is_damaged), None)

    def lineage(self) -> Lineage:
        """Which steps, validations and samples lead to where training stands."""
        found = self.find_meta("origins", tuple[Origin, ...]) or ()
        return Lineage(found).after(self.newest(AttemptRow, "attempt"))

    def minute_sums(self, longest_s: float) -> list[MinuteSum]:
        """The readings by the minute of the clock; an interval longer than `longest_s` is a gap, and left out."""
        names, per = MinuteSum.__struct_fields__, READING_PER_UNIT
        found = self._database.query(
            "WITH taken AS (SELECT *, elapsed_s - lag(elapsed_s) OVER (ORDER BY elapsed_s) AS took FROM reading) "
            f"SELECT at / 60000, sum(took) / 1000.0, sum(took * gpu_watts) / {1000.0 * per['gpu_watts']}, "
            f"sum(took * machine_watts) / {1000.0 * per['machine_watts']}, "
            f"avg(gpu_celsius) / {per['gpu_celsius']}.0, max(gpu_celsius) / {per['gpu_celsius']}.0, "
            f"max(cpu_celsius) / {per['cpu_celsius']}.0, max(gpu_watts) / {per['gpu_watts']}.0, "
            f"max(machine_watts) / {per['machine_watts']}.0 FROM taken WHERE took <= ? GROUP BY 1 ORDER BY 1",
            (longest_s * per["elapsed_s"],),
        )
        return [MinuteSum(**dict(zip(names, row, strict=True))) for row in found]

    def last_steps_by_day(self) -> list[DayStep]:
        """The last step of every day (UTC), oldest first."""
        found = self._database.query(
            "SELECT CAST(at / 86400 AS INTEGER), tokens, loss, max(step) FROM step GROUP BY 1 ORDER BY 1"
        )
        return [DayStep(day=day, tokens=tokens, loss=loss) for day, tokens, loss, _ in found]

    def training_tokens_per_s(self) -> float | None:
        """Tokens a second of all steps together, without what lies between them; None before the first."""
        ((tokens, seconds),) = self._database.query(
            "SELECT count(*), sum(1.0 / tokens_per_s) FROM step WHERE tokens_per_s > 0"
        )
        return tokens / seconds if tokens else None

    def most_memory_bytes(self) -> int | None:
        """The most that the trainer reported to hold; None: nothing was reported."""
        ((most,),) = self._database.query("SELECT max(memory_bytes) FROM step")
        return most if most is None else int(most)

    def highest(self, name: str, since_s: float) -> float | None:
        """The highest reading of a field of `SensorRow` from `SensorRow.elapsed_s` on; None: there was none."""
        tail = f"WHERE elapsed_s >= ? AND {name} IS NOT NULL ORDER BY {name} DESC"
        if name not in self._database.columns_of(SensorRow):
            return None
        row = self._database.row(SensorRow, tail, (round(since_s * READING_PER_UNIT["elapsed_s"]),))
        return None if row is None else float(getattr(row, name))


def _meta_rows(facts: dict[str, Any]) -> list[MetaRow]:
    return [MetaRow(key=key, value=msgspec.json.encode(fact).decode()) for key, fact in facts.items()]


def _stamped(row: msgspec.Struct) -> msgspec.Struct:
    """A heartbeat with the monotonic instant that it is given at; other rows as they are."""
    if isinstance(row, HeartbeatRow) and row.monotonic_s is None:
        return msgspec.structs.replace(row, monotonic_s=time.monotonic(), boot_id=boot_id())
    return row
