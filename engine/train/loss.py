"""Cross-entropy from hidden states, without the full logits.

The logits of 4,096 tokens of a vocabulary of 32,000 are 500 MiB, and their gradient as much again. Here a chunk
of tokens at a time goes through the head, and its gradients are taken at once, so that no more than one chunk's
logits exist. Written by hand because torch 2.13's `F.linear_cross_entropy` returned a wrong loss in bf16 on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 2**24
"""Logits that exist at a time: a few bytes each while a chunk is worked on."""
CPU_CHUNK_LOGITS = 2**22
"""The same on a CPU, where fewer stay in its caches and 4 % of a step's time is saved."""


def cross_entropy_sum(
    hidden: Tensor, head: Tensor, targets: Tensor, chunk_logits: int | None = None
) -> Tensor:
    """Sum over all tokens of the cross-entropy in nats, an fp32 scalar.

    `hidden` (N, D), `head` (V, D), `targets` (N,) int64. Under autocast the matrix products run in its dtype;
    softmax and sum are always fp32, but on a CPU in bf16 with gradients the probabilities are rounded once. Divide by
    the number of tokens for the mean. `chunk_logits` None: what suits the device.
    """
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    if chunk_logits is None:
        chunk_logits = CPU_CHUNK_LOGITS if hidden.device.type == "cpu" else CHUNK_LOGITS
    chunk = max(1, chunk_logits // head.shape[0])
    with torch.autocast(hidden.device.type, enabled=False):
        if torch.is_grad_enabled():
            total: Tensor = _ChunkedCrossEntropy.apply(hidden, head, targets, chunk, dtype)  # type: ignore[no-untyped-call]
            return total
        matrix, rows = head.to(dtype), hidden.to(dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, rows.shape[0], chunk):
            total += _chunk_loss(rows[start : start + chunk], matrix, targets[start : start + chunk])[0]
        return total


def _chunk_loss(rows: Tensor, matrix: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of a chunk's losses, and its log-probabilities (C, V) in fp32."""
    log_probs = torch.log_softmax(rows @ matrix.T, dim=-1, dtype=torch.float32)  # (C, V)
    return -log_probs.gather(1, targets[:, None]).sum(), log_probs


def _chunk_slope(rows: Tensor, matrix: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of a chunk's losses, and d loss / d logits (C, V) in the products' format.

    It is softmax - one-hot: between -1 and 1, so that half precision holds it unscaled.
    """
    if is_half_on_cpu(rows):
        return _chunk_slope_in_half(rows, matrix, targets)
    loss, log_probs = _chunk_loss(rows, matrix, targets)
    slope = log_probs.exp_().scatter_add_(1, targets[:, None], torch.full_like(log_probs[:, :1], -1.0))
    return loss, slope.to(rows.dtype)


def is_half_on_cpu(rows: Tensor) -> bool:
    """Whether a CPU computes in bf16."""
    return rows.device.type == "cpu" and rows.dtype == torch.bfloat16


def _chunk_slope_in_half(rows: Tensor, matrix: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same in a third of the time: a softmax that is summed in fp32 and written in bf16, as the slope is anyway.

    A token's loss is off by up to 2^-9, either way; by less than the rounding of the logits makes it, and the mean of
    2,048 by 0.00003.
    """
    slope = torch.softmax(rows @ matrix.T, dim=-1)  # (C, V)
    index = torch.arange(rows.shape[0])
    chosen = slope[index, targets].float()  # (C,)
    slope[index, targets] = (chosen - 1.0).to(slope.dtype)
    least = torch.finfo(
        torch.float32
    ).tiny  # a probability may be rounded to nothing, its loss is still finite
    return -chosen.clamp_min(least).log().sum(), slope


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Takes the gradients of the sum in the forward pass; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, chunk: int, dtype: torch.dtype
    ) -> Tensor:
        matrix, rows = head.to(dtype), hidden.to(dtype)  # (V, D), (N, D)
        total = hidden.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(rows)
        grad_head = torch.zeros_like(head, dtype=torch.float32)
        for start in range(0, rows.shape[0], chunk):
            part, target = rows[start : start + chunk], targets[start : start + chunk]
            loss, slope = _chunk_slope(part, matrix, target)  # (C, V)
            total += loss
            torch.mm(slope, matrix, out=grad_hidden[start : start + chunk])
            grad_head += slope.T @ part
            del slope  # or it would be held while the next chunk's logits are made
        ctx.save_for_backward(grad_hidden, grad_head)
        ctx.hidden_dtype, ctx.head_dtype = hidden.dtype, head.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head = ctx.saved_tensors
        scale = grad_outputs[0]
        return (
            grad_hidden.to(ctx.hidden_dtype) * scale,
            grad_head.mul_(scale).to(ctx.head_dtype),
            None,
            None,
            None,
        )
