"""What the run folder's store keeps, row by row (`…Row`), and the facts that the trainer leaves there."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from engine.clock import age_s


class RunState(StrEnum):
    """Where a run stands."""

    PREPARING = "preparing"
    """The corpus is being tokenized or the model built; no step yet."""
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether no supervisor is expected to be alive."""
        return self in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)


Role = Literal["supervisor", "trainer", "corpus"]
Level = Literal["info", "warning", "error"]
Verb = Literal["pause", "resume", "checkpoint", "stop"]
RampState = Literal[
    "trying", "proven", "slower", "over-budget", "out-of-memory", "failed", "killed", "stopped"
]
"""Of a size: it is being tried; it works; it works, slower than a smaller one; it leaves no margin; the device has no
room for it; it failed otherwise; its process died; the run was stopped meanwhile."""


class StateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the run's state."""

    at: float
    state: str
    reason: str = ""
    """Why, in a sentence; empty where nothing needs saying."""


class HeartbeatRow(msgspec.Struct, frozen=True, kw_only=True):
    """The last sign of life of one process of the run; one row a role."""

    role: str
    pid: int
    at: float
    phase: str
    """What it is doing, in a word or two: "reading the corpus", "training", "evaluating", "saving"."""
    monotonic_s: float | None = None
    """The same instant on the monotonic clock, which the wall clock's jumps leave alone; the store enters it."""
    boot_id: str | None = None
    """Which boot of which machine that clock is of; None where the system does not tell."""

    @property
    def age_s(self) -> float:
        """Seconds since this sign of life."""
        return age_s(self.at, self.monotonic_s, self.boot_id)


class ProgressRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a piece of preparation is; one row a kind."""

    kind: str
    """"tokenizer" or "tokens"."""
    at: float
    done_bytes: int
    total_bytes: int | None = None
    bytes_per_s: float | None = None


class RampRow(msgspec.Struct, frozen=True, kw_only=True):
    """One size that the batch ramp tried on the device itself. None: it did not get as far."""

    number: int
    """From 1, in the order of trying; a ramp that is begun anew counts on."""
    ramp: int
    """Which ramp of the run, from 1: one that was stopped is begun anew."""
    at: float
    micro_batch: int
    """Sequences at a time."""
    num_recomputed_blocks: int
    state: str
    """One of `RampState`."""
    memory_bytes: int | None = None
    """The most that it took, of the device (CUDA, the context counted in) or of RAM."""
    budget_bytes: int | None = None
    """What it may take, and still leave a margin; None: not known."""
    tokens_per_s: float | None = None
    """Of a whole optimizer step: all its micro-steps and the update."""
    evaluate_s: float | None = None
    save_s: float | None = None
    load_s: float | None = None
    seconds: float | None = None
    """What trying it took."""
    note: str = ""
    """Why it did not work, raw; else empty."""
    is_chosen: bool = False


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the trainer; the first is attempt 1."""

    attempt: int
    at: float
    pid: int
    from_step: int
    ended_at: float | None = None
    outcome: str | None = None
    """How it ended, in a sentence; None while it lives."""


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One optimizer step; a step that was done again after a restart replaces its row."""

    step: int
    at: float
    tokens: int
    """Tokens trained on up to and with this step."""
    loss: float
    """Mean cross-entropy of the step's tokens, nats a token."""
    learning_rate: float
    tokens_per_s: float
    micro_batch: int
    grad_accum: int
    grad_norm: float | None = None
    memory_bytes: int | None = None
    """Most device memory allocated so far (CUDA), or resident memory (CPU)."""
    attempt: int = 1
    rollbacks: int | None = None
    """How often the run had gone back to a checkpoint by then, of itself; None in records of before it could."""


class EvaluationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One validation."""

    step: int
    at: float
    tokens: int
    val_loss: float
    """Nats a token."""
    val_bits_per_byte: float | None = None
    """Bits a byte of the text's UTF-8: comparable between tokenizers."""
    seconds: float = 0.0
    num_tokens: int | None = None
    """Tokens that it was measured on; None in records of before it was kept."""
    attempt: int | None = None
    """As `StepRow.attempt`; None in records of before it was kept, as is the next."""
    rollbacks: int | None = None
    """As `StepRow.rollbacks`."""


class TextSampleRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said at a step."""

    step: int
    at: float
    prompt: str
    text: str
    """The continuation alone, raw: it may hold anything a corpus holds."""
    attempt: int | None = None
    """As `StepRow.attempt`; None in records of before it was kept, as is the next."""
    rollbacks: int | None = None
    """As `StepRow.rollbacks`."""


class FurtherSampleRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said at a step to another prompt than the first."""

    key: str
    """`step:number`; a step that was done again after a restart replaces its row."""
    step: int
    number: int
    """Of the prompt in the settings, from 0; the first is a `TextSampleRow`."""
    at: float
    prompt: str
    text: str
    """As `TextSampleRow.text`."""
    attempt: int | None = None
    rollbacks: int | None = None


class CheckpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that counts: written, synced, read back, hashed, renamed, in the manifest."""

    step: int
    at: float
    tokens: int
    folder: str
    """Name below the run's `checkpoints/`."""
    total_bytes: int
    write_s: float
    is_damaged: bool | None = None
    """Whether a trainer passed it over for an older one; None: it was good whenever it was read."""


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth telling the person."""

    at: float
    level: str
    source: str
    """The role that tells it."""
    kind: str
    """A short kebab-case name, the same for every event of its sort."""
    text: str
    data: str = "{}"
    """JSON object with the numbers behind the text."""


class LogMarkRow(msgspec.Struct, frozen=True, kw_only=True):
    """How long the output of the run's processes was at an instant, so that its lines can be told a time."""

    offset: int
    """Bytes of the run's `log`."""
    at: float


class SensorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of every sensor; None is unknown. GPUs are summed, their temperature is the hottest's."""

    at: float
    elapsed_s: float = 0.0
    """Seconds of supervision since the run began, over all restarts: the axis of history, which no jump of the
    wall clock can bend."""
    gpu_celsius: float | None = None
    gpu_watts: float | None = None
    gpu_limit_watts: float | None = None
    gpu_util_frac: float | None = None
    gpu_memory_used_bytes: int | None = None
    gpu_memory_total_bytes: int | None = None
    cpu_celsius: float | None = None
    cpu_watts: float | None = None
    cpu_load_frac: float | None = None
    machine_watts: float | None = None
    gpu_watts_source: str | None = None
    """"nvml" for the power sensor, "counter" where the energy counter stands in for it; None: no GPU answers."""
    cpu_watts_source: str | None = None
    """"rapl" where measured, "estimate" from load and rating."""
    machine_watts_source: str | None = None
    """"battery" where measured; "partly measured" or "estimate" where composed of parts."""
    memory_used_bytes: int | None = None
    battery_frac: float | None = None
    is_on_ac: bool | None = None
    gpu_throttle: str | None = None
    """What holds the GPU's clocks down, in words; empty: nothing; None: the driver does not tell."""
    gpu_clock_mhz: float | None = None
    gpu_fan_frac: float | None = None
    """0 to 1 of its most; None on most laptops, whose fan the driver does not see."""


class MinuteRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sensor over one minute, so that a week is read as fast as an hour; a minute without a reading has none."""

    key: int
    """The number of the sensor's name times 2**32, plus whole minutes of `SensorRow.elapsed_s`: a sensor's minutes
    lie together, and one that is rolled up again replaces itself."""
    low: float
    mean: float
    high: float


class EnergyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one life of the supervisor has used so far; the run's total is the sum over segments."""

    segment: int
    at: float
    elapsed_s: float
    """Monotonic seconds that this supervisor has lived."""
    covered_s: float
    """Of those, seconds for which the machine's power was known."""
    gpu_j: float | None = None
    """The figure that counts: the counter's where plausible, else the integral; None: never known."""
    gpu_counter_j: float | None = None
    gpu_integrated_j: float | None = None
    gpu_source: str | None = None
    """"counter", "integrated"."""
    machine_j: float | None = None
    machine_source: str | None = None
    """As `SensorRow.machine_watts_source`, the weakest that went in."""
    gap_s: float = 0.0
    """Seconds of suspend or of a lost sensor, left out of the sums."""


class TariffRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one life of the supervisor has used so far in one window of the tariff; none at a flat price."""

    key: str
    """`segment` and `window`."""
    segment: int
    window: int
    """Its number in `energy.tariff`, from 1; 0 is the price outside of all."""
    price_per_kwh: float
    """In force then."""
    machine_j: float
    seconds: float


class ThermalRow(msgspec.Struct, frozen=True, kw_only=True):
    """What heat has cost in one life of the supervisor; the run's total is the sum over segments."""

    segment: int
    throttled_s: float = 0.0
    """Seconds of training while heat or a failing supply held the GPU's clocks down; its power limit is not counted."""
    throttled_tokens: float | None = None
    """How many fewer tokens those seconds gave than usual; None: never known."""
    paused_s: float = 0.0
    """Seconds that the run was paused to cool down."""
    paused_tokens: float | None = None


class CommandRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request from outside, kept as history."""

    id: int
    at: float
    verb: str
    who: str
    """user@host and the way it came (app, command line)."""


class AcknowledgementRow(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a command."""

    command_id: int
    at: float
    is_done: bool
    message: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where training last went on from: at a start of the trainer, or back at a checkpoint."""

    attempt: int
    """As `StepRow.attempt`."""
    rollbacks: int
    """As `StepRow.rollbacks`."""
    step: int
    """Steps that were done by then; 0: the beginning."""


class MeasuredPeak(msgspec.Struct, frozen=True, kw_only=True):
    """The most that this very machine gave in a matrix product."""

    flops: float
    """FLOP a second."""
    precision: str
    at: float
    """When it was measured."""
