"""Heeding others while training: commands from the store, signals, and whether the supervisor still lives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from engine.errors import CheckpointError, TrainerExit
from engine.records import CommandRow, RunState
from engine.train.guard import SetbackError
from engine.train.journal import Journal

_POLL_EVERY_S = 0.2
_BY_SUPERVISOR = "supervisor: "


class Leave(Exception):  # noqa: N818 - a request, no error
    """Training is to end now, at the state of the last whole step."""

    def __init__(self, code: TrainerExit, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def stop_reason(who: str) -> str:
    """Who stopped the run, as one sentence; the supervisor's own reason is one already."""
    if who.startswith(_BY_SUPERVISOR):
        return who.removeprefix(_BY_SUPERVISOR)
    return f"Stopped by {who}."


class Control:
    """Asked between micro-steps; holds training while paused, and ends it by raising `Leave`."""

    def __init__(self, journal: Journal, save: Callable[[], str], parent_pid: int) -> None:
        """`save` makes a checkpoint and returns its name; it may raise CheckpointError or SetbackError."""
        self._journal = journal
        self._save = save
        self._parent = parent_pid
        self._polled_at = 0.0
        self._signal: signal.Signals | None = None
        # A trainer that died while it was paused is started again by its supervisor: it stays paused.
        self._is_paused = journal.state is RunState.PAUSED
        self.held_s = 0.0
        """Seconds that training was held in all."""

    @property
    def is_paused(self) -> bool:
        """Whether the next `attend` holds training."""
        return self._is_paused

    def listen(self) -> None:
        """Take SIGTERM as the wish to save and leave; a hang-up and Ctrl-C mean the viewer, not the trainer."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def attend(self) -> None:
        """Do what was asked for since the last time; at most every 0.2 s.

        Raises: Leave; SetbackError where what was to be saved is of no use.
        """
        now = time.monotonic()
        if self._signal is None and now - self._polled_at < _POLL_EVERY_S:
            return
        self._journal.flush_soon()
        self._poll()
        if self._is_paused:
            self._hold()
            self.held_s += time.monotonic() - now

    def _poll(self) -> None:
        self._polled_at = time.monotonic()
        if self._signal is not None:
            raise Leave(TrainerExit.ORPHANED, f"The system ended the trainer ({self._signal.name}).")
        if os.getppid() != self._parent:
            raise Leave(TrainerExit.ORPHANED, "The supervisor is gone.")
        for command in self._journal.commands():
            self._obey(command)

    def _hold(self) -> None:
        phase = self._journal.heartbeat.phase
        self._journal.heartbeat.phase = "paused"
        while self._is_paused:
            time.sleep(0.1)
            self._journal.flush_soon()
            self._poll()
        self._journal.heartbeat.phase = phase

    def _obey(self, command: CommandRow) -> None:
        if command.verb == "stop":
            # Not acknowledged here: the supervisor does so once the run is over.
            raise Leave(TrainerExit.STOPPED, stop_reason(command.who))
        if command.verb == "pause":
            message = "It was paused already." if self._is_paused else "Paused."
            self._is_paused = True
            self._journal.set_state(RunState.PAUSED, f"Paused by {command.who}.")
            self._journal.answer(command, message)
        elif command.verb == "resume":
            message = "Goes on." if self._is_paused else "It was not paused."
            self._is_paused = False
            self._journal.set_state(RunState.RUNNING)
            self._journal.answer(command, message)
        elif command.verb == "checkpoint":
            try:
                self._journal.answer(command, f"Saved {self._save()}.")
            except CheckpointError as error:
                self._journal.answer(command, str(error), is_done=False)
            except SetbackError as setback:
                message = f"Not saved: {setback.reason} Training goes back to a good checkpoint."
                self._journal.answer(command, message, is_done=False)
                raise
        else:
            self._journal.answer(command, f"There is no command {command.verb!r}.", is_done=False)
