"""`ledger.db`: what every run of a workspace cost, kept when the run's folder is gone.

Entries are only appended. Each carries the SHA-256 of its own content and of the entry before it, so that a
changed, damaged or missing entry is found and named. Money is kept as whole millionths of the currency's unit.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import math
import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import DamagedStoreError, StoreError
from engine.records import LedgerEntry
from engine.sqlite import BusyError, DamageError, Database, Table, move_aside, name_aside

FILE_NAME = "ledger.db"
MICRO_PER_UNIT = 1_000_000
_FIRST_PREVIOUS = "0" * 64
_MOVE_ASIDE = (
    "Nothing was changed. Move ledger.db aside, with its -wal and -shm files, or restore a backup of it; "
    "the next run that ends begins a new one."
)
_LET_MOVE = (
    "Nothing was changed. Restore a backup of it; or go on, for the next entry moves it aside and begins a "
    "new one from what can be read."
)


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as it is stored."""

    sequence: int
    """From 1, without gaps."""
    run_id: str
    at: float
    currency: str
    cost_micro: int | None
    """Millionths of the currency's unit; None: unknown."""
    price_micro: int
    """Of a kilowatt-hour, likewise."""
    gpu_energy_j: float | None
    machine_energy_j: float | None
    facts: str
    """JSON object with the other fields of the `LedgerEntry`."""
    previous_sha256: str
    """The checksum of the entry before; zeros for the first."""
    sha256: str
    """Of the JSON array of all other columns, in order."""

    def checksum(self) -> str:
        """What `sha256` has to be."""
        columns = [getattr(self, name) for name in self.__struct_fields__ if name != "sha256"]
        return hashlib.sha256(msgspec.json.encode(columns)).hexdigest()

    def entry(self) -> LedgerEntry:
        """The record that was entered. Raises: msgspec.MsgspecError where `facts` is damaged."""
        facts = msgspec.json.decode(self.facts, type=dict[str, Any])
        for name in _MONEY_FACTS:
            micro = facts.pop(f"{name}_micro", None)
            facts[name] = None if micro is None else msgspec.convert(micro, int) / MICRO_PER_UNIT
        cost = None if self.cost_micro is None else self.cost_micro / MICRO_PER_UNIT
        own = {name: getattr(self, name) for name in _OWN_COLUMNS}
        price = self.price_micro / MICRO_PER_UNIT
        return msgspec.convert({**facts, **own, "cost": cost, "price_per_kwh": price}, LedgerEntry)


_OWN_COLUMNS = ("run_id", "at", "currency", "gpu_energy_j", "machine_energy_j")
_MONEY_FACTS = ("predicted_cost",)
"""Amounts among the other fields: kept in `facts` as `…_micro`, whole millionths like all money."""
_TABLE = Table("entry", LedgerRow, "sequence")


