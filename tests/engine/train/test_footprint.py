"""The memory formula against every tensor of a step, and loading against training."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from engine.footprint import memory_parts
from engine.shape import PRESETS, ModelShape
from engine.train.checkpoint import Checkpoints, TrainState, newest_verified
from engine.train.data import Position
from tests.engine.train.accounting import Case, PeakTracker, make, peak_bytes, train
from tests.engine.train.conftest import make_plan


def blocks(preset: str, n_layer: int) -> ModelShape:
    """A preset with fewer blocks: every tensor has its size, and the count is a matter of a second."""
    return msgspec.structs.replace(PRESETS[preset], n_layer=n_layer)


def predicted_bytes(case: Case) -> int:
    parts = memory_parts(
        case.shape,
        device_kind=case.kind,
        precision=case.precision,
        optimizer=case.optimizer,
        micro_batch=case.micro_batch,
        num_recomputed_blocks=case.num_recomputed_blocks,
    )
    return sum(parts.values()) - parts["workspace"]


@pytest.mark.parametrize(
    "case",
    [
        Case(blocks("134m", 2), "cuda", "bf16", "muon", 8, 0),
        Case(blocks("134m", 2), "cuda", "bf16", "adamw", 8, 1),
        Case(blocks("134m", 2), "cuda", "bf16", "adamw", 8, 2),
        Case(blocks("134m", 1), "cuda", "fp32", "adamw", 1, 1),
        Case(blocks("45m", 2), "cuda", "bf16", "adamw", 16, 2),
        Case(blocks("15m", 2), "cpu", "bf16", "muon", 4, 1),
        Case(blocks("tiny", 2), "cpu", "bf16", "muon", 16, 0),
        Case(blocks("tiny", 2), "cpu", "fp32", "adamw", 8, 2),
    ],
    ids=lambda case: (
        f"{case.shape.n_embd}-{case.kind}-{case.precision}-{case.micro_batch}-{case.num_recomputed_blocks}"
    ),
)
def test_the_formula_is_within_a_tenth_of_what_is_counted(case: Case) -> None:
    assert predicted_bytes(case) == pytest.approx(peak_bytes(case), rel=0.1)


def test_the_logits_are_never_there_as_a_whole() -> None:
    """The loss of twice the tokens takes no more but what their hidden states take."""
    shape = msgspec.structs.replace(PRESETS["tiny"], vocab_size=32_768, n_layer=1, context=1024)
    one, two = (peak_bytes(Case(shape, "cpu", "bf16", "adamw", size, 1, 1)) for size in (1, 2))
    all_logits_bytes = 1024 * shape.vocab_size * 2
    assert two - one < all_logits_bytes / 8


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_loading_takes_no_more_memory_than_training(tmp_path: Path, kind: str) -> None:
    """Real tensors and a real checkpoint, counted while it is loaded and in the smallest step after that."""
    shape = ModelShape(
        vocab_size=64,
        n_layer=4,
        n_head=4,
        n_kv_head=4,
        n_embd=256,
        intermediate=704,
        context=8,
        tie_embeddings=False,
    )
    plan = make_plan(shape=shape, optimizer=kind)
    ids = torch.zeros(1, shape.context, dtype=torch.int64)
    state = TrainState(
        step=1,
        tokens=8,
        position=Position(),
        shape=shape,
        optimizer=kind,
        tokens_per_step=8,
        steps=2,
        micro_batch=1,
    )
    decoder, optimizer, accelerator = make(plan, 0)
    with PeakTracker() as tracker:
        train(decoder, optimizer, accelerator, ids, 1, tracker)
    Checkpoints(tmp_path, keep=2).save(decoder, optimizer, state)
    del decoder, optimizer

    checkpoint = newest_verified(tmp_path).checkpoint
    assert checkpoint is not None
    decoder, optimizer, accelerator = make(plan, 0)
    tracker = PeakTracker()
    tracker.track_external(decoder)
    with tracker:
        checkpoint.load_model(decoder)
        checkpoint.load_optimizer(optimizer)
        loading = tracker.take_peak()
        train(decoder, optimizer, accelerator, ids, 2, tracker)
        training = tracker.take_peak()
    states = sum(tensor.nbytes for _, tensor in optimizer.tensors())
    weights, largest = 4 * shape.parameters, 4 * shape.n_embd * shape.intermediate
    assert weights + states <= loading <= weights + states + 2 * largest
    assert loading <= training
