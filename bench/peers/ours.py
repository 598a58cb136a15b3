"""Ours: plan, Decoder, OptimizerSet, Stepper and journal as a run has them, compiled as a run is."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bench.peers import gate as the
from bench.peers.gate import Gate, batches
from engine.plan import make_plan
from engine.records import Device
from engine.settings import ModelSettings, Settings, TrainingSettings
from engine.train.data import Position
from engine.train.device import Accelerator, compile_blocks
from engine.train.journal import Journal
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet, learning_rate_frac
from engine.train.step import Stepper

_STEPS = 1_000_000


class _Tokens:
    """The same pool of ids as the peers', as the trainer reads a corpus."""

    def __init__(self) -> None:
        self._ids = torch.cat(list(itertools.islice(batches(), 64))).flatten().numpy().astype(np.uint16)

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, length: int) -> np.ndarray:
        return self._ids[start : start + length]


def run(gate: Gate, *, optimizer: Literal["adamw", "muon"], is_compiled: bool) -> None:
    """Train until the gate says that it is over."""
    training = TrainingSettings(
        optimizer=optimizer,
        precision="bf16",
        tokens_per_step=the.TOKENS_PER_STEP,
        micro_batch=the.BATCH,
        learning_rate=the.LEARNING_RATE,
        gradient_clip=the.CLIP,
        weight_decay=the.WEIGHT_DECAY,
    )
    device = Device(kind="cpu", name="a processor", identity="cpu", total_bytes=None, free_bytes=None)
    plan = make_plan(Settings(model=ModelSettings(preset="15m"), training=training), device)
    accelerator = Accelerator(plan)
    model = Decoder(plan.shape)
    model.initialise(training.seed)
    gate.parameters = sum(parameter.numel() for parameter in model.parameters())
    optimizers = OptimizerSet(model, plan.optimizer, plan.learning_rate, training.weight_decay)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "run.db")
        stepper = Stepper(model, optimizers, accelerator, plan, training, _Tokens(), journal)
        try:
            if is_compiled:
                reason = compile_blocks(model, accelerator, plan.micro_batch)
                assert reason is None, reason
            _train(gate, stepper, optimizers)
        finally:
            stepper.close()
            journal.close()


def _train(gate: Gate, stepper: Stepper, optimizers: OptimizerSet) -> None:
    position = Position()
    stepper.begin(position)
    for step in itertools.count(1):
        gate.step()
        optimizers.set_rate(learning_rate_frac(step, _STEPS, 0.0001, 0.4))
        result = stepper.step(position, step, lambda: 0.0)
        if result.is_skipped:
            sys.exit("a step was not finite")
        position = stepper.order.advance(position, stepper.windows_per_step)
