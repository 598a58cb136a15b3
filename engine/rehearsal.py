"""What a short rehearsal of a run measured on this machine: kept in the workspace, for the plans that follow."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine import cache_file
from engine.records import RunPlan

FILE_NAME = "rehearsal.json"
_MOST_KEPT = 20


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """A few optimizer steps of a plan, timed."""

    at: float
    device: str
    """Raw text from outside."""
    flops_per_token: float
    precision: str
    micro_batch: int
    steps: int
    """Steps that were timed, without the first."""
    tokens_per_s: float
    tokens_per_s_low: float
    tokens_per_s_high: float
    """The slowest and the fastest of those steps."""
    memory_bytes: int | None
    """As `StepRow.memory_bytes`; None: not reported."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One size, proven on the device: a step with the optimizer's state, an evaluation, a save and a load.

    Each memory is the most that was held during that part: of the device, CUDA's context counted in, or of RAM.
    """

    micro_batch: int
    num_recomputed_blocks: int
    step_s: float
    """A whole optimizer step, of `tokens_per_step`: worked out from the fastest micro-step and the update."""
    micro_step_s: float
    update_s: float
    tokens_per_s: float
    """Of such steps, eager: a compiled model is faster by about the same share at every size."""
    step_memory_bytes: int
    evaluate_s: float
    """One batch of a validation."""
    evaluate_memory_bytes: int
    save_s: float
    """A checkpoint: written, synced, read back and hashed."""
    save_memory_bytes: int
    checkpoint_bytes: int
    load_s: float
    """The same found again, verified, and loaded into model and optimizer."""
    load_memory_bytes: int
    memory_bytes: int
    """The most of all parts."""
    budget_bytes: int | None
    """What may be taken and still leave a margin; None: not known."""

    @property
    def fits(self) -> bool | None:
        """Whether a margin is left; None where that is not known."""
        return None if self.budget_bytes is None else self.memory_bytes <= self.budget_bytes


def path_of(workspace: Path) -> Path:
    """Where a workspace keeps its rehearsals."""
    return workspace / "cache" / FILE_NAME


def load(workspace: Path) -> list[Rehearsal]:
    """Every rehearsal that is kept, oldest first; none where the file is absent or damaged: it is only a cache."""
    return cache_file.load(path_of(workspace), Rehearsal)


def newest_for(workspace: Path, plan: RunPlan) -> Rehearsal | None:
    """The newest rehearsal of this very model on this device; None where there is none."""
    fitting = [
        found
        for found in load(workspace)
        if found.device == plan.device.name
        and found.precision == plan.precision
        and abs(found.flops_per_token / plan.shape.flops_per_token - 1) < 1e-6
    ]
    return max(fitting, key=lambda found: found.at, default=None)


def keep(workspace: Path, rehearsal: Rehearsal) -> None:
    """Add a rehearsal to those that are kept. Raises: OSError where the workspace cannot be written."""
    cache_file.keep(path_of(workspace), [*load(workspace), rehearsal][-_MOST_KEPT:])
