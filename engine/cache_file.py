"""Lists of records that a workspace keeps as JSON: found anew where they are lost, so that damage costs only time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from engine import atomic

Record = TypeVar("Record", bound=msgspec.Struct)


def load(path: Path, kind: type[Record]) -> list[Record]:
    """What is kept, oldest first; nothing where the file is absent or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[kind])  # type: ignore[valid-type]
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return []


def keep(path: Path, records: Sequence[msgspec.Struct]) -> None:
    """Write them in place of what was kept. Raises: OSError where the workspace cannot be written."""
    atomic.make_private(path.parent)
    atomic.write_bytes(path, msgspec.json.format(msgspec.json.encode(records), indent=1) + b"\n")
