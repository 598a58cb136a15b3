"""The books of a run: its entry in the ledger and the generated part of TRAINING.md, at checkpoints and at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.bill import DayLine, StorageBook
from engine.errors import DamagedStoreError, EngineError, StoreError
from engine.ledger.book import LedgerBook
from engine.ledger.cost import total_energy
from engine.ledger.days import day_lines
from engine.ledger.report import render
from engine.ledger.storage import storage_book
from engine.ledger.tariff import J_PER_KWH, booked_windows, price_at
from engine.ledger.training_md import update
from engine.records import (
    Check,
    CheckpointRow,
    EnergyRow,
    EventRow,
    LedgerEntry,
    Prediction,
    RunPlan,
    RunState,
    StepRow,
    TariffRow,
    TextSampleRow,
)
from engine.runs.folder import RunFolder, all_runs, all_waivers
from engine.runs.store import RunStore
from engine.runs.view import describe_source, read_status
from engine.settings import Settings
from engine.sqlite import BusyError

REPORT_NAME = "TRAINING.md"
_GAP_INTERVALS = 5
"""An interval between readings longer than this many nominal ones is a gap, as in the energy books."""


def ledger_entry(folder: RunFolder, store: RunStore, state: RunState) -> LedgerEntry:
    """What a run cost up to now, from its own store."""
    plan, settings, status = store.meta("plan", RunPlan), folder.settings(), read_status(folder)
    gpu_celsius, gpu_watts = store.series("gpu_celsius", 1), store.series("gpu_watts", 1)
    co2, energy_j = settings.energy.grams_co2_per_kwh, status.machine_energy_j
    tariff_rows = store.rows(TariffRow) if settings.energy.tariff else []
    return LedgerEntry(
        run_id=folder.id,
        at=time.time(),
        started_at=store.meta("created_at", float),
        state=state.value,
        preset=plan.preset,
        parameters=plan.shape.parameters,
        device=plan.device.name,
        corpus=describe_source(settings),
        tokens=status.tokens or 0,
        elapsed_s=status.elapsed_s or 0.0,
        restarts=status.restarts,
        loss=status.loss,
        val_loss=status.val_loss,
        val_bits_per_byte=status.val_bits_per_byte,
        gpu_energy_j=status.gpu_energy_j,
        machine_energy_j=energy_j,
        energy_source=status.energy_source,
        gap_s=total_energy(store.rows(EnergyRow)).gap_s,
        price_per_kwh=settings.energy.price_per_kwh,
        currency=settings.energy.currency,
        cost=status.cost,
        grams_co2=energy_j / J_PER_KWH * co2 if co2 and energy_j is not None else None,
        gpu_celsius_mean=gpu_celsius.mean,
        gpu_celsius_max=gpu_celsius.high,
        gpu_watts_mean=gpu_watts.mean,
        gpu_watts_max=gpu_watts.high,
        cpu_celsius_max=store.series("cpu_celsius", 1).high,
        machine_watts_mean=store.series("machine_watts", 1).mean,
        waivers=_json(all_waivers(store)),
        training_tokens_per_s=store.training_tokens_per_s(),
        tokens_total=plan.tokens_total,
        memory_bytes=store.most_memory_bytes(),
        tariff=_json(booked_windows(energy_j, tariff_rows, settings.energy)),
        days=_json(_days(folder.id, store, settings)),
        checks=_json(_checks(store)),
        samples=_json(_first_and_last(store)),
        **_predicted(store),
        **_stored(run_storage(folder, state, share_done=(status.tokens or 0) / plan.tokens_total)),
    )


def run_storage(folder: RunFolder, state: RunState, *, share_done: float | None) -> StorageBook:
    """The storage book of a run. Raises: SettingsError, StoreError."""
    settings, store = folder.settings(), folder.open()
    try:
        plan = store.meta("plan", RunPlan)
    finally:
        store.close()
    return storage_book(
        folder.path,
        state,
        keep_checkpoints=settings.training.keep_checkpoints,
        share_done=share_done,
        weights_bytes=4 * plan.shape.parameters,
        cloud=settings.cloud,
    )


def _json(facts: Any) -> str:
    return msgspec.json.encode(facts).decode()


def _checks(store: RunStore) -> tuple[Check, ...]:
    try:
        return store.meta("checks", tuple[Check, ...])
    except StoreError:  # a run of before the checks were kept
        return ()


def _days(run_id: str, store: RunStore, settings: Settings) -> list[DayLine]:
    incidents = store.rows(EventRow, "WHERE level IN ('warning', 'error') ORDER BY rowid")
    return day_lines(
        run_id,
        store.minute_sums(_GAP_INTERVALS * settings.telemetry.interval_s),
        store.last_steps_by_day(),
        [row.at for row in store.rows(CheckpointRow)],
        [(row.at, row.kind) for row in incidents],
        lambda at: price_at(settings.energy, at),
    )


def _first_and_last(store: RunStore) -> list[TextSampleRow]:
    first = store.rows(TextSampleRow, "ORDER BY step LIMIT 1")
    last = store.rows(TextSampleRow, "ORDER BY step DESC LIMIT 1")
    return first + [row for row in last if row not in first]


def _predicted(store: RunStore) -> dict[str, Any]:
    try:
        found = store.meta("estimate", Prediction)
    except StoreError:  # a run of before predictions were kept
        return {}
    return {
        "predicted_memory_bytes": found.memory_bytes,
        "predicted_hours": found.hours,
        "predicted_gpu_kwh": found.gpu_kwh,
        "predicted_machine_kwh": found.machine_kwh,
        "predicted_cost": found.cost,
        "predicted_basis": found.basis,
    }


def _stored(book: StorageBook) -> dict[str, Any]:
    return {
        "storage_bytes": book.run_bytes,
        "corpus_bytes": book.corpus_bytes,
        "shards_bytes": book.shards_bytes,
        "checkpoints_bytes": book.checkpoints_bytes,
        "model_bytes": book.model_bytes,
        "database_bytes": book.database_bytes,
    }


def close_books(folder: RunFolder, store: RunStore, state: RunState) -> list[str]:
    """Enter the run in the ledger and in TRAINING.md; what could not be written, in sentences."""
    problems = []
    try:
        if told := enter(folder, store, state):
            problems.append(told)
    except EngineError as error:
        problems.append(str(error))
    try:
        report(folder.workspace)
    except EngineError as error:
        problems.append(str(error))
    return problems


def enter(folder: RunFolder, store: RunStore, state: RunState) -> str | None:
    """Enter the run in the ledger; where that was damaged, what making it anew has kept, in a sentence.

    Raises: StoreError where it cannot be written.
    """
    book, entry = LedgerBook(folder.workspace), ledger_entry(folder, store, state)
    try:
        book.record(entry)
    except DamagedStoreError:
        told = book.begin_anew()
        book.record(entry)
        return told
    return None


def report(workspace: Path) -> Path:
    """Rewrite the generated part of the workspace's TRAINING.md from the ledger.

    Raises: EngineError where the markers are damaged or the ledger cannot be read; nothing is written then.
    """
    path = workspace / REPORT_NAME
    _book_forgotten(workspace)
    update(path, report_text(workspace))
    return path


def _book_forgotten(workspace: Path) -> None:
    """Enter runs that are over and that the ledger does not know: it was damaged then, or was moved aside since."""
    book = LedgerBook(workspace)
    known = {entry.run_id for entry in book.entries()}
    for folder in reversed(all_runs(workspace)):
        if folder.id in known or folder.is_supervised:
            continue
        with contextlib.suppress(EngineError), contextlib.closing(folder.open()) as store:
            newest = store.state()
            if newest and RunState(newest.state).is_over and store.newest(StepRow, "step"):
                book.record(ledger_entry(folder, store, RunState(newest.state)))


def report_text(workspace: Path) -> str:
    """The generated part of TRAINING.md, whether it can be written or not. Raises: StoreError."""
    return render(LedgerBook(workspace).entries())


class Scribe:
    """Keeps the books at every checkpoint, in a thread of its own: whoever calls `look` goes on at once."""

    def __init__(self, folder: RunFolder, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._seen_step: int | None = None
        self._told: set[str] = set()
        self._problems: list[str] = []
        self._damage: DamagedStoreError | None = None
        self._thread: threading.Thread | None = None

    def look(self, newest: CheckpointRow | None) -> None:
        """Write the books where there is a checkpoint that they do not know; tell each new problem once.

        Raises: DamagedStoreError where the run's store turned out to be bad.

        The first checkpoint that is seen of a run that goes on was booked as its former life ended.
        """
        if self._damage is not None:
            raise self._damage
        for problem in self._problems:
            if problem not in self._told:
                self._told.add(problem)
                self._tell(problem)
        self._problems = []
        step = newest.step if newest else 0
        if self._seen_step is None:
            self._seen_step = step
        if step == self._seen_step or (self._thread and self._thread.is_alive()):
            return
        self._seen_step = step
        self._thread = threading.Thread(target=self._write, name="books", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for a writing that has begun, so that the last entry is the last."""
        if self._thread:
            self._thread.join(timeout=30.0)

    def _write(self) -> None:
        try:
            with contextlib.closing(self._folder.open()) as store:
                newest = store.state()
                state = RunState(newest.state) if newest else RunState.PREPARING
                self._problems = close_books(self._folder, store, state)
                self._folder.keep_facts(store)
        except DamagedStoreError as error:
            self._damage = error
        except (EngineError, OSError, BusyError) as error:
            self._problems = [str(error)]
