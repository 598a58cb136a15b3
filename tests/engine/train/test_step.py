"""One optimizer step: accumulation, values that are not finite, and memory that runs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.corpus.manifest import load_manifest
from engine.corpus.shard import TokenStore
from engine.errors import EngineError
from engine.records import EventRow
from engine.runs.folder import RunFolder
from engine.train.data import Position
from engine.train.device import Accelerator
from engine.train.journal import Journal
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from engine.train.step import Stepper
from tests.engine.train.conftest import SMALL, MakeRun, make_plan


class Bench:
    """A stepper on real tokens, with all that it needs."""

    def __init__(self, run: RunFolder, **changes: object) -> None:
        self.plan = make_plan(**changes)
        self.model = Decoder(SMALL)
        self.model.initialise(1)
        self.optimizer = OptimizerSet(self.model, self.plan.optimizer, 3e-3, 0.1)
        self.journal = Journal(run.store_path)
        tokens = TokenStore.open(Path(load_manifest(run.corpus_path).folder), "train")
        self.stepper = Stepper(
            self.model,
            self.optimizer,
            Accelerator(self.plan),
            self.plan,
            run.settings().training,
            tokens,
            self.journal,
        )
        self.position = Position()
        self.stepper.begin(self.position)

    def step(self):
        result = self.stepper.step(self.position, lambda: 0.0)
        self.position = self.stepper.order.advance(self.position, self.stepper.windows_per_step)
        return result

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])

    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal.store.rows(EventRow)]

    def close(self) -> None:
        self.stepper.close()
        self.journal.close()


@pytest.fixture
def benches(make_run: MakeRun) -> Iterator:
    made = []

    def make(**changes: object) -> Bench:
        made.append(Bench(make_run(), **changes))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def test_accumulation_equals_one_batch_to_rounding(benches):
    whole, parts = benches(micro_batch=8, optimizer="adamw"), benches(micro_batch=2, optimizer="adamw")
    torch.set_float32_matmul_precision("highest")
    started_at = whole.weights()
    for _ in range(3):
        one, many = whole.step(), parts.step()
        assert one.loss == pytest.approx(many.loss, rel=1e-5)
        assert one.grad_norm == pytest.approx(many.grad_norm, rel=1e-3)
    # AdamW makes a whole step of a gradient that is nothing but rounding: compare the movement as one vector.
    difference = whole.weights() - parts.weights()
    assert difference.norm() < 0.01 * (whole.weights() - started_at).norm()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_like_fp32(benches, precision: str):
    half, full = benches(precision=precision), benches()
    losses = [(half.step(), full.step()) for _ in range(12)]
    done = [(a.loss, b.loss) for a, b in losses if not a.is_skipped]
    assert len(done) >= 8
    assert done[-1][0] < done[0][0] - 0.5
    assert done[-1][0] == pytest.approx(done[-1][1], abs=0.3)


def test_a_step_with_a_gradient_that_is_not_finite_is_left_out(benches):
    bench = benches()
    bench.step()
    before, rows = bench.weights(), dict(bench.optimizer.tensors())
    rows = {name: tensor.clone() for name, tensor in rows.items()}
    hook = bench.model.lm_head.weight.register_hook(lambda grad: grad * torch.inf)
    assert bench.step().is_skipped
    hook.remove()
    assert torch.equal(bench.weights(), before)
    assert all(torch.equal(tensor, rows[name]) for name, tensor in bench.optimizer.tensors())
    assert bench.kinds() == ["non-finite"]
    result = bench.step()
    assert not result.is_skipped and not torch.equal(bench.weights(), before)


def test_five_in_a_row_end_the_training(benches):
    bench = benches()
    with torch.no_grad():
        bench.model.model.norm.weight[0] = torch.nan
    for _ in range(4):
        assert bench.step().is_skipped
    with pytest.raises(EngineError, match="loss was not finite in 5 steps in a row") as caught:
        bench.step()
    assert "learning_rate" in caught.value.remedy
    assert bench.kinds() == ["non-finite"] * 5


def test_without_memory_it_goes_on_with_smaller_micro_batches_and_the_same_data(benches):
    full, tight = benches(micro_batch=8), benches(micro_batch=8)
    forward = tight.model.forward

    def forward_in_little_memory(ids: torch.Tensor, *others):
        if ids.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        return forward(ids, *others)

    tight.model.forward = forward_in_little_memory
    for _ in range(2):
        assert tight.step().loss == pytest.approx(full.step().loss, rel=1e-4)
    assert (tight.stepper.micro_batch, tight.stepper.grad_accum) == (2, 4)
    assert tight.kinds() == ["out-of-memory"] * 2


def test_where_not_one_sequence_fits_it_says_so(benches):
    bench = benches()

    def forward(ids: torch.Tensor, *others):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    bench.model.forward = forward
    with pytest.raises(EngineError, match="no room for a single sequence"):
        bench.step()
