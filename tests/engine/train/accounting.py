"""Counts every tensor of a training step that never happens: the real engine under torch's FakeTensorMode.

Fake tensors have shapes and no storage, so that the 134m preset is counted in seconds and without its memory. Autograd
refuses fake tensors that call themselves "cuda" in a build without it; a GPU's run is counted on the CPU with what its
own operations keep: the fused RMSNorm, the log-softmax that reads half precision, the loss's chunks, and flash
attention, of which the CPU's keeps the same tensors (q, k, v, the result, a logsumexp). Not counted, since no tensor of
torch's: what a kernel takes for itself, the allocator's fragments, and the CUDA context. Neither is a compiled step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from engine.footprint import CHUNK_LOGITS, Precision
from engine.records import RunPlan
from engine.shape import ModelShape
from engine.train import attention, loss, model
from engine.train.device import Accelerator, forward_backward
from engine.train.optim import OptimizerSet, clip_gradients
from tests.engine.train.conftest import make_plan


class PeakTracker(MemTracker):
    """Without the peaks of each module, which take most of its time."""

    def _update_peak_stats(self, peak_state: object) -> None:
        for device, snapshot in self._curr_mem_snap.items():
            self._peak_mem[device] = max(self._peak_mem.get(device, 0), snapshot["Total"])

    def take_peak(self) -> int:
        """Most bytes on the CPU since it was asked last."""
        return int(self._peak_mem.pop(torch.device("cpu")))


class Case(NamedTuple):
    """What is trained, and how."""

    shape: ModelShape
    kind: Literal["cuda", "cpu"]
    precision: Precision
    optimizer: Literal["muon", "adamw"]
    micro_batch: int
    num_recomputed_blocks: int
    num_micro_steps: int = 2


def peak_bytes(case: Case) -> int:
    """Most bytes that tensors take at once in the second optimizer step, when all states and gradients exist."""
    plan = make_plan(precision=case.precision, shape=case.shape, optimizer=case.optimizer)
    with _fake(case.kind):
        decoder, optimizer, accelerator = make(plan, case.num_recomputed_blocks)
        tracker = PeakTracker()
        tracker.track_external(decoder)
        ids = torch.zeros(case.micro_batch, case.shape.context, dtype=torch.int64)
        with tracker:
            train(decoder, optimizer, accelerator, ids, 1, tracker)
            tracker.take_peak()
            train(decoder, optimizer, accelerator, ids, case.num_micro_steps, tracker)
        return tracker.take_peak()


def make(plan: RunPlan, num_recomputed_blocks: int) -> tuple[model.Decoder, OptimizerSet, Accelerator]:
    """The parts of a trainer, which sets the precision of products for its whole process: set back here."""
    precision = torch.get_float32_matmul_precision()
    decoder = model.Decoder(plan.shape, num_recomputed_blocks=num_recomputed_blocks)
    decoder.train()
    parts = decoder, OptimizerSet(decoder, plan.optimizer, plan.learning_rate, 0.1), Accelerator(plan)
    torch.set_float32_matmul_precision(precision)
    return parts


def train(
    decoder: model.Decoder,
    optimizer: OptimizerSet,
    accelerator: Accelerator,
    ids: Tensor,
    num_micro_steps: int,
    tracker: MemTracker,
) -> None:
    """One optimizer step as `engine.train.step` does it."""
    total = torch.zeros(())
    for _ in range(num_micro_steps):
        tracker.reset_mod_stats()
        total += forward_backward(decoder, accelerator, ids, ids, 1.0)
    clip_gradients(decoder, 1.0)
    for each in optimizer.optimizers:
        each.step()
    optimizer.zero_grad()


@contextmanager
def _fake(kind: Literal["cuda", "cpu"]) -> Iterator[None]:
    with ExitStack() as stack:
        if kind == "cuda":
            stack.enter_context(mock.patch.object(model._RMSNormOnCpu, "apply", _fused_norm))
            stack.enter_context(mock.patch.object(loss, "CPU_CHUNK_LOGITS", CHUNK_LOGITS))
            stack.enter_context(mock.patch.object(torch, "log_softmax", _fused_log_softmax))
            stack.enter_context(mock.patch.object(loss, "is_half_on_cpu", lambda _: False))
            stack.enter_context(mock.patch.object(attention, "MOST_SCORES", 0))
        stack.enter_context(FakeTensorMode())
        yield


class _FusedNorm(torch.autograd.Function):
    """What CUDA's fused RMSNorm takes and keeps: its input and a scale a row. What it computes has no value here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, torch.empty_like(x[..., :1]))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight)


def _fused_log_softmax(logits: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """CUDA's reads half precision and writes fp32; a CPU converts first."""
    return torch.empty_like(logits, dtype=dtype)


def _fused_norm(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    normed: Tensor = _FusedNorm.apply(x.float(), weight)  # type: ignore[no-untyped-call]
    return normed.to(dtype)
