"""What is known before a run: the device, the plan, the checks, the programs in the way, what it would cost."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.shape import ModelShape


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
    is_off: bool = False
    """Whether the settings leave it out."""


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
