"""What the engine says when it cannot go on, and with which exit code a command then ends."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.records import Check


class ExitCode(IntEnum):
    """Exit status of every `llm-tui` command."""

    OK = 0
    FAILED = 1
    """The run failed."""
    USAGE = 2
    """Bad usage, settings or input; nothing was started and nothing was changed."""
    BLOCKED = 3
    """A blocking check of the preflight stands in the way."""


class TrainerExit(IntEnum):
    """Exit codes of `python -m engine.train run`, and of the processes beside it; any other is a crash."""

    FINISHED = 0
    REFUSED = 2
    """An EngineError: a restart would meet it again."""
    STOPPED = 10
    """Told to stop; a checkpoint was saved."""
    ORPHANED = 11
    """Its supervisor is gone or the system ends it; a checkpoint was saved."""
    NO_DEVICE = 12
    """The device is gone, perhaps for a moment, as after a suspend: a restart may find it again."""


class EngineError(Exception):
    """Something a person can mend: what is wrong, and what to do about it.

    It crosses every boundary as it is; no caller reads its text to decide something.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, title: str, remedy: str = "") -> None:
        super().__init__(title)
        self.title = title
        """One sentence: what is wrong, with file, key and value where they are known."""
        self.remedy = remedy
        """One sentence: what the person can do; empty where nothing is known to help."""

    def __str__(self) -> str:
        return f"{self.title}\n{self.remedy}" if self.remedy else self.title


class SettingsError(EngineError):
    """A settings file or an override is wrong."""

    def __init__(self, title: str, remedy: str = "", *, dotted: str = "", expected: str = "") -> None:
        super().__init__(title, remedy)
        self.dotted = dotted
        """The key whose value is refused; empty where it is none, or none alone."""
        self.expected = expected
        """What that value is not, in words."""


class CorpusError(EngineError):
    """The corpus cannot be used: empty, unreadable, binary, or too small."""


class StoreError(EngineError):
    """A run folder or a ledger cannot be read or written."""


class DamagedStoreError(StoreError):
    """A store's file itself is bad: waiting does not help, only making it anew from what can still be read."""


class CheckpointError(EngineError):
    """A checkpoint is damaged, of another model, or absent."""


class RunFailedError(EngineError):
    """The run cannot be started or controlled."""

    exit_code = ExitCode.FAILED


class DeviceGoneError(EngineError):
    """The device that a run was planned for is not there now."""


class BlockedError(EngineError):
    """The preflight blocks the start; `title` names each blocking check with its remedy."""

    exit_code = ExitCode.BLOCKED

    def __init__(self, title: str, remedy: str = "", checks: Sequence[Check] = ()) -> None:
        super().__init__(title, remedy)
        self.checks = tuple(checks)
        """The verdicts that block, where they are at hand."""
