"""What a run has to tell: its samples, its log, and what it did while nobody looked. Records alone."""

from __future__ import annotations

import msgspec

from engine.records import RunState

FINISHED = "model"
"""The source of a text that is the finished model; every other one is the name of a checkpoint."""
OUTPUT = "output"
"""The source of what a process has printed."""
BEFORE, AFTER = "gap-before", "gap-after"
"""Kinds of the lines that stand for output which is not held."""


class SampleAt(msgspec.Struct, frozen=True, kw_only=True):
    """A text sample, and how well the model did then."""

    step: int
    at: float
    tokens: int | None
    """None: the step has no row, as in a run that was begun anew."""
    loss: float | None
    val_loss: float | None
    """Of the newest validation until then; None: there was none."""
    prompt: str
    text: str
    """Both raw: they may hold anything that a corpus holds."""


class SampleBook(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a run that the screen of samples shows."""

    run_id: str
    samples: tuple[SampleAt, ...]
    """By step, ascending; at a step in the order of the prompts."""
    sources: tuple[str, ...]
    """What a text can be had from now, the newest first."""


class TextRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text that a person wants of a run's model."""

    prompt: str
    source: str = ""
    """`FINISHED` or the name of a checkpoint; empty: the newest good one."""
    max_tokens: int = 200
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 1


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One event, or one line of output."""

    number: int
    """Of an event its row, of output the byte at which it begins: with the source it names the line for good."""
    at: float | None
    """None: output that nobody timed."""
    level: str
    """Empty for output, which has none."""
    source: str
    kind: str
    """Empty for output; `BEFORE` and `AFTER` where output is left out."""
    text: str
    """Raw."""

    @property
    def name(self) -> tuple[bool, int]:
        """What no other line of the run has."""
        return self.source == OUTPUT, self.number


class LogView(msgspec.Struct, frozen=True, kw_only=True):
    """The window as it stands."""

    lines: tuple[LogLine, ...]
    """In the order of time, events and output together."""
    bytes_before: int
    bytes_after: int
    """Of the output, outside of the window."""
    total_bytes: int


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Warnings or errors of one kind."""

    kind: str
    level: str
    num: int
    text: str
    """Of the newest; raw."""


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between two looks. None is unknown."""

    run_id: str
    at: float
    """This look."""
    since: float | None
    """The look before; None: there was none, and this is all since the run began."""
    away_s: float
    state_then: RunState | None
    state: RunState
    reason: str
    """Of the state it is in now; raw, empty where nothing needs saying."""
    tokens: int
    """Trained on meanwhile."""
    tokens_total: int
    """That the run has in all."""
    tokens_now: int
    loss_then: float | None
    loss: float | None
    val_loss_then: float | None
    val_loss: float | None
    machine_energy_j: float | None
    cost: float | None
    currency: str
    gpu_celsius_max: float | None
    cpu_celsius_max: float | None
    throttled_s: float | None
    """None: it trains on a CPU, of whose clocks nothing is known."""
    cooling_s: float | None
    restarts: int
    incidents: tuple[Incident, ...]
    """Errors first, then by number."""
    eta_then: float | None
    eta: float | None
    """When it was, and is, expected to be done; where it has finished: when it did."""

    @property
    def eta_shift_s(self) -> float | None:
        """How much later it will be done than was thought; negative: sooner."""
        return None if self.eta is None or self.eta_then is None else self.eta - self.eta_then
