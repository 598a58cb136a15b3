"""The machine beside its GPUs: memory, disk, CPU, battery; every folder tree can be given for tests."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Literal

import msgspec

from engine.telemetry.battery import Battery, read_battery
from engine.telemetry.cpu import CpuLoad, cpu_celsius, cpu_name, num_physical_cores
from engine.telemetry.rapl import Rapl
from engine.telemetry.sysfs import read_int, read_text

__all__ = [
    "Battery",
    "Disk",
    "Host",
    "HostReading",
    "Memory",
    "cpu_celsius",
    "cpu_name",
    "disk",
    "disk_free_bytes",
    "memory",
    "num_oom_kills",
    "num_physical_cores",
    "read_battery",
]

_NO_LIMIT_BYTES = 2**60
"""cgroup v1 says "no limit" as 2**63 rounded to a page."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """RAM that this process can use."""

    total_bytes: int | None
    available_bytes: int | None
    """What can be had without swapping."""
    swap_total_bytes: int | None
    swap_free_bytes: int | None
    source: Literal["ram", "cgroup"]
    """"cgroup" where the container's or the unit's limit is below the machine's RAM."""

    @property
    def used_bytes(self) -> int | None:
        """What is taken; None where unknown."""
        if self.total_bytes is None or self.available_bytes is None:
            return None
        return max(0, self.total_bytes - self.available_bytes)


def memory(root: Path = Path("/")) -> Memory:
    """RAM and swap now, within the limit of the control group that this process is in.

    Source: proc(5), /proc/meminfo; cgroup v2 memory.max and memory.current, v1 memory.limit_in_bytes and
    memory.usage_in_bytes, of the group and all above it; file cache that can be dropped counts as available.
    """
    total, available, swap_total, swap_free = _ram(root)
    source: Literal["ram", "cgroup"] = "ram"
    for limit_bytes, used_bytes in _cgroup_limits(root):
        if total is None or limit_bytes < total:
            total, source = limit_bytes, "cgroup"
        if used_bytes is not None:
            left_bytes = max(0, limit_bytes - used_bytes)
            available = left_bytes if available is None else min(available, left_bytes)
    return Memory(
        total_bytes=total,
        available_bytes=available,
        swap_total_bytes=swap_total,
        swap_free_bytes=swap_free,
        source=source,
    )


def _ram(root: Path) -> tuple[int | None, int | None, int | None, int | None]:
    """Total, available, swap total, swap free."""
    text = read_text(root / "proc/meminfo")
    if text is not None:
        found = {key: int(kib) * 1024 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        return (
            found.get("MemTotal"),
            found.get("MemAvailable", found.get("MemFree")),
            found.get("SwapTotal"),
            found.get("SwapFree"),
        )
    if root != Path("/"):
        return None, None, None, None
    import psutil

    ram, swap = psutil.virtual_memory(), psutil.swap_memory()
    return ram.total, ram.available, swap.total, swap.free


def _cgroup_limits(root: Path) -> list[tuple[int, int | None]]:
    """(limit, use that cannot be dropped) of every control group above this process that has a limit."""
    limits = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = top / group.strip("/")
        while True:
            limit_bytes, used_bytes = read_int(folder / files[0]), read_int(folder / files[1])
            if limit_bytes is not None and limit_bytes < _NO_LIMIT_BYTES:
                cache = re.search(
                    rf"^{files[2]} (\d+)$", read_text(folder / "memory.stat") or "", re.MULTILINE
                )
                if used_bytes is not None and cache:
                    used_bytes = max(0, used_bytes - int(cache.group(1)))
                limits.append((limit_bytes, used_bytes))
            if folder == top:
                break
            folder = folder.parent
    return limits


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The file system that a path is on."""

    total_bytes: int
    free_bytes: int
    """What this user may still write; blocks kept for root do not count."""
    file_system: str
    """As the kernel names it: "ext4", "nfs4", "tmpfs"; empty where unknown."""
    mount_point: str
    """Empty where unknown."""
    device: int
    """The kernel's number of it: two paths with the same one share the free bytes."""


def disk(path: Path, root: Path = Path("/")) -> Disk | None:
    """The file system below `path`, or below its nearest folder that exists; None where it cannot be asked.

    Source: statvfs(3); proc(5), /proc/self/mountinfo; `df -T`.
    """
    there = _nearest(path)
    try:
        there = there.resolve()
        state, device = os.statvfs(there), there.stat().st_dev
    except OSError:
        return None
    mount_point, file_system = "", ""
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        fields, _, kind = line.partition(" - ")
        mount = _unescape(fields.split(" ")[4])
        is_above = Path(mount) == there or Path(mount) in there.parents
        if is_above and len(mount) >= len(mount_point):  # of two mounts on one folder the later lies on top
            mount_point, file_system = mount, kind.split(" ")[0]
    return Disk(
        total_bytes=state.f_blocks * state.f_frsize,
        free_bytes=state.f_bavail * state.f_frsize,
        file_system=file_system,
        mount_point=mount_point,
        device=device,
    )


def _unescape(mount: str) -> str:
    """A mount point's octal escapes as the characters they stand for."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), mount)


def disk_free_bytes(path: Path) -> int | None:
    """What this user may still write at `path`; None where it cannot be asked. Cheap enough for every second."""
    try:
        state = os.statvfs(_nearest(path))
    except OSError:
        return None
    return state.f_bavail * state.f_frsize


def num_oom_kills(root: Path = Path("/")) -> int | None:
    """Processes that the kernel has killed for want of memory since the machine started; None: it does not tell.

    Source: /proc/vmstat, oom_kill (Linux 4.13); those of control groups are among them.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def _nearest(path: Path) -> Path:
    """The path itself, or its nearest folder that exists."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return there


class HostReading(msgspec.Struct, frozen=True, kw_only=True):
    """The machine beside its GPUs at one moment; None is unknown."""

    cpu_load_frac: float | None
    cpu_celsius: float | None
    rapl_watts: float | None
    rapl_reason: str
    """Why `rapl_watts` is unknown; empty where it is known or will be."""
    battery: Battery
    memory_used_bytes: int | None


class Host:
    """The sensors that need a reading before to say something."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._load = CpuLoad(root)
        self._rapl = Rapl(root)
        self._rapl.watts()

    def read(self) -> HostReading:
        """Everything now; the means are those since the call before."""
        return HostReading(
            cpu_load_frac=self._load.fraction(),
            cpu_celsius=cpu_celsius(self._root),
            rapl_watts=self._rapl.watts(),
            rapl_reason=self._rapl.reason,
            battery=read_battery(self._root),
            memory_used_bytes=memory(self._root).used_bytes,
        )
