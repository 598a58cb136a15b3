"""The machine's processes: which programs are open, whose they are, and which process a number names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from engine.telemetry.sysfs import read_text

MOST_NAME_LETTERS = 256
MOST_ARGUMENTS = 8
_PF_KTHREAD = 0x00200000
"""Source: linux/sched.h."""
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The machine's own. Source: PROC_PID_INIT_INO of linux/proc_ns.h."""


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One process; None is unknown."""

    name: str
    """Raw text from outside, at most 256 letters; bytes that are no UTF-8 stand as \\xNN."""
    pid: int
    started_s: float | None
    """As `start_time_s`."""
    user: str | None
    rss_bytes: int | None
    """Resident memory, shared pages counted in full."""
    age_s: float | None
    is_own: bool
    """Whether it belongs to the user that asks, who may then end it."""
    is_kernel_thread: bool = False
    arguments: tuple[str, ...] = ()
    """The first few of its command line, each at most 256 letters, raw text from outside; empty where this user may
    not look."""


def find_processes(names: Iterable[str]) -> tuple[ProcessInfo, ...]:
    """Every process that goes by one of `names`, the largest first.

    "firefox" finds firefox, firefox-bin and Firefox.exe; "obs" does not find obsidian.
    """
    import psutil

    wanted = tuple(name.lower() for name in names if name)
    found = []
    for process in psutil.process_iter(["name"]):
        name = bounded(process.info["name"] or "")
        if any(goes_by(name, want) for want in wanted):
            details = _describe(process, name)
            if details is not None:
                found.append(details)
    return tuple(sorted(found, key=lambda info: (-(info.rss_bytes or 0), info.pid)))


def goes_by(name: str, wanted: str) -> bool:
    """Whether a process of this name is the program that a person calls `wanted`."""
    name, wanted = name.lower(), wanted.lower()
    return name == wanted or (name.startswith(wanted) and name[len(wanted)] in "-_. ")


def bounded(text: str) -> str:
    """Text from the system as text that can be stored: at most 256 letters, no byte that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")[:MOST_NAME_LETTERS]


def find_process(pid: int) -> ProcessInfo | None:
    """The process of this number; None where there is none, as with a number from outside a container."""
    import psutil

    try:
        process = psutil.Process(pid)
        return _describe(process, bounded(process.name()))
    except (psutil.Error, ValueError, OverflowError):
        return None


def _describe(process: Any, name: str) -> ProcessInfo | None:
    import psutil

    try:
        with process.oneshot():
            memory = _ask(process.memory_info)
            return ProcessInfo(
                name=name,
                pid=process.pid,
                started_s=start_time_s(process.pid),
                user=_ask(process.username),
                rss_bytes=None if memory is None else memory.rss,
                age_s=_age_s(process.pid),
                is_own=process.uids().real == os.getuid(),
                is_kernel_thread=_is_kernel_thread(process.pid),
                arguments=tuple(bounded(part) for part in (_ask(process.cmdline) or ())[:MOST_ARGUMENTS]),
            )
    except psutil.Error:
        return None


def _age_s(pid: int) -> float | None:
    """How long a process has run, by clocks that nobody sets."""
    started_s = start_time_s(pid)
    return None if started_s is None else max(0.0, since_boot_s() - started_s)


def since_boot_s() -> float:
    """Now, in seconds since the machine booted, suspend included: the clock of `start_time_s`."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    import psutil

    booted_at: float = psutil.boot_time()
    return time.time() - booted_at


def _ask(question: Any) -> Any:
    """The answer; None where this user may not ask, or where a user's number has no name."""
    import psutil

    try:
        return question()
    except (psutil.AccessDenied, psutil.ZombieProcess, KeyError):
        return None


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on: state, parent, …; None where there is none."""
    stat = read_text(Path(f"/proc/{pid}/stat"))
    # The name in field 2 may hold anything, brackets and spaces included: count from its last bracket.
    return None if stat is None else stat.rpartition(")")[2].split()


def _is_kernel_thread(pid: int) -> bool:
    """Source: proc(5), /proc/<pid>/stat, field 9."""
    fields = _stat_fields(pid)
    return fields is not None and bool(int(fields[6]) & _PF_KTHREAD)


def lineage(pid: int) -> tuple[int, ...]:
    """A process, its parent, and so on up to the first; empty where there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return (pid, *(parent.pid for parent in process.parents()))
    except (psutil.Error, ValueError):
        return ()


def start_time_s(pid: int) -> float | None:
    """When the process was started, in seconds since the machine booted; None where there is none.

    With the number it names a process for good: a number is used again, both together are not. Unlike a time of
    day it does not move when the clock is set. Source: proc(5), /proc/<pid>/stat, field 22.
    """
    fields = _stat_fields(pid)
    if fields is not None:
        return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    if Path("/proc/self/stat").exists():
        return None
    import psutil

    try:
        process = psutil.Process(pid)
        return (
            None if process.status() == psutil.STATUS_ZOMBIE else process.create_time() - psutil.boot_time()
        )
    except psutil.Error:
        return None


def cpu_s(pid: int) -> float | None:
    """Processor seconds that a process has used; None where it is gone or the system does not tell.

    Source: proc_pid_stat(5), utime and stime.
    """
    fields = _stat_fields(pid)
    if fields is None:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int, started_s: float) -> bool:
    """Whether the process that had this number and `start_time_s` still runs; a zombie does not."""
    now_s = start_time_s(pid)
    return now_s is not None and abs(now_s - started_s) < 0.05


def is_contained() -> bool:
    """Whether process numbers here are not the machine's own, as in a container, so that a driver's may mislead."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) != _FIRST_PID_NAMESPACE
    except OSError:
        return False


def has_gpu_open(pid: int) -> bool | None:
    """Whether a process has a GPU's device file open; None where this user may not look."""
    try:
        files = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    for file in files:
        try:
            target = str(file.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith(("/dev/nvidia", "/dev/dri/", "/dev/dxg")):
            return True
    return False
