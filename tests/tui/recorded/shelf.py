"""Runs beside each other, and what of one may go."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import EngineError
from engine.records import RunSnapshot, RunState
from engine.shelf import Comparison, Difference, Removal, RemovalKind, RunCurves
from tests.tui.recorded.events import CHECKPOINT_BYTES

_OTHER_BYTES = 800_000


def removal(shot: RunSnapshot, run_id: str, kind: RemovalKind) -> Removal:
    """What archiving or deleting a run would free, worded as the engine does. Raises: EngineError where it is going."""
    if not shot.status.state.is_over:
        raise EngineError(f"Run {run_id} is going.", f"Stop it first: llm-tui stop {run_id}")
    is_finished = shot.status.state is RunState.FINISHED
    one_bytes = CHECKPOINT_BYTES[shot.plan.preset]
    if kind == "delete":
        model_bytes = 4 * shot.plan.shape.parameters if is_finished else 0
        return Removal(
            run_id=run_id,
            kind=kind,
            freed_bytes=shot.num_checkpoints * one_bytes + model_bytes + _OTHER_BYTES,
            goes="the whole folder: checkpoints, model, settings, curves, samples and log",
            stays="its line in the ledger and in TRAINING.md",
        )
    num_going = shot.num_checkpoints if is_finished else max(0, shot.num_checkpoints - 1)
    kept = "model" if is_finished else "newest checkpoint"
    return Removal(
        run_id=run_id,
        kind=kind,
        freed_bytes=num_going * one_bytes,
        goes=f"{num_going} {'checkpoint' if num_going == 1 else 'checkpoints'}",
        stays=f"its {kept}, settings, curves, samples and log",
    )


def comparison(shots: Sequence[RunSnapshot], tags: Sequence[tuple[str, ...]]) -> Comparison:
    """Some runs, and in what they differ."""
    num = len(shots)
    curves = tuple(
        RunCurves(
            run_id=shot.status.id,
            state=shot.status.state,
            tags=given,
            tokens=shot.status.tokens,
            tokens_total=shot.status.tokens_total,
            loss=shot.status.loss,
            val_loss=shot.status.val_loss,
            val_bits_per_byte=shot.status.val_bits_per_byte,
            elapsed_s=shot.status.elapsed_s,
            machine_energy_j=shot.status.machine_energy_j,
            cost=shot.status.cost,
            currency=shot.status.currency,
            train_losses=shot.train_losses,
            val_losses=shot.val_losses,
        )
        for shot, given in zip(shots, tags, strict=True)
    )
    differences = (
        Difference(key="training.learning_rate", values=tuple(f"{0.004 / (n + 1):g}" for n in range(num))),
        Difference(key="training.optimizer", values=("muon", *["adamw"] * (num - 1))),
        Difference(key="corpus.source", values=("builtin:python", *["texts"] * (num - 1))),
    )
    return Comparison(runs=curves, differences=differences)
