"""`run.db`: everything that the processes of one run tell each other and the viewers.

Who writes what is fixed, so that no two processes ever write the same row: the supervisor the states, attempts,
sensors and energy; the trainer steps, evaluations, samples and checkpoints; a client the commands. States and
events are only appended, by anyone. A reader opens read-only and can stall nobody (WAL).
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import StoreError
from engine.records import (
    AcknowledgementRow,
    AttemptRow,
    Bucket,
    CheckpointRow,
    CommandRow,
    EnergyRow,
    EvaluationRow,
    EventRow,
    HeartbeatRow,
    LossPoint,
    MinuteRow,
    ProgressRow,
    RunState,
    SensorRow,
    Series,
    StateRow,
    StepRow,
    TextSampleRow,
)
from engine.sqlite import BusyError, Database, Row, Table

SCHEMA_VERSION = 1
CHARTED_SENSORS = (
    "gpu_celsius",
    "gpu_watts",
    "gpu_util_frac",
    "cpu_celsius",
    "cpu_watts",
    "cpu_load_frac",
    "machine_watts",
    "memory_used_bytes",
    "gpu_memory_used_bytes",
)
"""Fields of `SensorRow` that have a history on screen."""
BY_THE_MINUTE_S = 7200.0
"""Runs that are longer are charted from the minutes."""
_MAX_PENDING_ROWS = 100_000

Meta = TypeVar("Meta")


class MetaRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about the run that is written once, as JSON."""

    key: str
    value: str


TABLES = (
    Table("meta", MetaRow, "key"),
    Table("state", StateRow),
    Table("heartbeat", HeartbeatRow, "role"),
    Table("progress", ProgressRow, "kind"),
    Table("attempt", AttemptRow, "attempt"),
    Table("step", StepRow, "step"),
    Table("evaluation", EvaluationRow, "step"),
    Table("text_sample", TextSampleRow, "step"),
    Table("checkpoint", CheckpointRow, "step"),
    Table("event", EventRow),
    Table("sensor", SensorRow, "elapsed_s"),
    Table("sensor_minute", MinuteRow, "key"),
    Table("energy", EnergyRow, "segment"),
    Table("command", CommandRow, "id"),
    Table("acknowledgement", AcknowledgementRow, "command_id"),
)


