"""A run's curves for other tools: one row a step, with its validation and with what the sensors read at the time."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine import tensorboard
from engine.errors import EngineError
from engine.records import EvaluationRow, SensorRow, StepRow
from engine.runs.folder import RunFolder
from engine.runs.store import RunStore

MAX_READING_AGE_S = 60.0
"""A reading that is older than this at a step says nothing about it."""
_CHUNK_ROWS = 5000


class Column(msgspec.Struct, frozen=True):
    """One column of the metrics."""

    name: str
    unit: str
    meaning: str
    tag: str = ""
    """Its name in TensorBoard; empty: it is none of the curves there."""


COLUMNS = (
    Column("step", "count", "optimizer steps done; the rows ascend by it"),
    Column("at", "ISO 8601, UTC", "when the step ended"),
    Column("tokens", "count", "tokens trained on up to and with this step", "train/tokens"),
    Column("loss", "nats a token", "mean cross-entropy of the step's tokens", "train/loss"),
    Column(
        "val_loss",
        "nats a token",
        "of the validation at this step; empty where there was none",
        "validation/loss",
    ),
    Column(
        "val_bits_per_byte", "bits a byte", "the same over the bytes of the text", "validation/bits_per_byte"
    ),
    Column("learning_rate", "1", "of the matrices, as the schedule had it", "train/learning_rate"),
    Column("grad_norm", "1", "norm of the gradient before it was clipped", "train/grad_norm"),
    Column("tokens_per_s", "tokens/s", "of this step alone", "speed/tokens_per_s"),
    Column("micro_batch", "count", "sequences at a time", "speed/micro_batch"),
    Column("grad_accum", "count", "micro-batches a step"),
    Column(
        "memory_bytes",
        "bytes",
        "most the trainer held so far: of the GPU, else of RAM",
        "memory/trainer_bytes",
    ),
    Column("attempt", "count", "which start of the trainer did the step, from 1"),
    Column("gpu_celsius", "°C", "hottest GPU", "sensors/gpu_celsius"),
    Column("gpu_watts", "W", "all GPUs", "sensors/gpu_watts"),
    Column("gpu_util_frac", "0 to 1", "share of the time that the GPU was busy", "sensors/gpu_util_frac"),
    Column(
        "gpu_memory_used_bytes", "bytes", "memory of the GPU in use, by whomever", "memory/gpu_used_bytes"
    ),
    Column("cpu_celsius", "°C", "CPU package", "sensors/cpu_celsius"),
    Column("cpu_watts", "W", "CPU package, measured or estimated", "sensors/cpu_watts"),
    Column("machine_watts", "W", "whole machine, measured, composed or estimated", "sensors/machine_watts"),
    Column(
        "machine_watts_source", "word", "where machine_watts comes from: battery, partly measured, estimate"
    ),
)
"""All of them, in their order. Unknown is empty in CSV, null in JSON, and no point in TensorBoard. Sensors: the newest
reading of the minute before the step's end."""
_STEP_FIELDS = frozenset(StepRow.__struct_fields__) - {"at"}
_SENSOR_FIELDS = frozenset(SensorRow.__struct_fields__) - {"at"}


class Point(NamedTuple):
    """One step, or the validation before the first."""

    at: float
    values: dict[str, Any]
    """By the names of `COLUMNS`, in their order."""


def points(store: RunStore) -> Iterator[Point]:
    """Every step that leads to where training stands, ascending; those of branches that were given up are left out.

    A validation before the first step has a point of its own.
    Read in pieces, so that a run of weeks takes no more memory than a short one. Raises: StoreError.
    """
    lineage = store.lineage()
    where, origins = lineage.clause("evaluation")
    evaluations = deque(store.rows(EvaluationRow, f"WHERE {where} ORDER BY step", origins))
    readings = _readings(store)
    reading, upcoming = None, next(readings, None)
    for step in _steps(store):
        while evaluations and evaluations[0].step < step.step:  # the one before the first step
            alone = evaluations.popleft()
            yield Point(alone.at, _values(None, alone, None))
        while upcoming is not None and upcoming.at <= step.at:
            reading, upcoming = upcoming, next(readings, None)
        is_fresh = reading is not None and step.at - reading.at <= MAX_READING_AGE_S
        evaluation = evaluations.popleft() if evaluations and evaluations[0].step == step.step else None
        yield Point(step.at, _values(step, evaluation, reading if is_fresh else None))


def _steps(store: RunStore) -> Iterator[StepRow]:
    where, origins = store.lineage().clause("step")
    last = -1
    while rows := store.rows(
        StepRow, f"WHERE {where} AND step > ? ORDER BY step LIMIT {_CHUNK_ROWS}", (*origins, last)
    ):
        yield from rows
        last = rows[-1].step


def _readings(store: RunStore) -> Iterator[SensorRow]:
    last_ms = -1
    while rows := store.rows(
        SensorRow, f"WHERE elapsed_s > ? ORDER BY elapsed_s LIMIT {_CHUNK_ROWS}", (last_ms,)
    ):
        yield from rows
        last_ms = round(rows[-1].elapsed_s * 1000)


def _values(
    step: StepRow | None, evaluation: EvaluationRow | None, reading: SensorRow | None
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    moment = step or evaluation
    assert moment is not None
    for column in COLUMNS:
        name = column.name
        if name == "at":
            whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment.at))
            values[name] = f"{whole}.{int(moment.at % 1 * 1000):03}Z"
        elif name in ("step", "tokens"):
            values[name] = getattr(moment, name)
        elif name.startswith("val_"):
            values[name] = getattr(evaluation, name, None)
        elif name in _STEP_FIELDS:
            values[name] = getattr(step, name, None)
        else:
            assert name in _SENSOR_FIELDS
            values[name] = getattr(reading, name, None)
    return values


def csv_lines(folder: RunFolder) -> Iterator[str]:
    """The metrics as CSV, a line at a time with its end. Raises: StoreError."""
    with contextlib.closing(folder.open()) as store:
        yield _csv_line([column.name for column in COLUMNS])
        for point in points(store):
            yield _csv_line(list(point.values.values()))


def _csv_line(cells: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def json_lines(folder: RunFolder) -> Iterator[str]:
    """The metrics as one JSON document, in pieces: run, columns with their units, rows. Raises: StoreError."""
    with contextlib.closing(folder.open()) as store:
        columns = [{"name": c.name, "unit": c.unit, "meaning": c.meaning} for c in COLUMNS]
        head = msgspec.json.encode({"run": folder.id, "columns": columns}).decode()
        yield f'{head[:-1]},"rows":['
        comma = "\n"
        for point in points(store):
            yield comma + msgspec.json.encode(point.values).decode()
            comma = ",\n"
        yield "\n]}\n"


def write_tensorboard(folder: RunFolder, to: Path) -> Path:
    """Write the curves as an event file into `to`/RUN, in place of what an earlier call wrote; the file.

    Raises: EngineError where it cannot be written; StoreError.
    """
    with contextlib.closing(folder.open()) as store:
        created_at = store.meta("created_at", float)
        path = to.expanduser() / folder.id / f"events.out.tfevents.{int(created_at)}.llm-tui"
        tags = {column.name: column.tag for column in COLUMNS if column.tag}
        events = (
            (
                point.at,
                point.values["step"],
                {
                    tag: float(value)
                    for name, tag in tags.items()
                    if (value := point.values[name]) is not None
                },
            )
            for point in points(store)
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tensorboard.write_events(path, created_at, events)
        except OSError as error:
            raise EngineError(
                f"{path} cannot be written: {error.strerror or error}.", "Name another folder, or make room."
            ) from error
    return path
