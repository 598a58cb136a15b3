"""One optimizer step: accumulation, values that are not finite, and memory that runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from engine.corpus.manifest import load_manifest
from engine.corpus.shard import TokenStore
from engine.errors import EngineError
from engine.records import EventRow
from engine.rehearsal import Proof
from engine.runs.folder import RunFolder
from engine.settings import TrainingSettings
from engine.train import proof
from engine.train import update as updates
from engine.train.data import Position
from engine.train.device import Accelerator
from engine.train.guard import SetbackError, allocate_state
from engine.train.journal import Journal
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from engine.train.proof import Prover
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
        self.accelerator = Accelerator(self.plan)
        tokens = TokenStore.open(Path(load_manifest(run.corpus_path).folder), "train")
        self.stepper = Stepper(
            self.model,
            self.optimizer,
            self.accelerator,
            self.plan,
            run.settings().training,
            tokens,
            self.journal,
        )
        self.position = Position()
        self.stepper.begin(self.position)

    def step(self):
        result = self.stepper.step(self.position, 1, lambda: 0.0)
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


def test_steps_that_were_not_finite_are_counted_until_one_is(benches):
    bench = benches()
    bench.step()
    good = bench.model.model.norm.weight[0].item()
    with torch.no_grad():
        bench.model.model.norm.weight[0] = torch.nan
    for number in (1, 2, 3):
        assert bench.step().is_skipped
        assert bench.stepper.skipped_in_a_row == number
    with torch.no_grad():
        bench.model.model.norm.weight[0] = good
    assert not bench.step().is_skipped
    assert bench.stepper.skipped_in_a_row == 0
    assert bench.kinds() == ["non-finite"] * 3


def test_fp16_looks_for_its_scale_without_alarm_and_learns_on(benches):
    bench = benches(precision="fp16")
    while bench.step().is_skipped:
        pass
    scaler, before = bench.accelerator.scaler, bench.weights()
    scale, state = scaler.get_scale(), scaler.state_dict()
    hook = bench.model.lm_head.weight.register_hook(lambda grad: grad * torch.inf)
    for halvings in (1, 2):
        assert bench.step().is_skipped
        assert scaler.get_scale() == scale / 2**halvings
    hook.remove()
    assert torch.equal(bench.weights(), before)
    assert bench.kinds() == [] and bench.stepper.skipped_in_a_row == 0
    assert not bench.step().is_skipped and not torch.equal(bench.weights(), before)
    scaler.load_state_dict(state)
    assert scaler.get_scale() == scale


def test_fp16_that_finds_no_scale_counts_as_bad(benches):
    bench = benches(precision="fp16")
    bench.model.lm_head.weight.register_hook(lambda grad: grad * torch.nan)
    while not bench.stepper.skipped_in_a_row:
        assert bench.step().is_skipped
    assert bench.accelerator.scaler.get_scale() < 1.0
    assert bench.kinds() == ["non-finite"]


def test_a_state_that_gives_nothing_is_unsound_though_every_number_is_finite(benches):
    bench = benches()
    bench.step()
    before = bench.weights()
    assert bench.stepper.find_unsound() is None
    assert all(parameter.grad is None for parameter in bench.model.parameters())
    assert torch.equal(bench.weights(), before)
    up = bench.model.model.layers[0].mlp.up_proj.weight
    embedding = bench.model.model.embed_tokens.weight
    with torch.no_grad():
        up.mul_(1e38 / up.abs().max())
    assert bench.stepper.find_unsound() == "The loss is not finite."
    with torch.no_grad():
        up.mul_(1e-38)
        embedding.mul_(
            1e30
        )  # its square overflows in the norm, which makes it 0, and the loss that of a coin
    assert bench.stepper.find_unsound() == "The gradient is 0."
    result = bench.step()
    assert result.is_skipped and result.grad_norm == 0.0 and math.isfinite(result.loss)
    with torch.no_grad():
        embedding[3, 3] = torch.inf
    assert bench.stepper.find_unsound() == "A weight is not finite."


def test_a_loss_that_has_blown_up_is_left_out_though_it_is_finite(benches):
    bench = benches()
    bench.step()
    with torch.no_grad():
        bench.model.lm_head.weight.normal_(0.0, 50.0)
    before = bench.weights()
    result = bench.step()
    assert math.isfinite(result.loss) and result.loss > 100 and result.is_skipped
    assert torch.equal(bench.weights(), before)
    assert "far above the 6.2 of knowing nothing" in (bench.stepper.find_unsound() or "")


def test_within_a_step_the_gradients_gathered_so_far_tell_and_are_kept(benches):
    bench = benches()
    bench.step()
    for parameter in bench.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert bench.stepper.find_unsound() is None
    assert all(parameter.grad.eq(1).all() for parameter in bench.model.parameters())
    bench.model.lm_head.weight.grad[0, 0] = torch.nan
    assert bench.stepper.find_unsound() == "The gradient is not finite."
    bench.optimizer.zero_grad()
    next(tensor for name, tensor in bench.optimizer.tensors() if "exp_avg" in name)[0] = torch.nan
    assert bench.stepper.find_unsound() == "The optimizer's state is not finite."


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_state_that_is_made_beforehand_changes_no_bit_of_the_training(benches, optimizer: str):
    plain, made = benches(optimizer=optimizer), benches(optimizer=optimizer)
    allocate_state(made.model, made.optimizer)
    assert torch.equal(made.weights(), plain.weights())
    names = {name for name, _ in made.optimizer.tensors()}
    for _ in range(3):
        made.optimizer.set_rate(1.0)
        plain.optimizer.set_rate(1.0)
        assert made.step() == msgspec.structs.replace(plain.step(), seconds=pytest.approx(0, abs=60))
    assert torch.equal(made.weights(), plain.weights())
    assert names == {name for name, _ in plain.optimizer.tensors()}


def out_of_memory_on_cuda() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")


def out_of_memory_on_cpu() -> None:
    """More than any machine's address space: the allocator's own error, as it words it."""
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("run_out", [out_of_memory_on_cuda, out_of_memory_on_cpu])
def test_memory_that_runs_out_costs_no_step_and_changes_no_curve(benches, run_out):
    """The curve from there on is that of a run that had the smaller size from the start, to rounding."""
    small, tight = benches(micro_batch=2), benches(micro_batch=8)
    torch.set_float32_matmul_precision("highest")
    forward = tight.model.forward

    def forward_in_little_memory(ids: torch.Tensor, *others):
        if ids.shape[0] > 2:
            run_out()
        return forward(ids, *others)

    tight.model.forward = forward_in_little_memory
    for _ in range(6):
        expected, found = small.step(), tight.step()
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert not found.is_skipped
    assert (tight.stepper.micro_batch, tight.stepper.grad_accum) == (2, 4)
    assert tight.kinds() == ["out-of-memory"] * 2
    assert torch.equal(tight.weights(), small.weights()), "the step was done anew with the very same windows"


def test_memory_that_runs_out_within_an_update_asks_for_a_good_checkpoint(benches):
    bench = benches()
    bench.step()
    adamw, before = bench.optimizer.optimizers[1], bench.weights()
    step = adamw.step
    adamw.step = out_of_memory_on_cpu
    with pytest.raises(SetbackError, match="in the middle of an update") as caught:
        bench.step()
    assert not caught.value.is_numeric and not torch.equal(bench.weights(), before)
    assert bench.stepper.micro_batch == 2
    adamw.step = step
    bench.stepper.begin(bench.position)
    assert not bench.step().is_skipped


def test_fp16_does_a_step_again_that_ran_out_of_memory_before_its_update(
    benches, monkeypatch: pytest.MonkeyPatch
):
    bench = benches(precision="fp16")
    while bench.step().is_skipped:
        pass
    scale, clip = bench.accelerator.scaler.get_scale(), updates.clip_gradients

    def no_memory(*_: object) -> torch.Tensor:
        monkeypatch.setattr(updates, "clip_gradients", clip)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    monkeypatch.setattr(updates, "clip_gradients", no_memory)
    assert not bench.step().is_skipped
    assert bench.kinds() == ["out-of-memory"] and bench.accelerator.scaler.get_scale() == scale


def test_a_size_that_ran_out_of_memory_before_its_update_leaves_the_next_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clip = updates.clip_gradients

    def no_memory(*_: object) -> torch.Tensor:
        monkeypatch.setattr(updates, "clip_gradients", clip)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    monkeypatch.setattr(updates, "clip_gradients", no_memory)
    monkeypatch.setattr(proof, "_TIMED_S", 0.0)
    prover = Prover(make_plan(precision="fp16"), TrainingSettings(), tmp_path)
    assert "Tried to allocate" in str(prover.prove(2, 0))
    assert isinstance(prover.prove(1, 0), Proof)


def test_a_scale_that_an_older_checkpoint_kept_in_floats_is_taken(benches):
    bench = benches(precision="fp16")
    bench.step()
    kept = {name: float(value) for name, value in bench.accelerator.scaler.state_dict().items()}
    bench.accelerator.reset_scaler(kept)
    bench.step()
    assert bench.accelerator.scaler.state_dict()["growth_interval"] == 2000
    bench.accelerator.reset_scaler({})
    assert bench.accelerator.scaler.get_scale() == 2.0**16


def test_what_is_no_lack_of_memory_is_not_taken_for_it(benches):
    bench = benches()

    def forward(ids: torch.Tensor, *others):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    bench.model.forward = forward
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        bench.step()


def test_where_not_one_sequence_fits_it_says_so(benches):
    bench = benches()

    def forward(ids: torch.Tensor, *others):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    bench.model.forward = forward
    with pytest.raises(EngineError, match="no room for a single sequence"):
        bench.step()
