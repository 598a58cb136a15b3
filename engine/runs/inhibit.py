"""A lock that keeps the machine awake, held by a child process that ends with the process that took it.

The child waits for the end of its input, and only this process has the other end of that pipe: however this process
ends, SIGKILL included, the kernel closes it, the child leaves, and logind gives the lock back. Source:
systemd-inhibit(1); systemd.io/INHIBITOR_LOCKS; org.freedesktop.login1.policy, where a user who came over the network
may hold off idling but neither sleep nor the lid's switch; caffeinate(8) on macOS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time

from engine.errors import StoreError
from engine.runs.events import event
from engine.runs.store import RunStore
from engine.sqlite import BusyError

LADDER = (
    ("sleep:idle:handle-lid-switch", "sleep, idling and the lid's switch"),
    ("sleep:idle", "sleep and idling"),
    ("idle", "idling"),
)
"""What is asked of logind, most first, and how a person is told."""
PATIENCE_S = 5.0
LOOK_EVERY_S = 60.0
_HOLD = ("sh", "-c", "echo held; exec cat > /dev/null")


class Inhibitor:
    """The lock of one process; `take` may be called again after it was lost."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self.tool = ""
        """The program that holds it; empty: there is none here."""
        self.what = ""
        """What is held off, in words; empty: nothing."""
        self.reason = ""
        """Why not all, or nothing, is held off: the exact words of who refused; empty: nothing was refused."""

    def take(self) -> bool:
        """Take as much as is granted; whether that is anything. Takes up to 5 s where logind is silent."""
        self.release()
        self.what = self.reason = ""
        deadline = time.monotonic() + PATIENCE_S
        for command, what in self._commands():
            if time.monotonic() >= deadline:
                break  # who is silent when asked for all is so when asked for less
            refusal = self._start(command)
            if refusal is None:
                self.what = what
                return True
            self.reason = self.reason or refusal
        return False

    @property
    def is_held(self) -> bool:
        """Whether the lock is held now."""
        return self._child is not None and self._child.poll() is None

    def release(self) -> None:
        """Give it back; without it, nothing."""
        child, self._child = self._child, None
        if child is not None:
            _end(child)

    def _commands(self) -> list[tuple[list[str], str]]:
        for tool in ("systemd-inhibit", "elogind-inhibit"):
            if shutil.which(tool):
                self.tool = tool
                why = "--why=A training run is going on"
                return [
                    ([tool, f"--what={name}", "--who=llm-tui", why, "--mode=block", *_HOLD], what)
                    for name, what in LADDER
                ]
        if shutil.which("caffeinate"):
            self.tool = "caffeinate"
            return [(["caffeinate", "-is", *_HOLD], "sleep and idling")]
        self.reason = "There is neither systemd-inhibit nor caffeinate here."
        return []

    def _start(self, command: list[str]) -> str | None:
        """Start the child; None once it holds the lock, else why it does not."""
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except OSError as error:
            return f"{command[0]}: {error}"
        if _says_held(child):
            self._child = child
            return None
        said = _end(child).decode("utf-8", "replace").strip().replace("\n", " ")
        return said or f"{command[0]} did not take the lock within {PATIENCE_S:g} s, and did not say why."


def _says_held(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child tells in time that it runs, which is once the lock is granted."""
    assert child.stdout is not None
    deadline, said = time.monotonic() + PATIENCE_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while b"held\n" not in said:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
            piece = os.read(child.stdout.fileno(), 4096)
            if not piece:
                return False
            said += piece
    return True


def _end(child: subprocess.Popen[bytes]) -> bytes:
    """End the child and what it started; what it had said on its stderr."""
    assert child.stdin is not None and child.stderr is not None and child.stdout is not None
    child.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(0.5)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    os.set_blocking(child.stderr.fileno(), False)
    said = child.stderr.read() or b""
    child.stdout.close()
    child.stderr.close()
    return said


async def stay_awake(store: RunStore) -> None:
    """Hold the lock until cancelled, and tell in the run's events whether it is held; a lost one is taken again."""
    inhibitor = Inhibitor()
    try:
        while True:
            was_held = bool(inhibitor.what)
            if not inhibitor.is_held:
                is_held = await asyncio.to_thread(inhibitor.take)
                _tell(store, inhibitor, is_held, was_held)
                if not is_held and not was_held:
                    return
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        inhibitor.release()


def _tell(store: RunStore, inhibitor: Inhibitor, is_held: bool, was_held: bool) -> None:
    lost = "The lock that keeps the machine awake was lost. " if was_held else ""
    if is_held:
        text = f"{lost}{inhibitor.tool} holds off {inhibitor.what} for as long as the run goes on."
        told = event("info", "sleep-inhibited", f"{text} {inhibitor.reason}".strip())
    else:
        level = "warning" if lost else "info"
        text = f"{lost}Nothing keeps the machine from falling asleep: {inhibitor.reason}"
        told = event(level, "sleep-not-inhibited", text)
    with contextlib.suppress(BusyError, StoreError):
        store.tell(told)
