"""The facts that cross a process or a room: frozen, typed, units in the names, None for unknown.

Rows (`…Row`) are what the run folder's store keeps; the other records are what a caller is told.
Instants (`at`) are seconds since 1970 in UTC; durations (`_s`) were taken on the monotonic clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from engine.clock import age_s
from engine.shape import ModelShape


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


# --- rows of run.db -------------------------------------------------------------------------------------------


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


class TextSampleRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said at a step."""

    step: int
    at: float
    prompt: str
    text: str
    """The continuation alone, raw: it may hold anything a corpus holds."""


class CheckpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that counts: written, synced, read back, hashed, renamed, in the manifest."""

    step: int
    at: float
    tokens: int
    folder: str
    """Name below the run's `checkpoints/`."""
    total_bytes: int
    write_s: float


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


# --- facts that the trainer keeps -----------------------------------------------------------------------------


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


# --- before the run -------------------------------------------------------------------------------------------


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What the training will run on, as far as it can be told without torch."""

    kind: Literal["cuda", "cpu"]
    name: str
    """As the driver or the system says it; raw text from outside."""
    identity: str
    """The GPU's UUID, or "cpu": what the device lock is named after."""
    total_bytes: int | None
    free_bytes: int | None
    """Memory of the device: VRAM, or RAM on a CPU."""
    capability: tuple[int, int] | None = None
    """CUDA compute capability; None on a CPU or unknown."""
    num_cores: int = 1
    note: str = ""
    """Why not the GPU, where one was seen but cannot be used; else empty."""
    driver: str | None = None
    """The GPU driver's version; None on a CPU or unknown."""


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `auto` resolved: what the trainer does. Frozen with the run."""

    preset: str
    shape: ModelShape
    device: Device
    precision: Literal["fp32", "bf16", "fp16"]
    optimizer: Literal["muon", "adamw"]
    learning_rate: float
    tokens_total: int
    """A multiple of `tokens_per_step`."""
    tokens_per_step: int
    """A multiple of `micro_batch * context`."""
    micro_batch: int
    grad_accum: int
    steps: int
    is_compiled: bool
    num_recomputed_blocks: int
    """Blocks, from the first on, that keep only their input and compute the rest anew going backward; 0: none."""
    memory_parts_bytes: dict[str, int]
    """weights, gradients, optimizer, activations, logits, workspace: predicted."""
    memory_total_bytes: int
    memory_budget_bytes: int | None
    """None where the device's free memory is unknown."""

    @property
    def fits(self) -> bool | None:
        """Whether the prediction is within the budget; None where the budget is unknown."""
        return (
            None if self.memory_budget_bytes is None else self.memory_total_bytes <= self.memory_budget_bytes
        )


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a check's evidence; None is unknown, or does not apply."""

    label: str
    """What it counts, in a word or two: "VRAM free"."""
    unit: Literal["bytes", "celsius", "frac", "s", "tokens_per_s", "count"]
    now: float | None
    before: float | None = None
    """When it was first looked at, or before applications were closed."""
    needed: float | None = None
    """What the run wants of it: at least this of what is free, at most this of a temperature."""


RemedyAction = Literal["", "close-apps", "write-settings", "enable-linger", "tick"]
"""What can be done about a verdict from within llm-tui. "close-apps" and "tick" need the person; the others are
`Workspace.apply_remedy`."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the preflight."""

    id: str
    title: str
    status: Literal["pass", "warn", "fail", "waived", "skipped"]
    blocking: bool
    """Whether this verdict keeps the run from starting."""
    evidence: str
    remedy: str = ""
    is_waivable: bool = True
    """Whether this very verdict could be waived; of no meaning where it does not block."""
    remedy_action: RemedyAction = ""
    figures: tuple[Figure, ...] = ()
    """The numbers behind the evidence."""
    at: float | None = None
    """When the verdict was found; None in records of before it was kept."""
    seconds: float | None = None
    """How long it took to find."""