class LedgerBook:
    """The ledger of a workspace; each call opens it and lets go of it.

    Every method raises StoreError, with a remedy, where the file is damaged, empty, locked or cannot be written;
    it is never overwritten then. A DamagedStoreError is what `begin_anew` is for; a single bad entry is none.
    """

    def __init__(self, workspace: Path, *, busy_ms: int = 5000) -> None:
        self.path = workspace / FILE_NAME
        self._busy_ms = busy_ms

    def record(self, entry: LedgerEntry) -> bool:
        """Append an entry; False where the run's newest one says the same, whatever its `at`.

        An older damaged entry does not keep a new one out.
        """
        entry = _storable(entry)
        self._create()
        with self._open(read_only=False) as database, database.transaction():
            if _newest(database, entry) == msgspec.structs.replace(entry, at=0.0):
                return False
            last = database.query("SELECT sequence, sha256 FROM entry ORDER BY sequence DESC LIMIT 1")
            sequence, previous_sha256 = last[0] if last else (0, _FIRST_PREVIOUS)
            database.put(_row(entry, int(sequence) + 1, str(previous_sha256)))
        return True

    def begin_anew(self) -> str | None:
        """Move a damaged ledger aside and begin another with its good entries; what that kept, in a sentence.

        None: the ledger is sound. Each entry's own checksum says whether it is good; they are chained anew.
        """
        with _alone(self.path.parent):
            why = self._find_damage()
            if why is None:
                return None
            kept, lost = self._salvage()
            aside, new = name_aside(self.path), self._hidden()
            try:
                self._make(new, kept)
                move_aside(self.path, aside)
                self._put_in_place(new)
            finally:
                new.unlink(missing_ok=True)
        losses = "The others are lost." if lost else "Those are all."
        return (
            f"The ledger was begun anew: {why.rstrip('.')}. The old file is {aside.name}. "
            f"Of its entries {len(kept):,} could be read. {losses}"
        )

    def _find_damage(self) -> str | None:
        """What is wrong with the file itself. Raises: StoreError where that cannot be told now."""
        try:
            if not self._is_there():
                return None
            with self._open(read_only=False) as database:
                said = str(database.query("PRAGMA quick_check(1)")[0][0])
        except DamagedStoreError as error:
            return error.title
        return None if said == "ok" else f"{self.path} is damaged: {said}"

    def _salvage(self) -> tuple[list[LedgerRow], bool]:
        """The good entries, in their order, and whether there were others."""
        lost: set[str] = set()
        try:
            with self._open(read_only=True) as database:
                found = list(database.salvage(LedgerRow, lost))
        except StoreError:
            return [], True
        good = [row for row in found if row.sha256 == row.checksum()]
        return good, bool(lost) or not good or len(good) < len(found)

    def entries(self) -> list[LedgerEntry]:
        """The newest entry of every run, in the order in which the runs were started; empty without a ledger."""
        newest = {entry.run_id: entry for entry in self._all()}
        return sorted(newest.values(), key=lambda entry: (entry.started_at, entry.run_id))

    def history(self, run_id: str) -> list[LedgerEntry]:
        """Every entry of one run, oldest first; each has the figures from the run's very start."""
        return [entry for entry in self._all() if entry.run_id == run_id]

    def verify(self) -> int:
        """Check every checksum and the chain; the answer is how many entries there are.

        Raises: StoreError that names the first bad entry.
        """
        return len(self._all())

    def _all(self) -> list[LedgerEntry]:
        if not self._is_there():
            return []
        with self._open(read_only=True) as database:
            previous, found = _FIRST_PREVIOUS, []
            for expected, (row, entry) in enumerate(self._rows(database), start=1):
                sequence = row.sequence
                if sequence != expected:
                    raise StoreError(f"{self.path}: entry {expected} is missing.", _MOVE_ASIDE)
                if row.previous_sha256 != previous or row.sha256 != row.checksum():
                    name = ascii(row.run_id)[1:-1]
                    raise StoreError(
                        f"{self.path}: entry {sequence} (run {name}) is damaged or was changed: its checksum "
                        "does not match.",
                        _MOVE_ASIDE,
                    )
                previous = row.sha256
                found.append(entry)
        return found

    def _rows(self, database: Database) -> Iterator[tuple[LedgerRow, LedgerEntry]]:
        """Every entry, in one go where all can be read; else one by one, so that the first bad one is named."""
        try:
            rows = database.rows(LedgerRow, "ORDER BY sequence")
            yield from [(row, row.entry()) for row in rows]
        except (StoreError, msgspec.MsgspecError):
            for (sequence,) in database.query("SELECT sequence FROM entry ORDER BY sequence"):
                yield self._read(database, int(sequence))

    def _read(self, database: Database, sequence: int) -> tuple[LedgerRow, LedgerEntry]:
        try:
            row = database.rows(LedgerRow, "WHERE sequence = ?", (sequence,))[0]
            return row, row.entry()
        except (StoreError, msgspec.MsgspecError, IndexError) as error:
            raise StoreError(f"{self.path}: entry {sequence} is damaged: {error}", _MOVE_ASIDE) from error

    def _is_there(self) -> bool:
        """Whether there is a ledger. Raises: StoreError where what is there cannot be one."""
        try:
            num_bytes = self.path.stat().st_size
        except FileNotFoundError:
            leftover = self.path.with_name(f"{FILE_NAME}-wal")
            # Another process may have made both in between.
            if leftover.exists() and leftover.stat().st_size and not self.path.exists():
                raise DamagedStoreError(
                    f"{self.path} is gone, but {leftover.name} with its newest entries is there.", _LET_MOVE
                ) from None
            return False
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error}", "Make the folder readable.") from error
        if num_bytes == 0:
            raise DamagedStoreError(f"{self.path} is empty: its content was lost.", _LET_MOVE)
        return True

    def _create(self) -> None:
        """Make an empty ledger where there is none, whole from its first moment on."""
        if self._is_there():
            return
        new = self._hidden()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._make(new, ())
            self._put_in_place(new)
        except FileExistsError:
            pass
        except (OSError, DamageError, StoreError) as error:
            reason = error.__cause__ or error
            raise StoreError(
                f"{self.path} cannot be made: {reason}", "Make the workspace writable."
            ) from error
        finally:
            new.unlink(missing_ok=True)

    def _hidden(self) -> Path:
        return self.path.with_name(f".{FILE_NAME}.{secrets.token_hex(4)}")

    def _make(self, path: Path, rows: Iterable[LedgerRow]) -> None:
        """Write a whole ledger, with each entry chained to the one before it."""
        previous, chained = _FIRST_PREVIOUS, []
        for sequence, row in enumerate(rows, start=1):
            moved = msgspec.structs.replace(row, sequence=sequence, previous_sha256=previous)
            chained.append(msgspec.structs.replace(moved, sha256=moved.checksum()))
            previous = chained[-1].sha256
        with closing(Database(path, [_TABLE])) as database, database.transaction():
            database.put_all(chained)

    def _put_in_place(self, new: Path) -> None:
        # A link, unlike a rename, never replaces a ledger that another process made meanwhile.
        try:
            os.link(new, self.path)
        except PermissionError:  # EPERM: a file system without links (FAT, exFAT); link(2)
            if not self.path.exists():
                new.rename(self.path)

    @contextmanager
    def _open(self, *, read_only: bool) -> Iterator[Database]:
        try:
            database = Database(self.path, [_TABLE], read_only=read_only, busy_ms=self._busy_ms)
            with closing(database):
                if not read_only:
                    # An entry is written once a run: it may take a sync to be there after a power cut.
                    database.query("PRAGMA synchronous=FULL")
                yield database
        except BusyError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error}",
                "Nothing was lost. Free some disk, make the file writable, or end what holds it; then run "
                "`llm-tui report`.",
            ) from error
        except DamageError as error:
            raise DamagedStoreError(f"{self.path} is damaged: {error}", _LET_MOVE) from error
        except DamagedStoreError as error:
            raise DamagedStoreError(error.title, _LET_MOVE) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else moves a ledger of this folder meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error}", "Make the folder readable.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except (OSError, DamageError) as error:
        raise StoreError(
            f"{folder / FILE_NAME} cannot be made anew: {error}",
            "Nothing was lost. Free some disk, or make the folder writable; then run `llm-tui report`.",
        ) from error
    finally:
        os.close(descriptor)


