"""One process at a time that a supervisor started: its output in the run's log, its end awaited, no pipe held."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

KILL_AFTER_S = 20.0
"""How long a process may take to leave after SIGTERM; the trainer saves a checkpoint in that time."""


class Child:
    """A process in a process group of its own, so that a signal to the group reaches its children too."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start a command with its output appended to `log`. Raises: OSError where it cannot be started."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                env={**os.environ, **(environment or {})},
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code; minus the signal's number where a signal ended it."""
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Signal the whole group; one that is gone already is let be."""
        if self.is_alive:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    async def end(self, kill_after_s: float = KILL_AFTER_S) -> int:
        """SIGTERM, and SIGKILL where that did not help within `kill_after_s`; the exit code."""
        self.send(signal.SIGTERM)
        try:
            # Not asyncio.wait_for: in Python 3.11 that one swallows a cancellation that comes as the process ends.
            async with asyncio.timeout(kill_after_s):
                return await self._process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self._process.wait()


def how_it_ended(exit_code: int) -> str:
    """An exit code in words: "exit code 1", "signal SIGKILL"."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"
