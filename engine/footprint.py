"""How much memory a training step takes, by formula, part by part.

The terms follow engine/train: fp32 master weights, the half-precision copies of the matrices that autocast keeps, the
chunked cross-entropy, blocks that are recomputed. Two moments can be the peak: the loss, when everything kept for the
backward pass is there, and the backward pass of a block. Checked against torch's MemTracker under FakeTensorMode
(torch 2.13, eager) by tests/engine/train/test_footprint.py, and over a whole grid by bench/footprint.py. A compiled
step keeps less: not counted. Where a step is a single micro-step, the gradients come later than is counted here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from engine.shape import ModelShape

MIB = 2**20
CUDA_CONTEXT_BYTES = 450 * MIB
"""What a CUDA context, cuBLAS's buffers and loaded kernels take of the device beside all tensors."""
CPU_PROCESS_BYTES = 400 * MIB
"""Resident memory of a Python process with torch loaded and the corpus mapped."""
CHUNK_LOGITS = 2**24
"""Logits that exist at a time; the trainer's `engine.train.loss.CHUNK_LOGITS`, which this file cannot import."""
CPU_CHUNK_LOGITS = 2**22
"""The same of `engine.train.loss.CPU_CHUNK_LOGITS`."""

Precision = Literal["fp32", "bf16", "fp16"]


class _Moment(NamedTuple):
    """What exists at once beside master weights, gradients and optimizer states, in bytes."""

    half_copies: int
    """Of matrices within the blocks."""
    activations: int
    logits: int
    """Everything of the loss."""


def memory_parts(
    shape: ModelShape,
    *,
    device_kind: Literal["cuda", "cpu"],
    precision: Precision,
    optimizer: Literal["muon", "adamw"],
    micro_batch: int,
    num_recomputed_blocks: int,
) -> dict[str, int]:
    """Bytes of weights, gradients, optimizer, activations, logits and workspace at the peak of a step.

    Their sum is what the device must hold; `logits` is what there is of the loss at that peak.
    """
    tokens = micro_batch * shape.context
    size = 4 if precision == "fp32" else 2
    block = _kept_bytes_per_token(shape, device_kind, size)
    boundary = 4 * shape.n_embd
    num_kept = shape.n_layer - num_recomputed_blocks
    kept = tokens * (num_recomputed_blocks * boundary + num_kept * block)
    half_copies = 0 if precision == "fp32" else 2 * shape.matrix_parameters
    # A tied head's gradient waits for the embedding's, until the end.
    waiting = 4 * shape.vocab_size * shape.n_embd if shape.tie_embeddings else 0
    passing = _passing_bytes(shape, size, tokens)
    moments = [
        _Moment(
            half_copies,
            kept + tokens * (4 + size) * shape.n_embd,  # with the last norm's input and result
            _loss_bytes(shape, device_kind, size, tokens),
        )
    ]
    if num_kept:
        moments.append(_Moment(half_copies * num_kept // shape.n_layer, kept + passing, waiting))
    if num_recomputed_blocks:
        # The first blocks are recomputed, and one at a time: by then, what the others kept has gone.
        inputs = tokens * (num_recomputed_blocks - 1) * boundary
        moments.append(_Moment(half_copies // shape.n_layer, inputs + tokens * block + passing, waiting))
    peak = max(moments, key=sum)
    return {
        "weights": 4 * shape.parameters + peak.half_copies,
        "gradients": 4 * shape.parameters,
        "optimizer": optimizer_bytes(shape, optimizer),
        "activations": peak.activations,
        "logits": peak.logits,
        "workspace": CUDA_CONTEXT_BYTES if device_kind == "cuda" else CPU_PROCESS_BYTES,
    }


def optimizer_bytes(shape: ModelShape, optimizer: Literal["muon", "adamw"]) -> int:
    """Bytes of the optimizer's state, all fp32: one momentum a matrix for Muon, two moments for all else."""
    if optimizer == "adamw":
        return 8 * shape.parameters
    return 4 * shape.matrix_parameters + 8 * (shape.parameters - shape.matrix_parameters)


def _kept_bytes_per_token(shape: ModelShape, device_kind: Literal["cuda", "cpu"], size: int) -> int:
    """Bytes a token that one block keeps for its backward pass, its input included; `size` of a product's number.

    The residual stream is fp32, and so is what CUDA's RMSNorm takes; what enters a matrix product is in its format.
    """
    width, kv_width = shape.n_embd, shape.n_kv_head * shape.head_dim
    norm_inputs = 4 * 2 * width + (4 if device_kind == "cuda" else size) * (width + kv_width)
    matrix_inputs = size * 2 * width  # one for q, k and v, one for gate and up
    attention = (
        size * 4 * width + 4 * shape.n_head
    )  # q, k, v with their heads repeated, the result; a logsumexp
    feed_forward = size * 4 * shape.intermediate  # gate, up, silu(gate), their product
    return norm_inputs + matrix_inputs + attention + feed_forward


def _passing_bytes(shape: ModelShape, size: int, tokens: int) -> int:
    """What the backward pass of a block takes beside what was kept: most of all in its feed-forward part."""
    width, wide = shape.n_embd, shape.intermediate
    in_matrix = tokens * ((4 + size) * width + size * wide) + (4 + size) * width * wide
    in_product = tokens * (4 * width + 2 * size * wide) + 4 * width * wide
    return max(in_matrix, in_product)


def _loss_bytes(shape: ModelShape, device_kind: Literal["cuda", "cpu"], size: int, tokens: int) -> int:
    """What the chunked loss takes at its peak: the head's copy and gradient, the rows' gradient, and a chunk."""
    head = shape.vocab_size * shape.n_embd
    chunk_logits = CHUNK_LOGITS if device_kind == "cuda" else CPU_CHUNK_LOGITS
    chunk = min(tokens, max(1, chunk_logits // shape.vocab_size)) * shape.vocab_size
    # The logits and their softmax, which is fp32 but on a CPU in bf16; then the slope and its product.
    in_softmax = chunk * (2 * size if device_kind == "cpu" and size == 2 else 4 + size)
    in_gradient = (chunk + head) * size
    half_head = 0 if size == 4 else size * head
    return half_head + 4 * head + tokens * size * shape.n_embd + max(in_softmax, in_gradient)
