"""The one door to SQLite: opening, durability, and rows that are records.

A table is a `msgspec.Struct`: its columns are the fields, so that a column and its query cannot drift apart. A table
that grows by a row a second may keep its figures as whole numbers of a small unit, and its texts once each.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import DamagedStoreError, StoreError

Row = TypeVar("Row", bound=msgspec.Struct)

BusyError = sqlite3.OperationalError
"""What a write raises when another process holds the lock for longer than `busy_ms`, or the disk is full."""

DamageError = sqlite3.DatabaseError
"""What a write raises when the file itself is damaged; `BusyError` is one of its kinds."""

_KEPT_LOG_BYTES = 16 << 20
"""What stays of a -wal file that a long read has let grow, once it is folded in."""
_DAMAGE_CODES = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
"""Source: sqlite.org/rescode.html; the low byte is the primary code."""

_COLUMN_TYPES: dict[type, str] = {int: "INTEGER", bool: "INTEGER", float: "REAL", str: "TEXT"}


class Table(msgspec.Struct, frozen=True):
    """One table: its name, the record of its rows, and its key."""

    name: str
    record: type[msgspec.Struct]
    key: str | None = None
    """The primary key; None: rows are only appended, in the order of an implied `rowid`."""
    per_unit: dict[str, float] = {}
    """Columns that are kept as whole numbers, of which so many make one of the field's unit: 10 keeps tenths."""
    worded: frozenset[str] = frozenset()
    """Text columns of few different values: each text is kept once, and its number in the row."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The record's fields."""
        return self.record.__struct_fields__

    def ddl(self) -> str:
        """The CREATE TABLE statement."""
        hints = typing.get_type_hints(self.record)
        parts = []
        for column in self.columns:
            kind, is_optional = _column_type(hints[column])
            if column in self.per_unit or column in self.worded:
                kind = "INTEGER"
            key = " PRIMARY KEY" if column == self.key else ""
            parts.append(f"{column} {kind}{'' if is_optional else ' NOT NULL'}{key}")
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(parts)})"


def files_of(path: Path) -> dict[str, int]:
    """Which file is behind each name that SQLite has open for a store: their inodes."""
    found = {}
    for each in (path, _log_of(path)):
        with contextlib.suppress(OSError):
            found[each.name] = each.stat().st_ino
    return found


def log_bytes(path: Path) -> int:
    """Bytes of what is written and not yet folded into a store; a reader that stays holds it there."""
    try:
        return _log_of(path).stat().st_size
    except OSError:
        return 0


def name_aside(path: Path) -> Path:
    """Where a store that is no good goes: the first number that none has."""
    names = (path.with_name(f"{path.name}.aside-{number}") for number in itertools.count(1))
    return next(name for name in names if not any(file.exists() for file in _files(name)))


def move_aside(path: Path, aside: Path) -> None:
    """Rename a store and what SQLite keeps beside it, as far as they are there.

    A log that is left behind by a store that is gone would be replayed into the next store of that name.
    """
    for file, to in zip(_files(path), _files(aside), strict=True):
        with contextlib.suppress(FileNotFoundError):
            file.rename(to)


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it is the file that is bad, and not the moment: what is locked or full may be well again."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGE_CODES


def _column_type(hint: Any) -> tuple[str, bool]:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [a for a in arguments if a is not type(None)]
        return _COLUMN_TYPES[inner[0]], len(inner) < len(arguments)
    if typing.get_origin(hint) is typing.Literal:
        return "TEXT", False
    return _COLUMN_TYPES[hint], False


def _is_optional(table: Table, column: str) -> bool:
    return _column_type(typing.get_type_hints(table.record)[column])[1]


def _insertion(table: Table) -> str:
    marks = ", ".join("?" * len(table.columns))
    return f"INSERT OR REPLACE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"


def _whole(value: float) -> int | None:
    """Rounded; what is no number, or beyond SQLite's, is unknown."""
    return round(value) if math.isfinite(value) and abs(value) < 2.0**63 else None


