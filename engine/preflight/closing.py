"""Closing programs, so that never another one is hit than the person saw, and what it brought is measured.

A process is held by a pidfd from before its start time is compared until it has ended; a number that is used again
in between names another process, whose start time differs. Where the system has no pidfd (before Linux 5.3, macOS)
the start time is compared right before the signal. Source: pidfd_open(2), pidfd_send_signal(2).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence
from types import TracebackType

from engine.preflight.processes import as_open, protected_pids, why_not
from engine.records import Closing, ClosingReport, OpenProcess
from engine.telemetry.gpus import snapshot
from engine.telemetry.process import find_process, find_processes, is_alive

PATIENCE_S = 5.0
"""How long programs may take to end after the signal."""
WATCH_S = 3.0
"""How long it is watched afterwards whether they come back."""
_POLL_S = 0.05


class Held:
    """One process, held so that its number cannot come to name another unnoticed; a context manager."""

    def __init__(self, pid: int, started_s: float) -> None:
        self._pid, self._started_s = pid, started_s
        self._descriptor: int | None = None
        self.is_there = True
        """Whether the very process of that start time was there when it was taken hold of."""

    def __enter__(self) -> Held:
        try:
            # Absent on macOS; the kernel or a sandbox may not know the call.
            if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
                self._descriptor = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self.is_there = False
        except OSError:
            self._descriptor = None
        # After the pidfd: the process that has this start time now had the number when the pidfd was opened.
        self.is_there = self.is_there and is_alive(self._pid, self._started_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def send(self, number: signal.Signals) -> None:
        """Signal it. Raises: ProcessLookupError where it is gone; PermissionError."""
        if self._descriptor is not None:
            signal.pidfd_send_signal(self._descriptor, number)
        elif is_alive(self._pid, self._started_s):
            os.kill(self._pid, number)
        else:
            raise ProcessLookupError

    def has_ended(self) -> bool:
        """Whether it has ended, reaped or not."""
        if self._descriptor is None:
            return not is_alive(self._pid, self._started_s)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))


def close_processes(
    processes: Sequence[OpenProcess],
    *,
    kill: bool = False,
    patience_s: float = PATIENCE_S,
    watch_s: float = WATCH_S,
) -> ClosingReport:
    """Ask programs to end (SIGTERM), or end them (`kill`: SIGKILL, without saving their work), and see what comes free.

    Takes `patience_s` at most for all together, and `watch_s` more where one was closed.
    """
    before_bytes = free_vram_bytes()
    names = {process.name for process in processes}
    known = {(info.pid, info.started_s) for info in find_processes(names)}
    with contextlib.ExitStack() as stack:
        told: dict[int, Closing] = {}
        waiting: dict[int, Held] = {}
        for index, process in enumerate(processes):
            closing, held = _begin(stack, process, signal.SIGKILL if kill else signal.SIGTERM)
            if closing is not None:
                told[index] = closing
            elif held is not None:
                waiting[index] = held
        told |= _await(processes, waiting, patience_s, kill)
    closings = tuple(told[index] for index in range(len(processes)))
    closed = {closing.process.name for closing in closings if closing.outcome == "closed"}
    came_back = _watch(closed, known, watch_s) if closed else ()
    return ClosingReport(
        closings=closings,
        free_before_bytes=before_bytes,
        free_after_bytes=free_vram_bytes(),
        came_back=came_back,
    )


def _begin(
    stack: contextlib.ExitStack, process: OpenProcess, number: signal.Signals
) -> tuple[Closing | None, Held | None]:
    """Take hold of a process and signal it; the answer is what became of it at once, or the hold on it."""
    if process.started_s is None:
        return Closing(process=process, outcome="refused", reason=process.why_not), None
    held = stack.enter_context(Held(process.pid, process.started_s))
    info = find_process(process.pid) if held.is_there else None
    if info is None:
        return Closing(process=process, outcome="gone", reason="It had ended already."), None
    # Asked again, of the process that is held: the list may be old, and whoever calls may be mistaken.
    reason = why_not(info, protected_pids(), by_driver=not process.is_unwanted) or (
        "" if process.may_close else process.why_not
    )
    if reason:
        return Closing(process=process, outcome="refused", reason=reason), None
    try:
        held.send(number)
    except ProcessLookupError:
        return Closing(process=process, outcome="gone", reason="It had ended already."), None
    except PermissionError:
        return Closing(process=process, outcome="refused", reason="This user may not end it."), None
    return None, held


def _await(
    processes: Sequence[OpenProcess], waiting: dict[int, Held], patience_s: float, kill: bool
) -> dict[int, Closing]:
    """Wait until each has ended or the patience has."""
    began_s = time.monotonic()
    left, told = dict(waiting), {}
    while left:
        waited_s = time.monotonic() - began_s
        for index in [index for index, held in left.items() if held.has_ended()]:
            del left[index]
            told[index] = Closing(process=processes[index], outcome="closed", waited_s=waited_s)
        if waited_s > patience_s:
            break
        if left:
            time.sleep(_POLL_S)
    reason = (
        "It was killed and has not ended: the kernel holds it, often in a call of the driver."
        if kill
        else f"It has not ended within {patience_s:g} s; it can be killed, without saving its work."
    )
    for index in left:
        told[index] = Closing(
            process=processes[index],
            outcome="still-there",
            reason=reason,
            waited_s=time.monotonic() - began_s,
        )
    return told


def _watch(names: set[str], known: set[tuple[int, float | None]], watch_s: float) -> tuple[OpenProcess, ...]:
    """Processes of these names that are not `known`; looked for until there is one, or for `watch_s`."""
    deadline = time.monotonic() + watch_s
    while True:
        back = [
            info
            for info in find_processes(names)
            if info.name in names and info.started_s is not None and (info.pid, info.started_s) not in known
        ]
        if back or time.monotonic() >= deadline:
            return tuple(as_open(info) for info in back)
        time.sleep(0.25)


def free_vram_bytes() -> int | None:
    """Free memory of all GPUs that can be read; None: there is none."""
    free = [reading.memory_free_bytes for reading in snapshot().gpus]
    known = [amount for amount in free if amount is not None]
    return sum(known) if known else None
