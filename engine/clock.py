"""Which moment something happened at, told so that a wall clock that is set changes no duration.

The wall clock is for people: it is set by hand, by the network and twice a year. Between processes of one machine that
has not been started anew in between, the monotonic clock is compared; only across machines and boots does the wall
clock stand in.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path

import msgspec

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot_id() -> str | None:
    """A name for this boot of this machine; None where the system has none, as on macOS.

    Source: random(4), /proc/sys/kernel/random/boot_id.
    """
    try:
        return _BOOT_ID.read_text("ascii").strip() or None
    except OSError:
        return None


def age_s(at: float, monotonic_s: float | None, boot: str | None) -> float:
    """Seconds since a moment that was told by the wall clock and, where known, by the monotonic clock of a boot."""
    if monotonic_s is not None and boot is not None and boot == boot_id():
        return max(0.0, time.monotonic() - monotonic_s)
    return max(0.0, time.time() - at)


class Moment(msgspec.Struct, frozen=True):
    """A moment by both clocks."""

    at: float
    monotonic_s: float | None = None
    boot_id: str | None = None

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(time.time(), time.monotonic(), boot_id())

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return age_s(self.at, self.monotonic_s, self.boot_id)
