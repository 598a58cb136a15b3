"""What a caller is told of a run, during it and afterwards: status, history, money, the ledger's entry."""

from __future__ import annotations

import msgspec

from engine.records.plan import CloudQuote, RunPlan
from engine.records.row import (
    CheckpointRow,
    EventRow,
    ProgressRow,
    RampRow,
    RunState,
    SensorRow,
    TextSampleRow,
    ThermalRow,
)


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
    """Over the window."""


class LossPoint(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One point of a loss curve: a stretch of steps, told by its last one, or a validation."""

    tokens: int
    loss: float
    step: int | None = None
    at: float | None = None


class TimeSpan(msgspec.Struct, frozen=True, kw_only=True):
    """The stretch of a run that somebody wants to see, on the axis of `SensorRow.elapsed_s`."""

    width_s: float | None = None
    """None: the whole run."""
    until_s: float | None = None
    """None: up to now, and on with it."""


class ShownSpan(msgspec.Struct, frozen=True, kw_only=True):
    """The stretch of a run that a snapshot shows."""

    from_s: float
    until_s: float
    """Both on the axis of `SensorRow.elapsed_s`; the end may lie a column beyond the newest reading."""
    newest_s: float
    is_whole: bool
    from_at: float | None
    until_at: float | None
    """The same on the wall clock; None: there is no reading."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the sensors are held against. None: no limit."""

    max_gpu_celsius: float | None = None
    """At this temperature the run pauses."""
    resume_gpu_celsius: float | None = None
    """At this one it goes on."""
    gpu_watts: float | None = None
    """The driver's own power limit."""


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
    version: str = ""
    """As in `RunSummary`."""
    span: ShownSpan | None = None
    """What the curves show; None: all there is, of which nothing is known in time."""
    eta_low_s: float | None = None
    eta_high_s: float | None = None
    """The time left at the fastest and at the slowest that this stretch of training went, the latter with a share for
    validations, checkpoints and cooling as it was so far. None: too few steps to tell."""
    corpus_tokens: int | None = None
    """Tokens of the training text: one epoch; None: not known yet."""
    limits: Limits = Limits()


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the runs screen and of `runs --json`."""

    id: str
    created_at: float
    preset: str
    parameters: int
    is_stale: bool
    status: Status
    version: str = ""
    """Of the llm-tui that keeps it, or kept it last; empty: unknown."""
    tags: tuple[str, ...] = ()
    """Words that a person gave it, in their order."""
    archived_at: float | None = None
    """When it was reduced to what is worth keeping; None: it was not."""


class DamagedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that cannot be read, in `runs --json` among the others: it has no status."""

    id: str
    damage: str
    """What is wrong, in a sentence."""
    remedy: str
    status: None = None


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

    @property
    def least_energy_j(self) -> float | None:
        """What the machine used at least: its own figure, else that of its GPU alone; None where neither is known."""
        return self.gpu_energy_j if self.machine_energy_j is None else self.machine_energy_j

    @property
    def least_cost(self) -> float | None:
        """The cost, else that of the energy it used at least."""
        if self.cost is not None or self.least_energy_j is None:
            return self.cost
        return self.least_energy_j / 3.6e6 * self.price_per_kwh

    @property
    def is_partial(self) -> bool:
        """Whether its power was unknown for a time, so that energy and cost are the least they can have been."""
        return self.gap_s >= 1.0

    @property
    def is_energy_floor(self) -> bool:
        """Whether `least_energy_j` is less than what the machine used."""
        return self.is_partial or self.machine_energy_j is None

    @property
    def is_cost_floor(self) -> bool:
        """Whether `least_cost` is less than what it cost."""
        return self.is_partial or self.cost is None
