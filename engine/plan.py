"""The plan of a run: everything that `auto` stands for in the settings, resolved for one device.

Nothing here touches torch or the device: the same settings and the same `Device` give the same plan, apart from
`compile`, which also asks whether the machine has a C++ compiler, and `precision` on a CPU, which asks for its
instruction sets.
"""

from __future__ import annotations

import os
import shutil
from typing import Literal

import msgspec

from engine.chips import cpu_class, cpu_flags, memory_traffic, throughput
from engine.errors import SettingsError
from engine.footprint import Precision, memory_parts
from engine.records import Device, RunPlan
from engine.settings import ModelSettings, Settings, TrainingSettings
from engine.shape import DEFAULTS, PRESETS, ModelShape

GIB = 2**30
FOUR_GB_CARD_BYTES = int(3.6 * GIB)
"""What a card sold with 4 GB has at least: it reports 3.8 to 4.0 GiB, less where the firmware keeps some."""
CUDA_MARGIN_FRAC = 0.05
"""Share of the free VRAM left alone, for the allocator's fragments and the formula's error; measured peaks keep it
of what is free at that time."""
CPU_MARGIN_FRAC = 0.20
"""Share of the free RAM left to everything else on the machine."""
CPU_MICRO_STEP_TOKENS = 4_096
"""On a CPU a larger micro-step does not pay: from 1,024 to 4,096 tokens the speed was the same, at 8,192 a tenth
less (15m, eager bf16, AMX)."""
CUDA_MICRO_STEP_TOKENS = 65_536
"""On a GPU a larger one gains nothing more: parameter traffic is below 1 % of the step by then."""
GOOD_MICRO_BATCH = 8
"""Sequences at a time to begin with on a GPU whose free memory is unknown."""
SAME_PREDICTED_FRAC = 0.15
"""Predicted speeds that differ by less count as equal: the share of its peak that a device reaches is known no better,
and what the formula leaves out (launches, kernels too small to fill a GPU) speaks against small micro-steps."""
FULL_MICRO_STEP_TOKENS = {"cuda": 8_192, "cpu": 4_096}
"""Micro-steps from which on none of that counts any more, so that of equals the fastest by formula is taken."""
HALF_TRAFFIC_BYTES = 30
"""Bytes a parameter that a micro-step moves whatever its size: 4 read and 2 written for the half-precision copy, read
twice (4), its gradient written and read (2 + 2), made fp32 (4), and added to the sum of gradients (4 + 4 + 4)."""
FP32_TRAFFIC_BYTES = 24
"""The same without copies: read twice (8), the gradient written (4) and added (4 + 4 + 4)."""
NUM_SIZES_BEYOND = 2
"""Sizes to try beyond what fits by formula, which may be wrong."""
MOST_PASSES = 40
"""Passes over the corpus beyond which repeating it taught nothing. Source: arXiv 2305.16264, figure 5."""
COMPILE_PAYS_S = {"cuda": 600.0, "cpu": 1800.0}
"""Seconds of a run from which compiling (1 to 2 min, for 4 to 19 % on a CPU, more on a GPU) pays."""
COMPILE_PAYS_FLOP = 1e16
"""The same on a GPU that is not in the table."""


class MicroStep(msgspec.Struct, frozen=True, kw_only=True):
    """One way to cut a step into micro-steps."""

    micro_batch: int
    """Sequences at a time."""
    num_recomputed_blocks: int
    memory_bytes: int
    """Predicted, at the peak of a step."""
    tokens_per_s_frac: float
    """Predicted speed relative to the fastest of those it was weighed against, above 0 up to 1."""


