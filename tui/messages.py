"""The vocabulary of the app: facts in the past tense, requests that end in `Requested`.

What only the settings, the samples and the log say is in `tui/late_messages.py`: every class costs the first paint.

A message is written once and then only read. Its class cannot be frozen, because Textual keeps its own delivery
marks on every message; the records that a message carries are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from engine.bill import EntryDetail
    from engine.estimate import Estimate
    from engine.records import (
        Check,
        CheckStep,
        ClosingReport,
        DamagedRun,
        LedgerEntry,
        OpenProcesses,
        RunSnapshot,
        RunSummary,
    )
    from engine.story import Digest


@dataclass(eq=False)
class SnapshotArrived(Message):
    """The followed run was read."""

    run_id: str
    snapshot: RunSnapshot

    def can_replace(self, message: Message) -> bool:
        """A newer snapshot makes one that was not shown yet needless."""
        return isinstance(message, SnapshotArrived)


@dataclass(eq=False)
class SnapshotFailed(Message):
    """The followed run could not be read; what was read before is no longer news."""

    run_id: str
    title: str
    remedy: str

    def can_replace(self, message: Message) -> bool:
        """The newest failure stands for those before it."""
        return isinstance(message, SnapshotFailed)


@dataclass(eq=False)
class RunsArrived(Message):
    """The runs of the workspace were read, newest first; the damaged ones are those that cannot be."""

    runs: tuple[RunSummary, ...]
    damaged: tuple[DamagedRun, ...] = ()

    def can_replace(self, message: Message) -> bool:
        """A newer list makes an older one needless."""
        return isinstance(message, RunsArrived)


@dataclass(eq=False)
class LedgerArrived(Message):
    """The ledger was read."""

    entries: tuple[LedgerEntry, ...]


@dataclass(eq=False)
class LedgerFailed(Message):
    """The ledger could not be read."""

    title: str
    remedy: str


@dataclass(eq=False)
class EntryDetailArrived(Message):
    """What the selected entry keeps on the disk and had cost elsewhere was worked out."""

    run_id: str
    detail: EntryDetail


@dataclass(eq=False)
class EstimateArrived(Message):
    """The plan was worked out."""

    estimate: Estimate


@dataclass(eq=False)
class EstimateFailed(Message):
    """The plan could not be worked out."""

    title: str
    remedy: str


@dataclass(eq=False)
class StepsArrived(Message):
    """The lines of the checklist were read, and the verdicts that the last preflight left."""

    steps: tuple[CheckStep, ...]
    known: tuple[Check, ...]


@dataclass(eq=False)
class CheckVerdictArrived(Message):
    """One check of the preflight has its verdict."""

    check: Check


@dataclass(eq=False)
class ChecksEnded(Message):
    """The preflight is through; `title` is empty unless it could not be carried out."""

    title: str = ""
    remedy: str = ""


@dataclass(eq=False)
class RemedyApplied(Message):
    """What a verdict's remedy names was done; `text` says what."""

    text: str


@dataclass(eq=False)
class OpenProcessesArrived(Message):
    """It is known who holds GPU memory and who should be closed."""

    found: OpenProcesses


@dataclass(eq=False)
class ProcessesClosed(Message):
    """It is known what became of the programs that were to be closed."""

    report: ClosingReport


@dataclass(eq=False)
class RunStarted(Message):
    """A new run is going."""

    run_id: str


@dataclass(eq=False)
class RunStartRefused(Message):
    """A run was not started."""

    title: str
    remedy: str
    is_blocked: bool = False
    """Whether a check stood in the way."""


@dataclass(eq=False)
class RunOpenRequested(Message):
    """The person wants this run on the run screen."""

    run_id: str


@dataclass(eq=False)
class VerbRequested(Message):
    """The person wants something of a run: pause, resume, checkpoint or stop."""

    run_id: str
    verb: str


@dataclass(eq=False)
class VerbAnswered(Message):
    """A run has answered, or the asking failed."""

    run_id: str
    verb: str
    is_done: bool
    text: str


@dataclass(eq=False)
class CallFailed(Message):
    """Something that was asked of the engine could not be done."""

    title: str
    remedy: str


@dataclass(eq=False)
class DigestArrived(Message):
    """A run went on while nobody looked."""

    digest: Digest
