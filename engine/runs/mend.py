"""Making `run.db` anew where it is damaged, gone, or held so that it only grows.

What can be read of the old one is copied; the facts of the run lie beside it in facts.json as well, the training
itself in its checkpoints, and what it had cost in the ledger. The old file is moved aside, never overwritten.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import msgspec

from engine import atomic
from engine.bill import BookedWindow
from engine.errors import DamagedStoreError, EngineError, StoreError
from engine.ledger.book import LedgerBook
from engine.ledger.tariff import rows_of
from engine.records import EnergyRow, LedgerEntry, MinuteRow, Origin, RunPlan
from engine.runs.events import event
from engine.runs.folder import RunFolder
from engine.runs.lock import Lock
from engine.runs.tables import TABLES, MetaRow
from engine.sqlite import DamageError, Database, move_aside, name_aside

_ROWS_A_TIME = 10_000
_NEW_NAME = ".run.db.new"
_SUFFIXES = ("", "-wal", "-shm")
_MADE_ANEW = frozenset(("rolled_minutes",))
"""Facts about tables that are not copied."""


def find_damage(folder: RunFolder) -> str | None:
    """What is wrong with a run's store that nobody uses now; None: it can be used.

    Raises: StoreError where that cannot be told now, as where it is locked or may not be read.
    """
    if not folder.store_path.exists():
        return "it is gone"
    try:
        with contextlib.closing(folder.open()) as store:
            if found := store.find_damage():
                return found
            return None if store.find_meta("plan", RunPlan) else "its plan is gone"
    except DamagedStoreError as error:
        return error.title


def mend_where_nobody_does(folder: RunFolder) -> None:
    """Make a damaged store anew, unless a supervisor is alive, which does so itself.

    Raises: StoreError where the run's plan is lost.
    """
    lock = Lock(folder.supervisor_lock)
    if lock.acquire(str(os.getpid()), timeout_s=0.0):
        try:
            if damage := find_damage(folder):
                mend(folder, damage)
        finally:
            lock.release()


def mend(folder: RunFolder, why: str, old: Database | None = None) -> str:
    """Make a run's store anew; the answer is what that kept, in a sentence, which the run's events tell too.

    `old` is a connection that still reaches the old content, where one is open; it is closed. None: what lies at the
    path is opened. Nobody else may use the store meanwhile. Raises: StoreError where the run's plan is lost.
    """
    path, new_path = folder.store_path, folder.path / _NEW_NAME
    if not path.exists() and old is None and new_path.exists():
        move_aside(path, name_aside(path))
        new_path.rename(path)  # whoever made it was killed in between
        return f"run.db was made anew: {why}."
    aside, is_there = name_aside(path), path.exists()
    source = old or _opened(path)
    lost: set[str] = set()
    _remove(new_path)
    new = Database(new_path, TABLES)
    try:
        facts = _facts(folder, source, lost)
        if "plan" not in facts:
            raise StoreError(
                f"{path} is damaged ({why}), and the run's plan is lost with it.",
                f"Its checkpoints are in {folder.checkpoints}; start a new run.",
            )
        counts = _copy(source, new, lost)
        _forget_unknown_attempts(facts, new)
        if not counts.get("energy"):
            counts["energy"] = _copy_energy(folder, new)
        text = _told(why, aside if is_there else None, counts, lost)
        with new.transaction():
            new.put_all(MetaRow(key=key, value=value) for key, value in facts.items())
            new.put(event("warning", "store-mended", text))
    except DamageError as error:
        raise StoreError(f"{path} cannot be made anew: {error}", "Free some disk; then resume.") from error
    finally:
        new.close()
        if source is not None:
            with contextlib.suppress(DamageError):
                source.close()
    move_aside(path, aside)
    new_path.rename(path)
    atomic.fsync_folder(folder.path)
    return text


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _opened(path: Path) -> Database | None:
    """A connection to a store that nobody uses; None: nothing of it can be read."""
    if not path.exists():
        return None
    try:
        return Database(path, TABLES, read_only=True)
    except StoreError:
        return None


def _facts(folder: RunFolder, source: Database | None, lost: set[str]) -> dict[str, str]:
    """Every fact as JSON: as it was kept beside the store, and over it what the old store still says."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        kept = msgspec.json.decode(folder.facts_path.read_bytes(), type=dict[str, msgspec.Raw])
        facts = {key: bytes(value).decode() for key, value in kept.items()}
    for row in source.salvage(MetaRow, lost) if source else ():
        with contextlib.suppress(msgspec.MsgspecError):
            msgspec.json.decode(row.value)
            facts[row.key] = row.value
    return {key: value for key, value in facts.items() if key not in _MADE_ANEW}


def _copy(source: Database | None, new: Database, lost: set[str]) -> dict[str, int]:
    """Copy what can be read of every table; how many rows of each."""
    counts: dict[str, int] = {}
    if source is None:
        return counts
    for table in TABLES:
        if table.record in (MetaRow, MinuteRow):
            continue
        rows = source.salvage(table.record, lost)
        while some := list(itertools.islice(rows, _ROWS_A_TIME)):
            with new.transaction():
                new.put_all(some)
            counts[table.name] = counts.get(table.name, 0) + len(some)
    return counts


def _forget_unknown_attempts(facts: dict[str, str], new: Database) -> None:
    """Where the newest starts of the trainer are lost their numbers are given again: nothing may go by them."""
    ((newest,),) = new.query("SELECT coalesce(max(attempt), 0) FROM attempt")
    with contextlib.suppress(KeyError, msgspec.MsgspecError):
        if msgspec.json.decode(facts["origin"], type=Origin).attempt <= newest:
            return
    for name in ("origin", "origins"):
        facts.pop(name, None)


def _copy_energy(folder: RunFolder, new: Database) -> int:
    """Enter what the run had used by its newest entry in the ledger; the number of rows."""
    try:
        history: list[LedgerEntry] = LedgerBook(folder.workspace).history(folder.id)
    except EngineError:
        return 0
    if not history:
        return 0
    entry = history[-1]
    new.put(
        EnergyRow(
            segment=1,
            at=entry.at,
            elapsed_s=entry.elapsed_s,
            covered_s=max(0.0, entry.elapsed_s - entry.gap_s),
            gpu_j=entry.gpu_energy_j,
            machine_j=entry.machine_energy_j,
            machine_source=entry.energy_source,
            gap_s=entry.gap_s,
        )
    )
    with contextlib.suppress(EngineError, msgspec.MsgspecError):
        booked = msgspec.json.decode(entry.tariff, type=list[BookedWindow])
        new.put_all(rows_of(booked, folder.settings().energy, segment=1))
    return 1


def _told(why: str, aside: Path | None, counts: dict[str, int], lost: set[str]) -> str:
    kept = ", ".join(
        f"{counts[name]:,} rows of {words}" for name, words in _WORDS.items() if counts.get(name)
    )
    losses = "all else that it held" if not counts else ", ".join(sorted(lost)) or "nothing that can be told"
    where = f" The old file is {aside.name}." if aside else ""
    return (
        f"run.db was made anew: {why.rstrip('.')}.{where} Kept: {kept or 'the plan'}. "
        f"Lost, whole or in part: {losses}."
    )


_WORDS = {
    "step": "steps",
    "checkpoint": "checkpoints",
    "energy": "energy",
    "reading": "sensors",
    "event": "events",
}
