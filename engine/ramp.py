"""The batch ramp's rules: which size is tried next, when it ends, which is chosen, and what is remembered of it.

The smallest micro-batch is tried first, then larger ones until memory is short or they get slower; the second
counts because on Windows and WSL2 the driver moves what does not fit into system RAM, at a tenth of the speed and
without an error. Nothing here touches torch: the trying is engine/train/ramp.py's.
Source of the spilling: nvidia.custhelp.com, answer 5490, "System Memory Fallback for Stable Diffusion", 2023.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from engine import cache_file
from engine.errors import EngineError
from engine.footprint import memory_parts
from engine.plan import MicroStep
from engine.records import RampRow, RampState, RunPlan
from engine.settings import TrainingSettings
from engine.shape import ModelShape

SLOWER_FRAC = 0.03
"""A size this much below the best so far is slower; two of them in a row end the ramp."""
MUCH_SLOWER_FRAC = 0.20
"""A single one this much below ends it: memory is spilling, or caches are."""
SAME_SPEED_FRAC = 0.02
"""Of sizes as close as this, the smaller is chosen: it leaves more room, and timings are no finer."""
MOST_S = {"cuda": 180.0, "cpu": 60.0}
"""Seconds after which no further size is begun."""
PHASE = "finding the batch size"
"""What a run is doing meanwhile."""
FILE_NAME = "ramp.json"
KEPT_S = 30 * 86_400.0
"""A ramp that is older is made anew: what a machine does meanwhile changes."""
END_FACT = "ramp_end"
"""Fact in a run's store: its newest `RampEnd`."""
SPEED_FACT = "ramp_tokens_per_s"
"""Fact in a run's store: `RampRow.tokens_per_s` of the size that it trains with; absent where none was proven."""
_MOST_KEPT = 50
_MORE_ROOM = 1.1
"""Times the memory of then, from which sizes that were too large are worth another try."""
_TOO_LARGE = ("over-budget", "out-of-memory")
_WORKING = ("proven", "slower")


def next_size(
    sizes: Sequence[MicroStep], rows: Sequence[RampRow], spent_s: float, device_kind: Literal["cuda", "cpu"]
) -> MicroStep | None:
    """The size to try after `rows`; None: the ramp is over.

    Each is at least double the one before: sizes between two differ little in speed. Only where no double one is
    left is what lies between looked at, from the largest down.
    """
    if spent_s >= MOST_S[device_kind] or _is_too_slow(rows) or any(row.state in _ENDING for row in rows):
        return None
    predicted = {(size.micro_batch, size.num_recomputed_blocks): size.memory_bytes for size in sizes}
    tried = {(row.micro_batch, row.num_recomputed_blocks): row.state for row in rows}
    too_large = min(
        (predicted[size] for size, state in tried.items() if state in _TOO_LARGE and size in predicted),
        default=None,
    )
    largest = max((row.micro_batch for row in rows if row.state in _WORKING), default=0)
    # A larger batch that recomputes more may still need less than one that was too large.
    left = [
        size
        for size in sizes
        if (size.micro_batch, size.num_recomputed_blocks) not in tried
        and (too_large is None or size.memory_bytes < too_large)
        and size.micro_batch > largest
    ]
    doubled = next((size for size in left if size.micro_batch >= 2 * largest), None)
    if doubled is not None or (rows and rows[-1].state == "slower"):
        return doubled
    return left[-1] if left else None


_ENDING = ("failed", "killed", "stopped")


def _is_too_slow(rows: Sequence[RampRow]) -> bool:
    if not rows or rows[-1].state != "slower":
        return False
    best = max(row.tokens_per_s or 0.0 for row in rows)
    is_much = (rows[-1].tokens_per_s or 0.0) < best * (1 - MUCH_SLOWER_FRAC)
    return is_much or (len(rows) > 1 and rows[-2].state == "slower")