def make_plan(settings: Settings, device: Device, training_tokens_hint: int | None = None) -> RunPlan:
    """Resolve every `auto` for a device.

    `training_tokens_hint` is how many tokens the corpus has for training, None where that is not known yet; it
    only lowers `training.tokens = "auto"`, to `MOST_PASSES` passes.
    Raises: SettingsError where settings contradict each other, with key, value and remedy.
    """
    preset = _preset(settings.model, device)
    shape = _shape(settings.model, preset)
    training = settings.training
    precision = _precision(training, device)
    tokens_per_step = _tokens_per_step(training, preset, shape)
    tokens_total = _tokens_total(training, preset, tokens_per_step, training_tokens_hint)
    budget_bytes = _budget_bytes(settings, device)
    search = _Search(
        shape, device, precision, training.optimizer, tokens_per_step // shape.context, budget_bytes
    )
    chosen = search.choose(training)
    micro_batch = chosen.micro_batch
    parts = search.parts(micro_batch, chosen.num_recomputed_blocks)
    return RunPlan(
        preset=preset,
        shape=shape,
        device=device,
        precision=precision,
        optimizer=training.optimizer,
        learning_rate=(
            DEFAULTS[preset].learning_rate if training.learning_rate == "auto" else training.learning_rate
        ),
        tokens_total=tokens_total,
        tokens_per_step=tokens_per_step,
        micro_batch=micro_batch,
        grad_accum=tokens_per_step // (micro_batch * shape.context),
        steps=tokens_total // tokens_per_step,
        is_compiled=_is_compiled(training, device, tokens_total * shape.flops_per_token),
        num_recomputed_blocks=chosen.num_recomputed_blocks,
        memory_parts_bytes=parts,
        memory_total_bytes=sum(parts.values()),
        memory_budget_bytes=budget_bytes,
    )


def sizes_to_try(plan: RunPlan, settings: TrainingSettings) -> tuple[MicroStep, ...]:
    """The micro-steps that are worth a try on the device itself, by ascending size.

    Each recomputes the fewest blocks that fit the budget by formula; up to `NUM_SIZES_BEYOND` of them are larger
    than what fits by it, with everything recomputed that the settings let be. A size that was set is the only one.
    """
    search = _Search(
        plan.shape,
        plan.device,
        plan.precision,
        plan.optimizer,
        plan.tokens_per_step // plan.shape.context,
        plan.memory_budget_bytes,
    )
    found = search.candidates(settings)
    return found[: search.num_fitting(found) + NUM_SIZES_BEYOND]


def _preset(model: ModelSettings, device: Device) -> str:
    if model.preset != "auto":
        return model.preset
    if device.kind == "cpu":
        return "tiny"
    return "134m" if (device.total_bytes or 0) >= FOUR_GB_CARD_BYTES else "45m"


def _shape(model: ModelSettings, preset: str) -> ModelShape:
    """The preset with what the settings override, checked for consistency."""
    base = PRESETS[preset]
    n_head = _or(model.n_head, base.n_head)
    # A preset's grouped heads follow an overridden n_head; only a number that was asked for is held to.
    preset_n_kv_head = base.n_kv_head if n_head % base.n_kv_head == 0 else n_head
    shape = ModelShape(
        vocab_size=_or(model.vocab_size, base.vocab_size),
        n_layer=_or(model.n_layer, base.n_layer),
        n_head=n_head,
        n_kv_head=_or(model.n_kv_head, preset_n_kv_head),
        n_embd=_or(model.n_embd, base.n_embd),
        intermediate=_or(model.intermediate, base.intermediate),
        context=_or(model.context, base.context),
        tie_embeddings=base.tie_embeddings if model.tie_embeddings is None else model.tie_embeddings,
    )
    _check_shape(shape)
    return shape


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _check_shape(shape: ModelShape) -> None:
    if shape.n_embd % shape.n_head:
        raise SettingsError(
            f"model.n_head = {shape.n_head} does not divide model.n_embd = {shape.n_embd}.",
            f"Set model.n_embd to {_next_multiple(shape.n_embd, 2 * shape.n_head)}, or model.n_head to one of "
            f"{_divisors_for_heads(shape.n_embd)}.",
        )
    if shape.head_dim % 2:
        raise SettingsError(
            f"model.n_embd = {shape.n_embd} over model.n_head = {shape.n_head} gives heads of {shape.head_dim}, "
            "an odd width, which rotary positions cannot pair.",
            f"Set model.n_embd to {_next_multiple(shape.n_embd, 2 * shape.n_head)}.",
        )
    if shape.n_head % shape.n_kv_head:
        fitting = ", ".join(str(n) for n in range(1, shape.n_head + 1) if shape.n_head % n == 0)
        raise SettingsError(
            f"model.n_kv_head = {shape.n_kv_head} does not divide model.n_head = {shape.n_head}.",
            f"Set model.n_kv_head to one of {fitting}.",
        )


