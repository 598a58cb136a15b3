"""The CPU: its name, cores, load and temperature."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path

from engine.telemetry.sysfs import folders, read_int, read_text

_HWMON_NAMES = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")
_PACKAGE_LABELS = ("Tdie", "Package id 0", "Tctl")
"""Tdie before Tctl: AMD adds an offset to Tctl on some chips (Documentation/hwmon/k10temp.rst)."""
_ZONE_TYPES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal", "TCPU")


def cpu_name(root: Path = Path("/")) -> str:
    """The CPU's model as the system says it, raw text; "CPU" where it says nothing."""
    text = read_text(root / "proc/cpuinfo") or ""
    for key in ("model name", "Model", "Hardware", "cpu model"):
        found = re.search(rf"^{key}\s*:\s*(\S.*)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine() or "CPU"


def num_physical_cores(root: Path = Path("/")) -> int:
    """Physical cores that this process may use, at least 1: bounded by its affinity and its cgroup's quota.

    Source: psutil.cpu_count(logical=False); sched_getaffinity(2); cgroup v2 cpu.max, v1 cpu.cfs_quota_us.
    """
    import psutil

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    quota = _quota_cores(root)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _quota_cores(root: Path) -> float | None:
    """Cores' worth of time that the cgroup allows; None without a limit."""
    text = read_text(root / "sys/fs/cgroup/cpu.max")
    if text:
        quota, _, period = text.partition(" ")
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None
    quota_us = read_int(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    period_us = read_int(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us and quota_us > 0 else None


class CpuLoad:
    """The share of all cores' time that was busy between two readings."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = root / "proc/stat"
        self._last = self._times()

    def fraction(self) -> float | None:
        """0 to 1 since the call before (the first: since this was made); None where too little time passed.

        Source: proc(5), /proc/stat; waiting for a disk counts as idle. In a container it is the whole machine's.
        """
        last, self._last = self._last, self._times()
        if last is None or self._last is None:
            return None
        all_ticks, idle_ticks = self._last[0] - last[0], self._last[1] - last[1]
        return min(1.0, max(0.0, 1.0 - idle_ticks / all_ticks)) if all_ticks > 0 else None

    def _times(self) -> tuple[int, int] | None:
        text = read_text(self._path)
        if text is None or not text.startswith("cpu "):
            return _psutil_times() if self._path == Path("/proc/stat") else None
        ticks = [int(field) for field in text.split("\n", 1)[0].split()[1:9]]
        return sum(ticks), sum(ticks[3:5])


def _psutil_times() -> tuple[int, int] | None:
    """The same where there is no /proc (macOS), in ms."""
    import psutil

    times = psutil.cpu_times()
    return round(1000 * sum(times)), round(1000 * times.idle)


def cpu_celsius(root: Path = Path("/")) -> float | None:
    """The package's temperature, of several the hottest; None without a sensor (most virtual machines).

    Source: /sys/class/hwmon (m°C), else /sys/class/thermal; `sensors` shows the same.
    """
    hottest: list[float] = []
    for monitor in folders(root / "sys/class/hwmon", "hwmon*"):
        if read_text(monitor / "name") in _HWMON_NAMES:
            values = _labelled(monitor)
            chosen = next((values[label] for label in _PACKAGE_LABELS if label in values), None)
            hottest += [chosen] if chosen is not None else list(values.values())
    if not hottest:
        for zone in folders(root / "sys/class/thermal", "thermal_zone*"):
            millidegrees = read_int(zone / "temp")
            if read_text(zone / "type") in _ZONE_TYPES and millidegrees:
                hottest.append(millidegrees / 1000)
    return max(hottest) if hottest else None


def _labelled(monitor: Path) -> dict[str, float]:
    values = {}
    for path in folders(monitor, "temp*_input"):
        millidegrees = read_int(path)
        if millidegrees:
            label = read_text(path.with_name(path.name.replace("_input", "_label")))
            values[label or path.name] = millidegrees / 1000
    return values