class Database:
    """A connection to one SQLite file in WAL mode, for one thread.

    Raises: StoreError where the file cannot be opened or is not a database.
    """

    def __init__(
        self, path: Path, tables: Iterable[Table], *, read_only: bool = False, busy_ms: int = 2000
    ) -> None:
        self.path = path
        self._tables = {table.record: table for table in tables}
        self._scales = {
            table.name: [(table.columns.index(name), per) for name, per in table.per_unit.items()]
            for table in self._tables.values()
        }
        self._worded = {
            table.name: [table.columns.index(name) for name in table.worded]
            for table in self._tables.values()
        }
        self._present: dict[str, frozenset[str]] = {}
        self._words: dict[int, str] = {}
        self._word_ids: dict[str, int] = {}
        try:
            self._connection = self._connect(read_only, busy_ms)
        except sqlite3.Error as error:
            kind = DamagedStoreError if is_damage(error) else StoreError
            raise kind(
                f"{path} cannot be opened: {error}",
                "Make it readable and writable; if it is damaged, put a copy of it in its place.",
            ) from error

    def _connect(self, read_only: bool, busy_ms: int) -> sqlite3.Connection:
        if read_only:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=busy_ms / 1000
            )
            connection.execute("SELECT count(*) FROM sqlite_master")
            return connection
        is_new = not self.path.exists()
        connection = sqlite3.connect(self.path, timeout=busy_ms / 1000, isolation_level=None)
        if is_new:
            self.path.chmod(0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA journal_size_limit={_KEPT_LOG_BYTES}")
        if any(table.worded for table in self._tables.values()):
            connection.execute(
                "CREATE TABLE IF NOT EXISTS word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)"
            )
        for table in self._tables.values():
            connection.execute(table.ddl())
            present = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
            for column in table.columns:  # a file that an older version made
                if column not in present and _is_optional(table, column):
                    connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {column}")
        return connection

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's writes, or none.

        Raises: BusyError where another process holds the lock for longer than `busy_ms`.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has rolled it back already
                self._connection.execute("ROLLBACK")
            self._word_ids.clear()  # some may have been given in vain
            self._words.clear()
            raise

    def put(self, row: msgspec.Struct) -> int:
        """Insert a row, replacing the one with the same key; the answer is its rowid."""
        table = self._tables[type(row)]
        cursor = self._connection.execute(_insertion(table), self._encoded(table, row))
        return int(cursor.lastrowid or 0)

    def put_all(self, rows: Iterable[msgspec.Struct]) -> None:
        """`put` many rows, in their order."""
        for record, group in itertools.groupby(rows, type):
            table = self._tables[record]
            self._connection.executemany(_insertion(table), (self._encoded(table, row) for row in group))

    def _encoded(self, table: Table, row: msgspec.Struct) -> Sequence[Any]:
        values: Sequence[Any] = msgspec.structs.astuple(row)
        if not table.per_unit and not table.worded:
            return values
        values = list(values)
        for index, per in self._scales[table.name]:
            if values[index] is not None:
                values[index] = _whole(values[index] * per)
        for index in self._worded[table.name]:
            if values[index] is not None:
                values[index] = self._word_ids.get(values[index]) or self.word_id(values[index])
        return values

    def word_id(self, text: str) -> int:
        """The number of a text, given now where it has none; to be asked within a transaction."""
        number = self._word_ids.get(text)
        if number is None:
            self._connection.execute("INSERT OR IGNORE INTO word (text) VALUES (?)", (text,))
            number = self.find_word_id(text) or 0
        return number

    def find_word_id(self, text: str) -> int | None:
        """The number of a text; None where it has none."""
        if text not in self._word_ids:
            found = self.query("SELECT id FROM word WHERE text = ?", (text,))
            if not found:
                return None
            self._word_ids[text] = found[0][0]
        return self._word_ids[text]

    def _word(self, number: int) -> str | None:
        if number not in self._words:
            self._words.update(self.query("SELECT id, text FROM word"))
        return self._words.get(number)

    def columns_of(self, record: type[msgspec.Struct]) -> list[str]:
        """The columns that this file has for a record's fields; empty: it was made before there was such a table."""
        table = self._tables[record]
        present = self._present.get(table.name)
        if present is None:
            present = frozenset(row[1] for row in self.query(f"PRAGMA table_info({table.name})"))
            if present:
                self._present[table.name] = present
        return [column for column in table.columns if column in present]

    def rows(self, record: type[Row], tail: str = "", parameters: tuple[Any, ...] = ()) -> list[Row]:
        """The rows of a table; `tail` is what follows FROM (WHERE, ORDER BY, LIMIT), with `?` for parameters.

        A file that is older than the table has none; fields that it does not know have their default.
        """
        table, columns = self._tables[record], self.columns_of(record)
        if not columns:
            return []
        found = self.query(f"SELECT {', '.join(columns)} FROM {table.name} {tail}", parameters)
        try:
            return [
                msgspec.convert(self._decoded(table, columns, row), record, strict=False) for row in found
            ]
        except (msgspec.ValidationError, TypeError) as error:
            raise DamagedStoreError(
                f"{self.path}: a row of {table.name} is damaged: {error}", "Restore it, or move it aside."
            ) from error

    def _decoded(self, table: Table, columns: list[str], row: tuple[Any, ...]) -> dict[str, Any]:
        values = dict(zip(columns, row, strict=True))
        for column, per in table.per_unit.items():
            if values.get(column) is not None:
                values[column] /= per
        for column in table.worded:
            if values.get(column) is not None:
                values[column] = self._word(values[column])
        return values

    def row(self, record: type[Row], tail: str = "", parameters: tuple[Any, ...] = ()) -> Row | None:
        """The first of `rows`, None where there is none."""
        found = self.rows(record, f"{tail} LIMIT 1", parameters)
        return found[0] if found else None

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement.

        Raises: StoreError where the file is damaged.
        """
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            kind = DamagedStoreError if is_damage(error) else StoreError
            raise kind(f"{self.path} cannot be read: {error}", "Restore it, or move it aside.") from error

    def find_damage(self) -> str | None:
        """What is wrong with the file's structure, in SQLite's words; None: nothing that it can tell.

        Source: sqlite.org/pragma.html, quick_check. A value that was changed within its row is not seen.
        """
        try:
            ((found,),) = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.DatabaseError as error:
            return str(error) if is_damage(error) else None
        return None if found == "ok" else " ".join(str(found).split())

    def salvage(self, record: type[Row], lost: set[str]) -> Iterator[Row]:
        """The rows of a table that can still be read, from both of its ends, in their order.

        The table's name is added to `lost` where these are not all.
        """
        table, last = self._tables[record], -1
        try:
            for number, row in self._readable(table, "ORDER BY rowid", lost):
                last = number
                yield msgspec.convert(row, record, strict=False)
            return
        except (sqlite3.DatabaseError, StoreError):
            lost.add(table.name)
        behind = []
        with contextlib.suppress(sqlite3.DatabaseError, StoreError):
            for _, row in self._readable(table, f"WHERE rowid > {last} ORDER BY rowid DESC", lost):
                behind.append(msgspec.convert(row, record, strict=False))
        yield from reversed(behind)

    def _readable(self, table: Table, tail: str, lost: set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Row numbers and rows that fit the table's record; one that does not is lost."""
        columns = self.columns_of(table.record)
        if not columns:
            return
        for number, *row in self._connection.execute(
            f"SELECT rowid, {', '.join(columns)} FROM {table.name} {tail}"
        ):
            try:
                values = self._decoded(table, columns, tuple(row))
                msgspec.convert(values, table.record, strict=False)
                yield number, values
            except (msgspec.ValidationError, TypeError):
                lost.add(table.name)
