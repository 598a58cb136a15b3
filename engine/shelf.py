"""Runs beside each other, and what of them may go: records alone."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.records import LossPoint, RunState

RemovalKind = Literal["archive", "delete"]


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What archiving or deleting a run would do, or has done."""

    run_id: str
    kind: RemovalKind
    freed_bytes: int
    goes: str
    """What is removed, in words."""
    stays: str


class RunCurves(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a comparison."""

    run_id: str
    state: RunState
    tags: tuple[str, ...]
    tokens: int | None
    tokens_total: int
    loss: float | None
    val_loss: float | None
    val_bits_per_byte: float | None
    elapsed_s: float | None
    machine_energy_j: float | None
    cost: float | None
    currency: str
    train_losses: tuple[LossPoint, ...]
    val_losses: tuple[LossPoint, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, or a fact of the plan, in which the runs of a comparison differ."""

    key: str
    """Dotted as in settings.toml; `plan.…` is what `auto` came to."""
    values: tuple[str, ...]
    """In the order of the runs; raw text from outside; empty: not set."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Some runs, and in what they differ."""

    runs: tuple[RunCurves, ...]
    differences: tuple[Difference, ...]
