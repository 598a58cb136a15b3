"""The one door to SQLite: opening, durability, and rows that are records.

A table is a `msgspec.Struct`: its columns are the fields, so that a column and its query cannot drift apart.
"""

from __future__ import annotations

import sqlite3
import types
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import StoreError

Row = TypeVar("Row", bound=msgspec.Struct)

BusyError = sqlite3.OperationalError
"""What a write raises when another process holds the lock for longer than `busy_ms`, or the disk is full."""

DamageError = sqlite3.DatabaseError
"""What a write raises when the file itself is damaged; `BusyError` is one of its kinds."""

_COLUMN_TYPES: dict[type, str] = {int: "INTEGER", bool: "INTEGER", float: "REAL", str: "TEXT"}


class Table(msgspec.Struct, frozen=True):
    """One table: its name, the record of its rows, and its key."""

    name: str
    record: type[msgspec.Struct]
    key: str | None = None
    """The primary key; None: rows are only appended, in the order of an implied `rowid`."""

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
            key = " PRIMARY KEY" if column == self.key else ""
            parts.append(f"{column} {kind}{'' if is_optional else ' NOT NULL'}{key}")
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(parts)})"


def _column_type(hint: Any) -> tuple[str, bool]:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [a for a in arguments if a is not type(None)]
        return _COLUMN_TYPES[inner[0]], len(inner) < len(arguments)
    if typing.get_origin(hint) is typing.Literal:
        return "TEXT", False
    return _COLUMN_TYPES[hint], False


class Database:
    """A connection to one SQLite file in WAL mode, for one thread.

    Raises: StoreError where the file cannot be opened or is not a database.
    """

    def __init__(
        self, path: Path, tables: Iterable[Table], *, read_only: bool = False, busy_ms: int = 2000
    ) -> None:
        self.path = path
        self._tables = {table.record: table for table in tables}
        try:
            self._connection = self._connect(read_only, busy_ms)
        except sqlite3.Error as error:
            raise StoreError(
                f"{path} cannot be opened: {error}",
                "If it is damaged, move it aside; a run goes on from its checkpoints without it.",
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
        for table in self._tables.values():
            connection.execute(table.ddl())
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
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def put(self, row: msgspec.Struct) -> int:
        """Insert a row, replacing the one with the same key; the answer is its rowid."""
        table = self._tables[type(row)]
        marks = ", ".join("?" * len(table.columns))
        values = tuple(getattr(row, column) for column in table.columns)
        cursor = self._connection.execute(
            f"INSERT OR REPLACE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})", values
        )
        return int(cursor.lastrowid or 0)

    def rows(self, record: type[Row], tail: str = "", parameters: tuple[Any, ...] = ()) -> list[Row]:
        """The rows of a table; `tail` is what follows FROM (WHERE, ORDER BY, LIMIT), with `?` for parameters."""
        table = self._tables[record]
        found = self.query(f"SELECT {', '.join(table.columns)} FROM {table.name} {tail}", parameters)
        return [
            msgspec.convert(dict(zip(table.columns, row, strict=True)), record, strict=False) for row in found
        ]

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
            raise StoreError(
                f"{self.path} cannot be read: {error}", "Restore it, or move it aside."
            ) from error
