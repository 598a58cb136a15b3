"""What one preflight leaves for the next: its verdicts, the memory that was free at first, what is slow to find out.

It is a cache: absent, damaged or unwritable, everything is found anew.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from engine import atomic
from engine.records import Check

FILE_NAME = "preflight.json"
FRESH_S = 60.0
"""A verdict that is older is made anew."""
SESSION_S = 1800.0
"""How long the free memory of the first look counts as what was there before."""


class FirstLook(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU's free memory when it was first looked at."""

    identity: str
    free_bytes: int
    at: float


class SlowVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that takes long to find, or that a person notices, and for what it was found."""

    key: str
    """Differs where anything does that could change the verdict."""
    check: Check
    at: float


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept."""

    checks: tuple[Check, ...] = ()
    first_look: FirstLook | None = None
    slow: dict[str, SlowVerdict] = {}
    """By the check's id."""


def path_of(workspace: Path) -> Path:
    """Where a workspace keeps it."""
    return workspace / "cache" / FILE_NAME


def load(workspace: Path) -> Kept:
    """What is kept; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(path_of(workspace).read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return Kept()


def keep(workspace: Path, kept: Kept) -> None:
    """Write it; a workspace that cannot be written goes without."""
    path = path_of(workspace)
    with contextlib.suppress(OSError):
        atomic.make_private(path.parent)
        atomic.write_bytes(path, msgspec.json.encode(kept))


def first_look(kept: Kept, identity: str, free_bytes: int) -> FirstLook:
    """The first look at a GPU within `SESSION_S`: the one that is kept, or this one."""
    before = kept.first_look
    if before is not None and before.identity == identity and 0 <= time.time() - before.at <= SESSION_S:
        return before
    return FirstLook(identity=identity, free_bytes=free_bytes, at=time.time())


def fresh(kept: Kept, check_id: str, key: str) -> SlowVerdict | None:
    """A verdict that may be taken over; None where it is too old, of something else, or did not pass."""
    found = kept.slow.get(check_id)
    if found is None or found.key != key or found.check.status != "pass":
        return None
    return found if 0 <= time.time() - found.at <= FRESH_S else None
