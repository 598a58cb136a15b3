"""A plain GPT and its loop, as everyone writes them: learned positions, LayerNorm, GELU, a tied head, AdamW."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bench.peers import gate as the
from bench.peers.gate import Gate, batches


class Layer(nn.Module):
    """Attention and feed-forward, each behind its LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(the.N_EMBD, bias=False)
        self.qkv = nn.Linear(the.N_EMBD, 3 * the.N_EMBD, bias=False)
        self.out = nn.Linear(the.N_EMBD, the.N_EMBD, bias=False)
        self.norm2 = nn.LayerNorm(the.N_EMBD, bias=False)
        self.up = nn.Linear(the.N_EMBD, 4 * the.N_EMBD, bias=False)
        self.down = nn.Linear(4 * the.N_EMBD, the.N_EMBD, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        heads = (*x.shape[:2], the.N_HEAD, the.N_EMBD // the.N_HEAD)
        q, k, v = (part.view(heads).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(the.N_EMBD, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, E)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """The whole of it; its forward is the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(the.VOCAB_SIZE, the.N_EMBD)
        self.positions = nn.Embedding(the.CONTEXT, the.N_EMBD)
        self.layers = nn.ModuleList(Layer() for _ in range(the.N_LAYER))
        self.norm = nn.LayerNorm(the.N_EMBD, bias=False)
        self.head = nn.Linear(the.N_EMBD, the.VOCAB_SIZE, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """(B, T) each -> mean cross-entropy."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, the.VOCAB_SIZE), targets.reshape(-1))


def run(gate: Gate, *, is_bf16: bool, is_compiled: bool, is_fused: bool) -> None:
    """Train until the gate says that it is over."""
    model = Gpt()
    gate.parameters = sum(parameter.numel() for parameter in model.parameters())
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": the.WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=the.LEARNING_RATE, betas=the.BETAS, fused=is_fused)
    train = torch.compile(model) if is_compiled else model
    for batch in batches():
        gate.step()
        with torch.autocast("cpu", torch.bfloat16) if is_bf16 else contextlib.nullcontext():
            loss = train(batch[:, :-1], batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), the.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