class CheckStep(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the checklist before it has a verdict."""

    id: str
    title: str
    is_waivable: bool = True
    """Whether it ever can be waived."""
    is_slow: bool = False
    """Whether it may take more than a second or two."""


class OpenProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A program that holds GPU memory, or that `preflight.close_apps` names; None is unknown."""

    pid: int
    started_s: float | None
    """Seconds from the boot of the machine to its start: with the pid it names a process for good. None: it cannot be
    seen from here, and so not be closed."""
    name: str
    """At most 256 characters, raw text from outside; bytes that are no UTF-8 stand as \\xNN."""
    user: str | None
    gpu_bytes: int | None
    """GPU memory it holds, over all GPUs; None: an amount that the driver does not tell; 0: none."""
    rss_bytes: int | None
    age_s: float | None
    is_unwanted: bool
    """Whether `preflight.close_apps` names it."""
    may_close: bool
    why_not: str = ""
    """Why llm-tui does not close it; empty where it may."""


class OpenProcesses(msgspec.Struct, frozen=True, kw_only=True):
    """Who is open: the most GPU memory first, unknown amounts before none, then by resident memory."""

    processes: tuple[OpenProcess, ...]
    free_bytes: int | None
    """Free memory of all GPUs that can be read; None: there is none."""
    note: str
    """What the list does not know and why, as "the driver does not tell how much each holds"; empty: it is whole."""


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one program that was to be closed."""

    process: OpenProcess
    outcome: Literal["closed", "still-there", "gone", "refused"]
    """"gone": it had ended before, whoever has its number now was not touched."""
    reason: str = ""
    """Why it was refused, or what can be done with one that is still there."""
    waited_s: float = 0.0


class ClosingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What closing programs brought."""

    closings: tuple[Closing, ...]
    """In the order asked for."""
    free_before_bytes: int | None
    free_after_bytes: int | None
    """Measured; None: there is no GPU that can be read."""
    came_back: tuple[OpenProcess, ...] = ()
    """Programs of the same names that were started meanwhile."""

    @property
    def freed_bytes(self) -> int | None:
        """GPU memory that really came free; negative where others took more; None: unknown."""
        if self.free_before_bytes is None or self.free_after_bytes is None:
            return None
        return self.free_after_bytes - self.free_before_bytes


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole preflight."""

    clear: bool
    checks: tuple[Check, ...]


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan promised of a run as it started; kept to be held against what came. None: it did not know."""

    memory_bytes: int
    """The same that the trainer reports: on a GPU without the context of CUDA, which torch does not count."""
    hours: float | None
    hours_low: float | None
    hours_high: float | None
    gpu_kwh: float | None
    machine_kwh: float | None
    cost: float | None
    """In the currency of the settings."""
    basis: str
    """What the hours rest on; raw text from outside may be in it."""


class CloudQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What one cloud offer would come to."""

    provider: str
    gpu: str
    kind: str
    """on-demand, spot, marketplace, quoted, or yours."""
    usd_per_hour: float
    hours: float | None
    usd: float | None
    as_of: str
    source: str
    basis: str
    """Where the hours come from."""
    hours_low: float | None = None
    hours_high: float | None = None
    """The range of the hours; None where they are quoted, given or unknown."""
    is_for_this_run: bool = True
    """False for the course's example as it is quoted, where this run is another one."""


# --- during and after the run ---------------------------------------------------------------------------------


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One run's state: the shape of `status --json`. None is unknown, never 0."""

    id: str
    state: RunState
    step: int | None
    steps: int
    tokens: int | None
    tokens_total: int
    loss: float | None
    val_loss: float | None
    val_bits_per_byte: float | None
    tokens_per_second: float | None
    eta_s: float | None
    elapsed_s: float | None
    gpu_energy_j: float | None
    machine_energy_j: float | None
    energy_source: str | None
    cost: float | None
    currency: str
    gpu_celsius: float | None
    gpu_watts: float | None
    micro_batch: int | None
    grad_accum: int | None
    restarts: int
    supervisor_pid: int | None
    trainer_pid: int | None
    reason: str | None
    peak_flops: float | None = None
    """The most FLOP a second that a matrix product was measured to give on this very device, in the run's format."""
    mfu_frac: float | None = None
    """What training makes of that peak: the FLOP of the model alone, so that recomputing activations, evaluations and
    checkpoints count for nothing. None: not known, or above 1, where the peak was measured on a busy machine."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A stretch of a series, reduced; a stretch without a reading is no bucket."""

    index: int
    """Which stretch of the window, from 0."""
    low: float
    mean: float
    high: float


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One sensor over a window, reduced to `num_buckets` stretches."""

    name: str
    """Field of `SensorRow`."""
    num_buckets: int
    buckets: tuple[Bucket, ...]
    now: float | None
    """The newest reading, None where it is unknown."""
    low: float | None
    mean: float | None
    high: float | None
    """Over the whole run."""


class LossPoint(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One point of a loss curve."""

    tokens: int
    loss: float


class CostView(msgspec.Struct, frozen=True, kw_only=True):
    """The money of a run, so far and to its end."""

    currency: str
    price_per_kwh: float
    machine_energy_j: float | None
    gpu_energy_j: float | None
    machine_source: str | None
    gpu_source: str | None
    cost: float | None
    projected_cost: float | None
    projected_kwh: float | None
    projected_hours: float | None
    gap_s: float
    cloud: CloudQuote | None
    """The course's T4, to compare with."""


class RunSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that the run screen shows, read in one go."""

    status: Status
    plan: RunPlan
    corpus: str
    """What it learns from, as the settings say it; raw text from outside."""
    phase: str
    """What the run is doing now, in a word or two."""
    is_stale: bool
    """Whether the supervisor is gone, or silent for 10 s, while the run is not over."""
    silent_s: float | None
    """Seconds since the last sign of life; None where there was none yet."""
    progress: ProgressRow | None
    """Of the preparation, while it lasts."""
    train_losses: tuple[LossPoint, ...]
    """At most a few hundred points, evenly over the run, each the mean of its stretch."""
    val_losses: tuple[LossPoint, ...]
    learning_rate: float | None
    grad_norm: float | None
    memory_bytes: int | None
    sensors: dict[str, Series]
    """By the field of `SensorRow`."""
    sensor: SensorRow | None
    """The newest reading, with where each figure comes from; None before the first."""
    cost: CostView
    text_sample: TextSampleRow | None
    events: tuple[EventRow, ...]
    """The newest, oldest first."""
    checkpoint: CheckpointRow | None
    """The newest."""
    num_checkpoints: int
    gpu_counter_j: float | None = None
    gpu_integrated_j: float | None = None
    """The GPU's energy by its counter and by its power added up, over the lives of the supervisor that knew both; None:
    there was none. Their difference says how far either may be off."""
    thermal: ThermalRow | None = None
    """What heat has cost over all lives of the supervisor (`segment` 0); None: nothing."""
    ramp: tuple[RampRow, ...] = ()
    """The sizes that the batch ramp has tried so far, ascending, while the run is prepared; else none."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the runs screen and of `runs --json`."""

    id: str
    created_at: float
    preset: str
    parameters: int
    is_stale: bool
    status: Status


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one run cost; kept when the run's folder is gone."""

    run_id: str
    at: float
    """When the run reached the state this entry tells of."""
    started_at: float
    state: str
    preset: str
    parameters: int
    device: str
    corpus: str
    tokens: int
    elapsed_s: float
    restarts: int
    loss: float | None
    val_loss: float | None
    val_bits_per_byte: float | None
    gpu_energy_j: float | None
    machine_energy_j: float | None
    energy_source: str | None
    gap_s: float
    price_per_kwh: float
    currency: str
    cost: float | None
    grams_co2: float | None
    storage_bytes: int | None
    gpu_celsius_mean: float | None
    gpu_celsius_max: float | None
    gpu_watts_mean: float | None
    gpu_watts_max: float | None
    cpu_celsius_max: float | None
    machine_watts_mean: float | None
    waivers: str
    """JSON object of check to reason."""
    training_tokens_per_s: float | None = None
    """Of the optimizer steps alone, without preparation, validations, checkpoints and pauses."""
    tokens_total: int | None = None
    """Tokens that the run was planned for."""
    memory_bytes: int | None = None
    """The most that the trainer held: of the device (CUDA, as torch counts) or resident (CPU)."""
    predicted_memory_bytes: int | None = None
    """This and the next five: what the plan said of the whole run as it started."""
    predicted_hours: float | None = None
    predicted_gpu_kwh: float | None = None
    predicted_machine_kwh: float | None = None
    predicted_cost: float | None = None
    predicted_basis: str = ""
    tariff: str = "[]"
    """JSON list of `engine.bill.BookedWindow`: the prices in force and the energy used at each."""
    corpus_bytes: int | None = None
    """This and the next four: the storage book at the time of the entry."""
    shards_bytes: int | None = None
    checkpoints_bytes: int | None = None
    model_bytes: int | None = None
    database_bytes: int | None = None
    days: str = "[]"
    """JSON list of `engine.bill.DayLine`."""
    checks: str = "[]"
    """JSON list of `Check`: the verdicts of the preflight."""
    samples: str = "[]"
    """JSON list of `TextSampleRow`: the first and the last."""
