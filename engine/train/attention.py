"""Causal attention, and a backward pass of it for CPUs.

torch's own backward pass for CPUs takes three times as long on a processor with matrix units (measured: 256 tokens,
6 heads of 64, bf16). Here the forward pass is torch's, so that what is kept is the same: queries, keys, values, the
result and a logsumexp a row. Going backward the probabilities are worked out from them once more, some sequences at
a time, in matrix products that torch runs at full speed. Source: FlashAttention-2, arXiv 2307.08691, July 2023.

Shapes: B sequences, H heads, T tokens, E head_dim; n sequences of a slice.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

MOST_SCORES = 2**22
"""Scores of one sequence, H * T * T: beyond it they would take more memory than they are worth in time."""
_SLICE_SCORES = 2**20
"""Scores that are worked on at a time: few enough for a processor's caches."""
_MOST_SLICES = 16
"""Each is compiled anew."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token attends to itself and those before it: (B, H, T, E) each, and so is the result."""
    is_ours = q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled()
    if is_ours and HAS_LOGSUMEXP and q.shape[1] * q.shape[2] ** 2 <= MOST_SCORES:
        out: Tensor = _CausalAttentionOnCpu.apply(q, k, v)  # type: ignore[no-untyped-call]
        return out
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def has_logsumexp() -> bool:
    """Whether this torch has the function behind scaled_dot_product_attention as it is used here.

    It is no part of torch's interface, and may be gone or another in any version.
    """
    q = torch.linspace(-1, 1, 32, dtype=torch.bfloat16).reshape(1, 1, 2, 16)  # (B, H, T, E)
    try:
        out, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.0, True)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    scores = (q.float() @ q.float().mT / 4).masked_fill(
        torch.ones(2, 2).triu(1).bool(), -torch.inf
    )  # (1, 1, T, T)
    is_same = logsumexp.shape == q.shape[:3] and torch.allclose(logsumexp, scores.logsumexp(-1), atol=0.05)
    return bool(is_same and torch.allclose(out.float(), scores.softmax(-1) @ q.float(), atol=0.05))


class _CausalAttentionOnCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # The function behind scaled_dot_product_attention, which keeps the logsumexp to itself.
        out, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
        ctx.save_for_backward(q, k, v, out, logsumexp)
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:
        q, k, v, out, logsumexp = ctx.saved_tensors
        batch, n_head, length, _ = q.shape
        size = max(1, _SLICE_SCORES // (n_head * length**2), -(-batch // _MOST_SLICES))
        slices = [slice(start, start + size) for start in range(0, batch, size)]
        parts = [
            _slice_gradients(q[s], k[s], v[s], out[s], logsumexp[s].unsqueeze(-1), grad_outputs[0][s])
            for s in slices
        ]
        return parts[0] if len(parts) == 1 else tuple(torch.cat(same) for same in zip(*parts, strict=True))


def _slice_gradients(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, logsumexp: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by q, k and v: (n, H, T, E) each, `logsumexp` (n, H, T, 1) in fp32.

    The scores are a product of fp32 matrices, for in bf16 their rounding alone would change a probability by several
    percent; the entries being bf16, processors that compute such a product in bf16 lose nothing by it.
    """
    scale = q.shape[-1] ** -0.5
    scores = q.float() @ k.float().mT  # (n, H, T, T)
    probs = scores.mul_(scale).sub_(logsumexp).exp_().tril_()
    half = probs.to(q.dtype)
    grad_v = half.mT @ grad  # (n, H, T, E)
    along = (grad.float() * out).sum(-1, keepdim=True)  # (n, H, T, 1)
    slope = (grad @ v.mT).float().sub_(along).mul_(probs).mul_(scale).to(q.dtype)  # (n, H, T, T)
    return slope @ k, slope.mT @ q, grad_v


HAS_LOGSUMEXP = has_logsumexp()
"""Without it attention is torch's alone."""
