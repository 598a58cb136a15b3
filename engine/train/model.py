"""The model: a decoder of the Qwen3 family, computed exactly as transformers' `Qwen3ForCausalLM` computes it.

Notable: RMSNorm in fp32, QK-norm per head, RoPE, SwiGLU, grouped-query attention, no biases, and output
projections that start at zero, so that every block starts as the identity. Parameters bear the names they have
in transformers, which makes an export a copy. The head is not applied here: the loss takes hidden states.

Shapes: B sequences, T tokens of each, S tokens attended to (T, or more with a cache), D n_embd, H heads,
K key-value heads, E head_dim, F intermediate, V vocabulary.
Source: Qwen3 technical report, arXiv 2505.09388, May 2025.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.shape import ModelShape
from engine.train.attention import causal_attention

ROPE_THETA = 10_000.0
"""Base of the rotary frequencies; the usual one for contexts of a few thousand tokens."""
NORM_EPS = 1e-6
INIT_STD = 0.02
"""Standard deviation of the embedding and of an untied head at the start."""


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in fp32. Source: arXiv 1910.07467."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The shape stays; the dtype becomes autocast's, which is what the matrices behind it want.

        Cast here once, and not for each of them: the same values, and fewer copies kept for the backward pass.
        """
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if kind == "cpu" and not torch.compiler.is_compiling():
            out: Tensor = _RMSNormOnCpu.apply(x, self.weight, dtype)  # type: ignore[no-untyped-call]
            return out
        return F.rms_norm(x.float(), self.weight.shape, self.weight, NORM_EPS).to(dtype)


class _RMSNormOnCpu(torch.autograd.Function):
    """The same in a few passes: on a CPU torch's own takes 2.5 times as long, forward and backward together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(NORM_EPS).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale if x.dtype == torch.float32 else x.float().mul_(scale)).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        grad, unit = grad_outputs[0].float(), x.float() * scale  # (..., D)
        product = grad * unit
        along = (product @ weight).unsqueeze(-1).div_(x.shape[-1])  # (..., 1)
        grad_x = (grad * weight).addcmul_(unit, along, value=-1.0).mul_(scale)
        return grad_x.to(x.dtype), product.flatten(0, -2).sum(0), None


class KeyValueCache:
    """The keys and values of one block for the tokens seen so far; empty at first."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new tokens' and return everything: (B, K, S, E) each."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat((self.keys, keys), dim=2)
            values = torch.cat((self.values, values), dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Causal grouped-query attention with QK-norm and rotary positions."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = shape.n_head, shape.n_kv_head, shape.head_dim
        kv_width = shape.n_kv_head * shape.head_dim
        self.q_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.k_proj = nn.Linear(shape.n_embd, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.n_embd, kv_width, bias=False)
        self.o_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.q_norm = RMSNorm(shape.head_dim)
        self.k_norm = RMSNorm(shape.head_dim)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); with a cache, the tokens follow those in it."""
        batch, length, width = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, length, self.n_head, self.head_dim))  # (B, T, H, E)
        k = self.k_norm(self.k_proj(x).view(batch, length, self.n_kv_head, self.head_dim))  # (B, T, K, E)
        v = self.v_proj(x).view(batch, length, self.n_kv_head, self.head_dim)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or K, T, E)
        q, k = _rotate(q, cosine, sine), _rotate(k, cosine, sine)
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, K, S, E)
        k, v = _repeat_heads(k, self.n_head), _repeat_heads(v, self.n_head)  # (B, H, S, E)
        is_causal = length > 1
        assert not is_causal or k.shape[2] == length, "a cache is filled by one prompt, then by single tokens"
        y = (
            causal_attention(q, k, v) if is_causal else F.scaled_dot_product_attention(q, k, v)
        )  # (B, H, T, E)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(batch, length, width))  # (B, T, D)
        return out


class SwiGLU(nn.Module):
    """The feed-forward part. Source: arXiv 2002.05202."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.n_embd, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.n_embd, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, F) -> (B, T, D)."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """One decoder layer: attention and feed-forward, each behind its norm and added to the stream."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.n_embd)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.n_embd)
        self.mlp = SwiGLU(shape)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Trunk(nn.Module):
    """Everything but the head; named `model` in the whole, as in transformers."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.norm = RMSNorm(shape.n_embd)


class Decoder(nn.Module):
    """The whole model. Its forward gives hidden states; `head` is what turns them into logits."""

    def __init__(self, shape: ModelShape, *, num_recomputed_blocks: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.num_recomputed_blocks = num_recomputed_blocks
        """Blocks, from the first on, whose activations are computed anew in the backward pass instead of kept.

        The first ones, since they are recomputed last, when what the others kept has gone.
        """
        self.model = Trunk(shape)
        self.lm_head = None if shape.tie_embeddings else nn.Linear(shape.n_embd, shape.vocab_size, bias=False)
        cosine, sine = rotary_tables(shape.context, shape.head_dim)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    @property
    def head(self) -> nn.Parameter:
        """The output matrix, (V, D): the embedding itself where it is tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight  # type: ignore[return-value]

    def forward(self, ids: Tensor, caches: list[KeyValueCache] | None = None) -> Tensor:
        """(B, T) ids -> (B, T, D) hidden states after the last norm.

        With caches (one a block), the ids follow what the caches hold. Blocks run compiled, where they were,
        only while training: evaluation and sampling would compile anew for each of their shapes.
        """
        start = 0 if caches is None or caches[0].keys is None else caches[0].keys.shape[2]
        cosine, sine = self.cosine[start : start + ids.shape[1]], self.sine[start : start + ids.shape[1]]  # type: ignore[index]
        x: Tensor = self.model.embed_tokens(ids)  # (B, T, D)
        for index, block in enumerate(self.model.layers):
            if not self.training:
                x = block.forward(x, cosine, sine, None if caches is None else caches[index])
            elif index < self.num_recomputed_blocks:
                x = checkpoint(block, x, cosine, sine, use_reentrant=False)
            else:
                x = block(x, cosine, sine)
        out: Tensor = self.model.norm(x)
        return out

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Set every weight from the seed alone, the same on every device.

        Matrices: normal with 1/sqrt(fan-in); output projections: zero; embedding and head: normal with `INIT_STD`.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            else:
                is_hidden = ".layers." in name
                std = parameter.shape[1] ** -0.5 if is_hidden else INIT_STD
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))


def rotary_tables(context: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, (context, head_dim) each, fp32. Source: arXiv 2104.09864."""
    frequency = 1.0 / ROPE_THETA ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)  # (E/2,)
    angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)  # (T, E/2)
    angle = torch.cat((angle, angle), dim=-1)  # (T, E)
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (i, i + E/2) by its position's angle; (B, H, T, E) stays."""
    first, second = x.chunk(2, dim=-1)  # (B, H, T, E/2) each
    turned = torch.cat((-second, first), dim=-1)
    return x * cosine.to(x.dtype) + turned * sine.to(x.dtype)


def _repeat_heads(x: Tensor, n_head: int) -> Tensor:
    """(B, K, S, E) -> (B, H, S, E): each key-value head serves H / K neighbouring query heads.

    Repeated by hand, since only some of the attention kernels take grouped heads as they are.
    """
    batch, n_kv_head, length, head_dim = x.shape
    if n_kv_head == n_head:
        return x
    spread = x[:, :, None].expand(batch, n_kv_head, n_head // n_kv_head, length, head_dim)
    return spread.reshape(batch, n_head, length, head_dim)
