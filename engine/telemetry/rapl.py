"""Package power of the CPU from RAPL's energy counters.

Source: Linux Documentation/power/powercap/powercap.rst; AMD's counters carry the same "intel-rapl" name. Since
Linux 5.10 (CVE-2020-8694) only root may read them unless the administrator allows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.telemetry.sysfs import folders, read_int, read_text

_LONGEST_S = 120.0
"""Beyond this a counter may have wrapped twice: 262 kJ at 500 W last 524 s."""


class Rapl:
    """The power of all CPU packages between two readings."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._zones = [
            zone
            for zone in folders(root / "sys/class/powercap", "intel-rapl:*")
            if zone.name.count(":") == 1 and (read_text(zone / "name") or "").startswith("package")
        ]
        self._last: tuple[float, list[int]] | None = None
        self.reason = ""
        """Why the power is unknown, in a sentence; empty where it is known or will be at the next reading."""

    def watts(self) -> float | None:
        """Mean power since the call before; None at the first call, after a long pause, or without a counter."""
        now_s, counters = self._clock(), [read_int(zone / "energy_uj") for zone in self._zones]
        microjoules = [counter for counter in counters if counter is not None]
        if not self._zones:
            self.reason = "This machine shows no RAPL energy counter of its CPU."
        elif len(microjoules) < len(counters):
            path = self._zones[counters.index(None)] / "energy_uj"
            self.reason = f"{path} cannot be read: only root may, unless the administrator allows it."
        else:
            self.reason = ""
        if self.reason:
            self._last = None
            return None
        last, self._last = self._last, (now_s, microjoules)
        if last is None or not 0 < now_s - last[0] <= _LONGEST_S:
            return None
        used_uj = 0
        for zone, before, after in zip(self._zones, last[1], microjoules, strict=True):
            grown = after - before
            if grown < 0:  # it starts again at 0 beyond its range
                wrap = read_int(zone / "max_energy_range_uj")
                if wrap is None or grown + wrap < 0:
                    return None
                grown += wrap
            used_uj += grown
        return used_uj / 1e6 / (now_s - last[0])