def judged(row: RampRow, before: Sequence[RampRow]) -> RampRow:
    """A size that worked, with its state: it may leave no margin, or be slower than the best `before` it."""
    state: RampState = "proven"
    best = max((other.tokens_per_s or 0.0 for other in before if other.state in _WORKING), default=0.0)
    if not _fits(row, row.budget_bytes):
        state = "over-budget"
    elif (row.tokens_per_s or 0.0) < best * (1 - SLOWER_FRAC):
        state = "slower"
    return msgspec.structs.replace(row, state=state)


def _fits(row: RampRow, budget_bytes: int | None) -> bool:
    return budget_bytes is None or row.memory_bytes is None or row.memory_bytes <= budget_bytes


def choose(rows: Sequence[RampRow]) -> RampRow | None:
    """The fastest that leaves a margin, the smallest of those that are as fast; None where none was proven."""
    working = [row for row in rows if row.state in _WORKING and row.tokens_per_s]
    best = max((row.tokens_per_s or 0.0 for row in working), default=0.0)
    as_fast = [row for row in working if (row.tokens_per_s or 0.0) >= best * (1 - SAME_SPEED_FRAC)]
    return min(as_fast, key=lambda row: (row.micro_batch, row.num_recomputed_blocks), default=None)


def replan(plan: RunPlan, micro_batch: int, num_recomputed_blocks: int) -> RunPlan:
    """The same plan, cut into other micro-steps: the tokens of a step stay what they are."""
    parts = memory_parts(
        plan.shape,
        device_kind=plan.device.kind,
        precision=plan.precision,
        optimizer=plan.optimizer,
        micro_batch=micro_batch,
        num_recomputed_blocks=num_recomputed_blocks,
    )
    return msgspec.structs.replace(
        plan,
        micro_batch=micro_batch,
        grad_accum=plan.tokens_per_step // (micro_batch * plan.shape.context),
        num_recomputed_blocks=num_recomputed_blocks,
        memory_parts_bytes=parts,
        memory_total_bytes=sum(parts.values()),
    )


class RampEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What a ramp leaves that came to its end by itself; one that was cut short leaves none."""

    ramp: int
    """As `RampRow.ramp`."""
    is_complete: bool
    """False: its time was up, and sizes that were left out may be faster."""


# --- what is remembered ---------------------------------------------------------------------------------------


class RampKey(msgspec.Struct, frozen=True, kw_only=True):
    """All that the result of a ramp depends on, but for the memory that is free."""

    device: str
    """Raw text from outside."""
    identity: str
    num_cores: int
    driver: str | None
    torch: str
    shape: ModelShape
    precision: str
    optimizer: str
    tokens_per_step: int
    activation_checkpointing: str


class KeptRamp(msgspec.Struct, frozen=True, kw_only=True):
    """A ramp that is complete, and came to a choice."""

    at: float
    key: RampKey
    budget_bytes: int | None
    """`RunPlan.memory_budget_bytes` at the time."""
    rows: tuple[RampRow, ...]


def key_of(plan: RunPlan, settings: TrainingSettings, torch_version: str) -> RampKey:
    """What a ramp of this plan is remembered under."""
    return RampKey(
        device=plan.device.name,
        identity=plan.device.identity,
        num_cores=plan.device.num_cores,
        driver=plan.device.driver,
        torch=torch_version,
        shape=plan.shape,
        precision=plan.precision,
        optimizer=plan.optimizer,
        tokens_per_step=plan.tokens_per_step,
        activation_checkpointing=settings.activation_checkpointing,
    )


def path_of(workspace: Path) -> Path:
    """Where a workspace keeps its ramps."""
    return workspace / "cache" / FILE_NAME


def load(workspace: Path) -> list[KeptRamp]:
    """Every ramp that is kept, oldest first; none where the file is absent or damaged: it is only a cache."""
    return cache_file.load(path_of(workspace), KeptRamp)


def recall(workspace: Path, key: RampKey, budget_bytes: int | None) -> tuple[KeptRamp, RampRow] | None:
    """The newest kept ramp of this key and its choice; None where there is none that holds.

    One that is older than `KEPT_S` does not hold, nor one whose choice does not fit today's budget, nor one that
    ended for want of memory, where there is more of it today.
    """
    now = time.time()
    fitting = [kept for kept in load(workspace) if kept.key == key and 0 <= now - kept.at <= KEPT_S]
    if not fitting:
        return None
    newest = fitting[-1]
    if any(row.state in _TOO_LARGE for row in newest.rows) and _has_more(budget_bytes, newest.budget_bytes):
        return None
    chosen = choose(newest.rows)
    return (newest, chosen) if chosen and _fits(chosen, budget_bytes) else None


def _has_more(budget_bytes: int | None, then_bytes: int | None) -> bool:
    if budget_bytes is None or then_bytes is None:
        return budget_bytes != then_bytes
    return budget_bytes > then_bytes * _MORE_ROOM


def keep(workspace: Path, ramp: KeptRamp) -> None:
    """Keep a ramp instead of an older one of its key. Raises: OSError where the workspace cannot be written."""
    others = [kept for kept in load(workspace) if kept.key != ramp.key]
    cache_file.keep(path_of(workspace), [*others, ramp][-_MOST_KEPT:])


# --- in words -------------------------------------------------------------------------------------------------


def phase_text(phase: str, rows: Sequence[RampRow]) -> str:
    """A phase with the size that is being tried, where one is."""
    if phase != PHASE or not rows or rows[-1].state != "trying":
        return phase
    return f"{phase}: {sequences_text(rows[-1].micro_batch)}"


def sequences_text(number: int) -> str:
    """A micro-batch in words."""
    return "1 sequence" if number == 1 else f"{number:,} sequences"


def size_text(row: RampRow) -> str:
    """What was tried, in a few words."""
    sequences = sequences_text(row.micro_batch)
    blocks = "1 block" if row.num_recomputed_blocks == 1 else f"{row.num_recomputed_blocks} blocks"
    return f"{sequences} at a time" + (f", {blocks} recomputed" if row.num_recomputed_blocks else "")


def result_text(row: RampRow) -> str:
    """What came of a size, as one sentence."""
    text = f"Tried {size_text(row)}: {_OUTCOMES[row.state]}"
    if row.tokens_per_s is not None:
        text += f", {row.tokens_per_s:,.0f} tokens/s"
    if row.memory_bytes is not None:
        of = "" if row.budget_bytes is None else f" of {_mib(row.budget_bytes)}"
        text += f", at most {_mib(row.memory_bytes)}{of}"
    return f"{text}. {row.note}".rstrip() if row.note else f"{text}."


def choice_text(chosen: RampRow, plan: RunPlan) -> str:
    """The choice with its numbers, as one sentence; `plan` is the one that follows it."""
    times = "once" if plan.grad_accum == 1 else f"{plan.grad_accum:,} times"
    text = f"{size_text(chosen)}, {times} a step: {chosen.tokens_per_s or 0:,.0f} tokens/s"
    if chosen.memory_bytes is not None and chosen.budget_bytes is not None:
        text += f", {_mib(chosen.budget_bytes - chosen.memory_bytes)} to spare"
    return f"{text}."


_OUTCOMES = {
    "proven": "works",
    "slower": "works, but slower",
    "over-budget": "leaves no margin",
    "out-of-memory": "out of memory",
    "failed": "failed",
    "killed": "came to no end",
    "stopped": "stopped",
    "trying": "not done",
}


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"


def no_room(plan: RunPlan, micro_batch: int, reason: str) -> EngineError:
    """What is said where the device has no room for a size."""
    what = "a single sequence" if micro_batch == 1 else sequences_text(micro_batch)
    return EngineError(
        f"{plan.device.name} has no room for {what} of {plan.shape.context} tokens: {reason}",
        "Free its memory, or choose a smaller model.context or model.preset.",
    )