def _next_multiple(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _divisors_for_heads(n_embd: int) -> str:
    fitting = [n for n in range(1, min(n_embd // 2, 256) + 1) if n_embd % n == 0 and (n_embd // n) % 2 == 0]
    return ", ".join(str(n) for n in fitting[-8:]) or "none: an odd width has no even heads"


def _precision(training: TrainingSettings, device: Device) -> Precision:
    """`auto` is bf16 wherever it is at least as fast as fp32, fp16 on an older GPU, fp32 on an older CPU."""
    if training.precision == "fp16" and device.kind == "cpu":
        raise SettingsError(
            'training.precision = "fp16" needs a GPU: CPUs are slower with it than without.',
            'Set training.precision to "auto" or "bf16".',
        )
    if training.precision != "auto":
        return training.precision
    if device.kind == "cuda":
        return "bf16" if device.capability is not None and device.capability >= (8, 0) else "fp16"
    # A system that hides its instruction sets gets bf16: it takes half the memory, and most CPUs since 2017 do well.
    flags = cpu_flags()
    return "bf16" if not flags or cpu_class(flags).has_fast_bf16 else "fp32"


def _tokens_per_step(training: TrainingSettings, preset: str, shape: ModelShape) -> int:
    """Whole sequences, and whole micro-batches where both are set; what was not set is rounded up to them."""
    is_auto = training.tokens_per_step == "auto"
    asked = (
        DEFAULTS[preset].tokens_per_step if training.tokens_per_step == "auto" else training.tokens_per_step
    )
    rounded = _next_multiple(asked, shape.context)
    if training.micro_batch == "auto":
        return rounded
    unit = training.micro_batch * shape.context
    fitting = _next_multiple(asked, unit)
    if not is_auto and fitting != rounded:
        raise SettingsError(
            f"training.micro_batch = {training.micro_batch} does not divide a step: training.tokens_per_step = "
            f"{asked} is {rounded // shape.context} sequences of {shape.context} tokens.",
            f"Set training.micro_batch to a divisor of {rounded // shape.context}, or "
            f"training.tokens_per_step to {fitting}.",
        )
    return fitting


def _tokens_total(training: TrainingSettings, preset: str, tokens_per_step: int, hint: int | None) -> int:
    if training.tokens == "auto":
        asked = DEFAULTS[preset].tokens
        if hint is not None:
            asked = min(asked, max(1, hint) * MOST_PASSES)
    else:
        asked = training.tokens
    return _next_multiple(max(asked, 1), tokens_per_step)


def _budget_bytes(settings: Settings, device: Device) -> int | None:
    """What the run may take of the device's memory; None where its free memory is unknown and no limit is set."""
    if settings.limits.vram_budget_gib:
        return int(settings.limits.vram_budget_gib * GIB)
    if device.free_bytes is None:
        return None
    margin = CUDA_MARGIN_FRAC if device.kind == "cuda" else CPU_MARGIN_FRAC
    return int(device.free_bytes * (1 - margin))


class _Search:
    """Weighs how many sequences to take at a time against how many blocks must then be recomputed."""

    def __init__(
        self,
        shape: ModelShape,
        device: Device,
        precision: Precision,
        optimizer: Literal["muon", "adamw"],
        num_sequences: int,
        budget_bytes: int | None,
    ) -> None:
        self._shape = shape
        self._device = device
        self._precision: Precision = precision
        self._optimizer: Literal["muon", "adamw"] = optimizer
        self._budget_bytes = budget_bytes
        self._num_sequences = num_sequences
        most_tokens = CPU_MICRO_STEP_TOKENS if device.kind == "cpu" else CUDA_MICRO_STEP_TOKENS
        most = min(num_sequences, max(1, most_tokens // shape.context))
        self._sizes = [n for n in range(1, most + 1) if num_sequences % n == 0]
        """Divisors of a step's sequences, ascending; 1 is always among them."""

    def parts(self, micro_batch: int, num_recomputed_blocks: int) -> dict[str, int]:
        return memory_parts(
            self._shape,
            device_kind=self._device.kind,
            precision=self._precision,
            optimizer=self._optimizer,
            micro_batch=micro_batch,
            num_recomputed_blocks=num_recomputed_blocks,
        )

    def choose(self, training: TrainingSettings) -> MicroStep:
        """The fastest that fits; micro-batch 1 where nothing does, which the plan then tells."""
        found = self.candidates(training)
        fitting = found[: max(1, self.num_fitting(found))]
        fastest = max(step.tokens_per_s_frac for step in fitting)
        as_fast = [step for step in fitting if step.tokens_per_s_frac >= fastest * (1 - SAME_PREDICTED_FRAC)]
        full = FULL_MICRO_STEP_TOKENS[self._device.kind]
        return max(
            as_fast,
            key=lambda step: (min(full, step.micro_batch * self._shape.context), step.tokens_per_s_frac),
        )

    def candidates(self, training: TrainingSettings) -> tuple[MicroStep, ...]:
        """Every size that the settings allow, ascending, each with the fewest recomputed blocks that fit.

        All that may be are recomputed where even then it does not fit.
        """
        sizes = self._sizes if training.micro_batch == "auto" else [training.micro_batch]
        layers = self._shape.n_layer
        numbers = {"on": [layers], "off": [0], "auto": range(layers + 1)}[training.activation_checkpointing]
        found = []
        for size in sizes:
            by_number = {n: sum(self.parts(size, n).values()) for n in numbers}
            budget = self._budget_bytes
            chosen = next((n for n in numbers if budget is None or by_number[n] <= budget), numbers[-1])
            found.append((size, chosen, by_number[chosen]))
        seconds = [self._seconds(size, number) for size, number, _ in found]
        return tuple(
            MicroStep(
                micro_batch=size,
                num_recomputed_blocks=number,
                memory_bytes=memory_bytes,
                tokens_per_s_frac=min(seconds) / taken,
            )
            for (size, number, memory_bytes), taken in zip(found, seconds, strict=True)
        )

    def num_fitting(self, found: tuple[MicroStep, ...]) -> int:
        """How many of them are known to fit; where a GPU's free memory is unknown, those up to a good size."""
        if self._budget_bytes is not None:
            return sum(step.memory_bytes <= self._budget_bytes for step in found)
        if self._device.kind == "cpu":
            return len(found)
        return sum(step.micro_batch <= GOOD_MICRO_BATCH for step in found)

    def _seconds(self, micro_batch: int, num_recomputed_blocks: int) -> float:
        """Of a step without its optimizer, in no particular unit where the device's speed is unknown."""
        shape = self._shape
        tokens = self._num_sequences * shape.context
        flop = shape.flops_per_token + num_recomputed_blocks * shape.block_forward_flops_per_token
        moved = memory_traffic(self._device)
        traffic_bytes = shape.parameters * (
            FP32_TRAFFIC_BYTES if self._precision == "fp32" else HALF_TRAFFIC_BYTES
        )
        num_micro_steps = self._num_sequences / micro_batch
        return tokens * flop + num_micro_steps * traffic_bytes * moved.flop_per_byte


def _is_compiled(training: TrainingSettings, device: Device, run_flop: float) -> bool:
    """`auto`: where the predicted run is long enough to pay for it, and a compiler is there to do it."""
    if training.compile != "auto":
        return training.compile == "on"
    if why_not_compilable(device):
        return False
    flops = throughput(device).flops
    if flops is None:
        return run_flop >= COMPILE_PAYS_FLOP
    return run_flop / flops >= COMPILE_PAYS_S[device.kind]


def with_measured_speed(plan: RunPlan, training: TrainingSettings, tokens_per_s: float) -> RunPlan:
    """The same plan, with `compile = "auto"` decided by a speed that was measured rather than by formula."""
    if training.compile != "auto":
        return plan
    is_long = plan.tokens_total / tokens_per_s >= COMPILE_PAYS_S[plan.device.kind]
    return msgspec.structs.replace(plan, is_compiled=is_long and not why_not_compilable(plan.device))


def why_not_compilable(device: Device) -> str | None:
    """What keeps a model from being compiled for a device, as the end of a sentence; None: nothing."""
    if not has_compiler():
        return "it takes a C++ compiler, and neither g++ nor clang++ was found"
    if device.kind == "cuda" and (device.capability or (0, 0)) < (7, 0):
        return "Triton, which does it, needs a GPU of compute capability 7.0 or later"
    return None


def has_compiler() -> bool:
    """Whether torch.compile would find what it calls: a C++ compiler on a CPU, and Triton a C compiler."""
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))
