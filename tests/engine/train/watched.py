"""A training that tests look into, and what it left in its run."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from engine.errors import TrainerExit
from engine.records import EventRow, StepRow
from engine.runs.folder import RunFolder
from engine.train.checkpoint import verify
from engine.train.data import Position
from engine.train.journal import Journal
from engine.train.loop import Training
from engine.train.tensorfile import read_tensors


class Watched(Training):
    """A training to which something happens before some of its steps, and which saves where it is told to."""

    def __init__(self, run: RunFolder, saves_at: tuple[int, ...] = ()) -> None:
        super().__init__(run, Journal(run.store_path), os.getppid())
        self.saves_at = saves_at
        self.happens: Callable[[], None] = lambda: None
        self.seen: list[tuple[int, float, Position]] = []

    def do_what_is_due(self) -> None:
        self.seen.append((self.step, self.optimizer.learning_rate, self.position))
        if self.step in self.saves_at:
            self.save()
        self.happens()

    def break_gradient_once(self) -> None:
        """The next gradient of the head is not finite."""

        def broken(grad: torch.Tensor) -> torch.Tensor:
            handle.remove()
            return grad * torch.nan

        handle = self.model.lm_head.weight.register_hook(broken)

    def poison(self) -> None:
        with torch.no_grad():
            self.model.model.norm.weight[0] = torch.nan

    def go(self) -> TrainerExit:
        try:
            return self.run()
        finally:
            self.journal.close()


def events(run: RunFolder, kind: str) -> list[EventRow]:
    store = run.open()
    found = [event for event in store.rows(EventRow) if event.kind == kind]
    store.close()
    return found


def step_rows(run: RunFolder) -> list[StepRow]:
    store = run.open()
    rows = store.rows(StepRow, "ORDER BY step")
    store.close()
    return rows


def good_steps(run: RunFolder) -> list[int]:
    """Steps of the checkpoints, every one of which must be good and hold finite weights."""
    found = []
    for folder in run.checkpoints.glob("step-*"):
        checkpoint = verify(folder)
        found.append(checkpoint.state.step)
        tensors = [
            t for name in ("model", "optimizer") for _, t in read_tensors(folder / f"{name}.safetensors")
        ]
        assert all(tensor.isfinite().all() for tensor in tensors)
    return sorted(found)
