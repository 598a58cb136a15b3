"""The shapes of model that can be trained: the presets and the arithmetic that follows from a shape.

Every preset is a decoder of the Qwen3 family (RMSNorm, QK-norm, RoPE, SwiGLU, grouped-query attention, no
biases); source: Qwen3 technical report, arXiv 2505.09388, May 2025. Muon needs nothing but matrices from it.
"""

from __future__ import annotations

import msgspec

MOST_CONTEXT = 131_072
"""Tokens a sequence that a model may have at most."""


class ModelShape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes that define a model; names are the field's own."""

    vocab_size: int
    """Rows of the embedding; the tokenizer may use fewer ids, never more."""
    n_layer: int
    n_head: int
    n_kv_head: int
    """Key and value heads; divides `n_head` (equal means plain multi-head attention)."""
    n_embd: int
    """Width of the residual stream; a multiple of `n_head`."""
    intermediate: int
    """Width of the SwiGLU's hidden layer."""
    context: int
    """Tokens a sequence."""
    tie_embeddings: bool
    """Whether the output head is the embedding."""

    @property
    def is_sound(self) -> bool:
        """Whether such a model can be: every size counts something, and heads divide what they share."""
        sizes = (self.vocab_size, self.n_layer, self.n_head, self.n_kv_head, self.n_embd, self.intermediate)
        return (
            all(size >= 1 for size in sizes)
            and 1 <= self.context <= MOST_CONTEXT
            and self.n_embd % self.n_head == 0
            and self.n_head % self.n_kv_head == 0
        )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def block_parameters(self) -> int:
        """Parameters of one decoder block, its four norms included."""
        attention = 2 * self.n_embd * self.n_embd + 2 * self.n_embd * self.n_kv_head * self.head_dim
        norms = 2 * self.n_embd + 2 * self.head_dim
        return attention + 3 * self.n_embd * self.intermediate + norms

    @property
    def matrix_parameters(self) -> int:
        """Parameters of the hidden matrices alone, those that Muon updates."""
        norms = 2 * self.n_embd + 2 * self.head_dim
        return self.n_layer * (self.block_parameters - norms)

    @property
    def parameters(self) -> int:
        """Parameters of the whole model; a tied head counts once."""
        embeddings = self.vocab_size * self.n_embd * (1 if self.tie_embeddings else 2)
        return embeddings + self.n_layer * self.block_parameters + self.n_embd

    @property
    def flops_per_token(self) -> float:
        """FLOP to train on one token, forward and backward, without recomputation.

        Six for each parameter that multiplies plus the causal attention's 6 * n_layer * n_embd * context.
        Source: PaLM, arXiv 2204.02311, appendix B, with half the attention matrix counted (it is causal).
        """
        multiplying = self.matrix_parameters + self.vocab_size * self.n_embd
        return 6.0 * multiplying + 6.0 * self.n_layer * self.n_embd * self.context

    @property
    def block_forward_flops_per_token(self) -> float:
        """FLOP of one block's forward pass, a token: what recomputing it costs. Counted as `flops_per_token`."""
        return 2.0 * self.matrix_parameters / self.n_layer + 2.0 * self.n_embd * self.context


PRESETS: dict[str, ModelShape] = {
    "tiny": ModelShape(
        vocab_size=4096,
        n_layer=4,
        n_head=4,
        n_kv_head=2,
        n_embd=256,
        intermediate=704,
        context=256,
        tie_embeddings=True,
    ),
    "15m": ModelShape(
        vocab_size=8192,
        n_layer=6,
        n_head=6,
        n_kv_head=6,
        n_embd=384,
        intermediate=1024,
        context=256,
        tie_embeddings=True,
    ),
    "45m": ModelShape(
        vocab_size=16384,
        n_layer=9,
        n_head=8,
        n_kv_head=8,
        n_embd=512,
        intermediate=1408,
        context=512,
        tie_embeddings=False,
    ),
    "134m": ModelShape(
        vocab_size=32000,
        n_layer=12,
        n_head=12,
        n_kv_head=12,
        n_embd=768,
        intermediate=2048,
        context=1024,
        tie_embeddings=False,
    ),
}


class TrainingDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What `auto` means in `[training]` for a preset."""

    tokens: int
    tokens_per_step: int
    learning_rate: float


DEFAULTS: dict[str, TrainingDefaults] = {
    "tiny": TrainingDefaults(tokens=1_200_000, tokens_per_step=2_048, learning_rate=4e-3),
    "15m": TrainingDefaults(tokens=100_000_000, tokens_per_step=16_384, learning_rate=3e-3),
    "45m": TrainingDefaults(tokens=300_000_000, tokens_per_step=65_536, learning_rate=2e-3),
    "134m": TrainingDefaults(tokens=1_000_000_000, tokens_per_step=262_144, learning_rate=1.5e-3),
}