class RunStore:
    """One process's connection to a run's `run.db`.

    Raises: StoreError where the file is absent (reading), damaged or of a newer version.
    """

    def __init__(self, path: Path, *, read_only: bool = False, busy_ms: int = 2000) -> None:
        if read_only and not path.exists():
            raise StoreError(f"{path} is not there.", "The run was deleted, or never got as far as this.")
        self._database = Database(path, TABLES, read_only=read_only, busy_ms=busy_ms)
        self._pending: deque[msgspec.Struct] = deque(maxlen=_MAX_PENDING_ROWS)

    def close(self) -> None:
        """Close the connection; rows that are still pending are tried once more."""
        if self._pending:
            self.flush()
        self._database.close()

    # --- writing ----------------------------------------------------------------------------------------------

    def put(self, *rows: msgspec.Struct) -> None:
        """Write rows in one transaction, waiting up to `busy_ms` for the lock.

        Raises: BusyError where the lock is held for longer.
        """
        with self._database.transaction():
            for row in rows:
                self._database.put(row)

    def queue(self, *rows: msgspec.Struct) -> None:
        """Remember rows until `flush`; the oldest of more than 100,000 are given up."""
        self._pending.extend(rows)

    def flush(self) -> bool:
        """Write what is queued; False where it could not be written now and is kept for the next time."""
        if not self._pending:
            return True
        rows = tuple(self._pending)
        try:
            self.put(*rows)
        except BusyError:
            return False
        for _ in rows:
            self._pending.popleft()
        return True

    def set_meta(self, **facts: Any) -> None:
        """Write facts as JSON."""
        self.put(*(MetaRow(key=key, value=msgspec.json.encode(fact).decode()) for key, fact in facts.items()))

    def set_state(self, state: RunState, reason: str = "") -> None:
        """Append a state, unless it is the newest one already."""
        newest = self.state()
        if newest is None or newest.state != state or newest.reason != reason:
            self.put(StateRow(at=time.time(), state=state.value, reason=reason))

    def post_command(self, verb: str, who: str) -> int:
        """Append a request; the answer is its id."""
        with self._database.transaction():
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
        row = self._database.row(MetaRow, "WHERE key = ?", (key,))
        try:
            if row is not None:
                return msgspec.json.decode(row.value, type=kind)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self._database.path}: {key} is damaged: {error}") from error
        raise StoreError(
            f"{self._database.path} has no {key}.", "The run was made by another version, or is damaged."
        )

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
        name = next(table.name for table in TABLES if table.record is record)
        return int(self._database.query(f"SELECT count(*) FROM {name}")[0][0])

    def num_states(self) -> int:
        """How many states the run has been in."""
        return self.num_rows(StateRow)

    def events(self, after: int = 0) -> list[tuple[int, EventRow]]:
        """Events with their row number, those after `after`, oldest first."""
        numbers = self._database.query("SELECT rowid FROM event WHERE rowid > ? ORDER BY rowid", (after,))
        rows = self.rows(EventRow, "WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, len(numbers)))
        return [(number, row) for (number,), row in zip(numbers, rows, strict=True)]

    def train_losses(self, num_points: int) -> list[LossPoint]:
        """The training loss in at most about `num_points` points, each the mean of an equal stretch of steps."""
        last = self.newest(StepRow, "step")
        if last is None:
            return []
        stride = max(1, -(-last.step // num_points))
        found = self._database.query(
            "SELECT max(tokens), avg(loss) FROM step GROUP BY (step - 1) / ? ORDER BY 1", (stride,)
        )
        return [LossPoint(tokens=tokens, loss=loss) for tokens, loss in found]

    def roll_up(self) -> None:
        """Reduce the minutes that are complete and not reduced yet; a second call changes nothing.

        Raises: BusyError as `put`.
        """
        (newest,) = self._database.query("SELECT max(minute) FROM sensor_minute")[0]
        first_s = 0.0 if newest is None else (newest + 1) * 60.0
        rows = []
        for name in CHARTED_SENSORS:
            found = self._database.query(
                f"SELECT CAST(elapsed_s / 60 AS INTEGER), min({name}), avg({name}), max({name}) FROM sensor "
                f"WHERE elapsed_s >= ? AND {name} IS NOT NULL "
                "AND elapsed_s < 60 * (SELECT CAST(max(elapsed_s) / 60 AS INTEGER) FROM sensor) GROUP BY 1",
                (first_s,),
            )
            rows += [
                MinuteRow(key=f"{name} {minute}", name=name, minute=minute, low=low, mean=mean, high=high)
                for minute, low, mean, high in found
            ]
        if rows:
            self.put(*rows)

    def series(self, name: str, num_buckets: int) -> Series:
        """One sensor over the whole run, reduced to `num_buckets` stretches.

        `name` is a field of `SensorRow`; unknown readings make no bucket. A run of over two hours is read by the
        minute, plus what is not rolled up yet.
        """
        if name not in SensorRow.__struct_fields__:
            raise KeyError(name)
        newest = self._database.query(f"SELECT elapsed_s, {name} FROM sensor ORDER BY elapsed_s DESC LIMIT 1")
        if not newest:
            return Series(
                name=name, num_buckets=num_buckets, buckets=(), now=None, low=None, mean=None, high=None
            )
        last_s, now = newest[0]
        (rolled,) = self._database.query("SELECT max(minute) FROM sensor_minute")[0]
        is_long = last_s > BY_THE_MINUTE_S and rolled is not None
        since_s = (rolled + 1) * 60.0 if is_long else 0.0
        width_s = max(last_s / num_buckets, 1e-9)
        parts = self._database.query(
            f"SELECT min(CAST(elapsed_s / ? AS INTEGER), ?), min({name}), sum({name}), max({name}), count({name}) "
            f"FROM sensor WHERE elapsed_s >= ? AND {name} IS NOT NULL GROUP BY 1",
            (width_s, num_buckets - 1, since_s),
        )
        if is_long:
            parts += self._database.query(
                "SELECT min(CAST(60.0 * minute / ? AS INTEGER), ?), min(low), 60 * sum(mean), max(high), 60 * count(*) "
                "FROM sensor_minute WHERE name = ? GROUP BY 1",
                (width_s, num_buckets - 1, name),
            )
        return _series(name, num_buckets, parts, now)


def _series(name: str, num_buckets: int, parts: list[tuple[Any, ...]], now: float | None) -> Series:
    """Put parts (bucket, low, sum, high, count) together; a bucket may have two."""
    merged: dict[int, tuple[float, float, float, int]] = {}
    for index, low, total, high, number in parts:
        a, b, c, d = merged.get(index, (low, 0.0, high, 0))
        merged[index] = (min(a, low), b + total, max(c, high), d + number)
    buckets = tuple(
        Bucket(index=index, low=low, mean=total / number, high=high)
        for index, (low, total, high, number) in sorted(merged.items())
    )
    num_readings = sum(number for _, _, _, number in merged.values())
    return Series(
        name=name,
        num_buckets=num_buckets,
        buckets=buckets,
        now=now,
        low=min((bucket.low for bucket in buckets), default=None),
        mean=sum(total for _, total, _, _ in merged.values()) / num_readings if num_readings else None,
        high=max((bucket.high for bucket in buckets), default=None),
    )
