"""The machine's processes: which programs are open, and whose a number is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from engine.telemetry.sysfs import read_text


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One process; None is unknown."""

    name: str
    """Raw text from outside."""
    pid: int
    user: str | None
    rss_bytes: int | None
    """Resident memory, shared pages counted in full."""
    age_s: float | None
    is_own: bool
    """Whether it belongs to the user that asks, who may then end it."""


def find_processes(names: Iterable[str]) -> tuple[ProcessInfo, ...]:
    """Every process that goes by one of `names`, the largest first.

    "firefox" finds firefox, firefox-bin and Firefox.exe; "obs" does not find obsidian.
    """
    import psutil

    wanted = tuple(name.lower() for name in names if name)
    found = []
    for process in psutil.process_iter(["name"]):
        name = process.info["name"] or ""
        if any(_goes_by(name, want) for want in wanted):
            details = _describe(process, name)
            if details is not None:
                found.append(details)
    return tuple(sorted(found, key=lambda info: (-(info.rss_bytes or 0), info.pid)))


def _goes_by(name: str, wanted: str) -> bool:
    name = name.lower()
    return name == wanted or (name.startswith(wanted) and name[len(wanted)] in "-_. ")


def find_process(pid: int) -> ProcessInfo | None:
    """The process of this number; None where there is none, as with a number from outside a container."""
    import psutil

    try:
        process = psutil.Process(pid)
        return _describe(process, process.name())
    except (psutil.Error, ValueError):
        return None


def _describe(process: Any, name: str) -> ProcessInfo | None:
    import psutil

    try:
        with process.oneshot():
            memory = _ask(process.memory_info)
            return ProcessInfo(
                name=name,
                pid=process.pid,
                user=_ask(process.username),
                rss_bytes=None if memory is None else memory.rss,
                age_s=_age_s(process.pid),
                is_own=process.uids().real == os.getuid(),
            )
    except psutil.Error:
        return None


def _age_s(pid: int) -> float | None:
    """How long a process has run, by clocks that nobody sets."""
    started_s = start_time_s(pid)
    if started_s is None:
        return None
    if hasattr(time, "CLOCK_BOOTTIME"):
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    import psutil

    booted_at: float = psutil.boot_time()
    return max(0.0, time.time() - booted_at - started_s)


def _ask(question: Any) -> Any:
    """The answer; None where this user may not ask, or where a user's number has no name."""
    import psutil

    try:
        return question()
    except (psutil.AccessDenied, KeyError):
        return None


def start_time_s(pid: int) -> float | None:
    """When the process was started, in seconds since the machine booted; None where there is none.

    With the number it names a process for good: a number is used again, both together are not. Unlike a time of
    day it does not move when the clock is set. Source: proc(5), /proc/<pid>/stat, field 22.
    """
    stat = read_text(Path(f"/proc/{pid}/stat"))
    if stat is not None:
        # The name in field 2 may hold anything, brackets and spaces included: count from its last bracket.
        fields = stat.rpartition(")")[2].split()
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


def is_alive(pid: int, started_s: float) -> bool:
    """Whether the process that had this number and `start_time_s` still runs; a zombie does not."""
    now_s = start_time_s(pid)
    return now_s is not None and abs(now_s - started_s) < 0.05
