"""How much memory a training step takes, by formula, part by part.

The terms follow engine/train: fp32 master weights, half-precision copies of the matrices that autocast keeps
for the length of a micro-step, the chunked cross-entropy, and whole-block recomputation where it is on.
Checked against torch's MemTracker under FakeTensorMode (CPU, eager, torch 2.13; 134m, 45m and tiny; micro-batch
1 to 16; with and without recomputation): weights, gradients, activations and logits together are 0 to 9 % above
it in bf16 (tiny with recomputation: 17 %), and within 8 % in fp32. A compiled step keeps less: not counted.
"""

from __future__ import annotations

from typing import Literal

from engine.shape import ModelShape

MIB = 2**20
CUDA_CONTEXT_BYTES = 450 * MIB
"""What a CUDA context, cuBLAS's buffers and loaded kernels take of the device beside all tensors."""
CPU_PROCESS_BYTES = 400 * MIB
"""Resident memory of a Python process with torch loaded and the corpus mapped."""
CHUNK_LOGITS = 2**24
"""Logits that exist at a time; the trainer's `engine.train.loss.CHUNK_LOGITS`, which this file cannot import."""

Precision = Literal["fp32", "bf16", "fp16"]


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

    Their sum is what the device must hold; `logits` is what the loss adds beyond the rest at that peak.
    """
    tokens = micro_batch * shape.context
    boundary, block = activation_bytes_per_token(shape, device_kind, precision)
    num_kept = shape.n_layer - num_recomputed_blocks
    # The first blocks are recomputed, and one at a time: by then, what the others kept has gone.
    recomputed = tokens * block if num_recomputed_blocks and not num_kept else 0
    activations = tokens * (num_recomputed_blocks * boundary + num_kept * block) + recomputed
    half_copies = 0 if precision == "fp32" else 2 * shape.matrix_parameters
    return {
        "weights": 4 * shape.parameters + half_copies,
        "gradients": 4 * shape.parameters,
        "optimizer": optimizer_bytes(shape, optimizer),
        "activations": activations,
        "logits": _logits_bytes(shape, precision, tokens, recomputed),
        "workspace": CUDA_CONTEXT_BYTES if device_kind == "cuda" else CPU_PROCESS_BYTES,
    }


def optimizer_bytes(shape: ModelShape, optimizer: Literal["muon", "adamw"]) -> int:
    """Bytes of the optimizer's state, all fp32: one momentum a matrix for Muon, two moments for all else."""
    if optimizer == "adamw":
        return 8 * shape.parameters
    return 4 * shape.matrix_parameters + 8 * (shape.parameters - shape.matrix_parameters)


def activation_bytes_per_token(
    shape: ModelShape, device_kind: Literal["cuda", "cpu"], precision: Precision
) -> tuple[int, int]:
    """Bytes a token that one block leaves for the backward pass: its input alone, and everything in it.

    The residual stream and the norms are fp32; what enters a matrix product is in the product's format, under
    autocast a copy of its own for each matrix. A CPU's RMSNorm is several operations, which keep one more fp32
    tensor than CUDA's fused one.
    """
    width, kv_width = shape.n_embd, shape.n_kv_head * shape.head_dim
    size = 4 if precision == "fp32" else 2
    num_inputs = 2 if precision == "fp32" else 5  # of q, k, v and of gate, up: one each, or a copy a matrix
    norms = 4 * (2 * width + width + kv_width) * (2 if device_kind == "cpu" else 1)
    matrix_inputs = num_inputs * size * width
    attention = size * 5 * width  # q, k and v with their heads repeated, the result and its transposed copy
    feed_forward = size * 4 * shape.intermediate  # gate, up, silu(gate), their product
    return 4 * width, norms + matrix_inputs + attention + feed_forward


def _logits_bytes(shape: ModelShape, precision: Precision, tokens: int, recomputed: int) -> int:
    """What the chunked loss adds at the step's peak.

    Its gradient of the head lives until the backward pass ends; the rest of it has gone by the time that blocks
    are recomputed (`recomputed` bytes), so that only the larger of the two counts.
    """
    size = 4 if precision == "fp32" else 2
    head = shape.vocab_size * shape.n_embd
    chunk_tokens = min(tokens, max(1, CHUNK_LOGITS // shape.vocab_size))
    chunk_logits = chunk_tokens * shape.vocab_size
    # The fp32 logits and logsumexp's copy of them; the chunk before is held until this one has been worked out.
    in_softmax = chunk_logits * (8 if tokens == chunk_tokens else 12 + size)
    in_gradient = chunk_logits * (4 + size) + size * head  # with the chunk's product for the head
    half_head = 0 if precision == "fp32" else 2 * head
    hidden = tokens * shape.n_embd * 16  # the last norm in fp32, its rows and their gradient
    return 4 * head + max(0, max(in_softmax, in_gradient) + half_head + hidden - recomputed)