def _newest(database: Database, entry: LedgerEntry) -> LedgerEntry | None:
    """The run's newest entry with its `at` set to 0; None where there is none that can be read."""
    try:
        row = database.row(LedgerRow, "WHERE run_id = ? ORDER BY sequence DESC", (entry.run_id,))
        return None if row is None else msgspec.structs.replace(row.entry(), at=0.0)
    except (StoreError, msgspec.MsgspecError):
        return None


def _row(entry: LedgerEntry, sequence: int, previous_sha256: str) -> LedgerRow:
    stored_apart = (*_OWN_COLUMNS, "cost", "price_per_kwh")
    facts = {name: getattr(entry, name) for name in entry.__struct_fields__ if name not in stored_apart}
    for name in _MONEY_FACTS:
        facts[f"{name}_micro"] = _micro(facts.pop(name))
    row = LedgerRow(
        sequence=sequence,
        run_id=entry.run_id,
        at=entry.at,
        currency=entry.currency,
        cost_micro=_micro(entry.cost),
        price_micro=_micro(entry.price_per_kwh) or 0,
        gpu_energy_j=entry.gpu_energy_j,
        machine_energy_j=entry.machine_energy_j,
        facts=msgspec.json.encode(facts).decode(),
        previous_sha256=previous_sha256,
        sha256="",
    )
    return msgspec.structs.replace(row, sha256=row.checksum())


def _micro(amount: float | None) -> int | None:
    return None if amount is None else int((Decimal(str(amount)) * MICRO_PER_UNIT).to_integral_value())


def _storable(entry: LedgerEntry) -> LedgerEntry:
    """The entry as it will come back: no lone surrogates, no NaN, money in whole millionths.

    Raises: StoreError where a figure that every entry needs is not finite.
    """
    changes: dict[str, Any] = {}
    for field in msgspec.structs.fields(LedgerEntry):
        value = getattr(entry, field.name)
        if isinstance(value, str):
            changes[field.name] = value.encode("utf-8", "replace").decode("utf-8")
        elif isinstance(value, float) and not math.isfinite(value):
            if field.name in ("at", "started_at", "elapsed_s", "gap_s", "price_per_kwh"):
                raise StoreError(
                    f"An entry with {field.name} = {value} cannot be kept.", "Enter the run again."
                )
            changes[field.name] = None
        elif isinstance(value, int) and field.name in _FLOATS:
            changes[field.name] = float(value)
    for name in ("cost", "price_per_kwh", *_MONEY_FACTS):
        micro = _micro(changes.get(name, getattr(entry, name)))
        changes[name] = None if micro is None else micro / MICRO_PER_UNIT
    return msgspec.structs.replace(entry, **changes)


_FLOATS = {field.name for field in msgspec.structs.fields(LedgerEntry) if "float" in str(field.type)}


def to_json(entries: Sequence[LedgerEntry]) -> str:
    """The entries as a JSON array of objects with every field; unknown is null."""
    return msgspec.json.format(msgspec.json.encode(list(entries)), indent=2).decode()


def to_csv(entries: Sequence[LedgerEntry]) -> str:
    """The entries as CSV with a header and every field; unknown is empty.

    Control characters become U+FFFD, and a text that a spreadsheet would take for a formula gets a quote before it.
    """
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    names = LedgerEntry.__struct_fields__
    writer.writerow(names)
    for entry in entries:
        writer.writerow([_cell(getattr(entry, name)) for name in names])
    return output.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    text = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
