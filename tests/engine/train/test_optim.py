"""Which parameter is updated how, and the schedule."""

from __future__ import annotations

import pytest
import torch

from engine.train.model import Decoder
from engine.train.optim import OptimizerSet, learning_rate_frac, muon_momentum
from tests.engine.train.conftest import SMALL


def small_model() -> Decoder:
    model = Decoder(SMALL)
    model.initialise(1)
    return model


def names_of(model: Decoder, optimizer: torch.optim.Optimizer) -> set[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p] for group in optimizer.param_groups for p in group["params"]}


def test_muon_gets_the_hidden_matrices_and_adamw_the_rest():
    model = small_model()
    muon, adamw = OptimizerSet(model, "muon", 1e-3, 0.1).optimizers
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    assert names_of(model, muon) == {n for n in dict(model.named_parameters()) if "_proj." in n}
    assert names_of(model, muon) | names_of(model, adamw) == set(dict(model.named_parameters()))
    assert muon.param_groups[0]["weight_decay"] == 0.1
    assert all(group["weight_decay"] == 0.0 for group in adamw.param_groups)
    assert muon.param_groups[0]["adjust_lr_fn"] == "match_rms_adamw"


def test_a_short_run_averages_fewer_gradients():
    assert [muon_momentum(steps) for steps in (1, 300, 666)] == [0.85, 0.85, 0.85]
    assert muon_momentum(1000) == pytest.approx(0.9)
    assert [muon_momentum(steps) for steps in (2000, 100_000)] == [0.95, 0.95]
    muon, _ = OptimizerSet(small_model(), "muon", 1e-3, 0.1, muon_momentum(300)).optimizers
    assert muon.param_groups[0]["momentum"] == 0.85


def test_adamw_decays_matrices_alone():
    model = small_model()
    (adamw,) = OptimizerSet(model, "adamw", 1e-3, 0.1).optimizers
    decaying = [p for group in adamw.param_groups if group["weight_decay"] == 0.1 for p in group["params"]]
    assert len(decaying) == 14 and all(p.ndim == 2 for p in decaying)
    assert names_of(model, adamw) == set(dict(model.named_parameters()))


def test_embedding_and_norms_have_a_higher_rate_beside_muon_alone():
    for kind, factor in (("muon", 10.0), ("adamw", 1.0)):
        model = small_model()
        optimizer = OptimizerSet(model, kind, 1e-3, 0.1)
        optimizer.set_rate(0.5)
        assert optimizer.learning_rate == 5e-4
        names = {parameter: name for name, parameter in model.named_parameters()}
        rates = {
            names[p]: group["lr"]
            for each in optimizer.optimizers
            for group in each.param_groups
            for p in group["params"]
        }
        quick = {name for name in rates if "norm" in name or "embed" in name}
        assert len(quick) == 10
        assert {rates[name] for name in quick} == {5e-4 * factor}
        assert {rates[name] for name in rates.keys() - quick} == {5e-4}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_state_that_was_saved_and_loaded_gives_the_same_steps(kind: str):
    def steps(model: Decoder, optimizer: OptimizerSet, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            optimizer.set_rate(1.0 / (1 + step))
            model(torch.randint(0, 512, (2, 8))).pow(3).mean().backward()
            for each in optimizer.optimizers:
                each.step()
            optimizer.zero_grad()

    whole, part = small_model(), small_model()
    whole_optimizer, part_optimizer = (OptimizerSet(m, kind, 1e-2, 0.1) for m in (whole, part))
    steps(whole, whole_optimizer, 0, 6)
    steps(part, part_optimizer, 0, 3)
    resumed = small_model()
    resumed.load_state_dict(part.state_dict())
    resumed_optimizer = OptimizerSet(resumed, kind, 1e-2, 0.1)
    resumed_optimizer.load(iter([(name, tensor.clone()) for name, tensor in part_optimizer.tensors()]))
    steps(resumed, resumed_optimizer, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_rate_rises_stays_and_falls():
    rates = [learning_rate_frac(step, 100, 0.1, 0.4) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1) and rates[9:60] == [1.0] * 51
    assert rates[4] == pytest.approx(0.5) and rates[80] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.03
    assert [learning_rate_frac(step, 3, 0.0, 0.0) for step in (1, 2, 3)] == [1.0, 1.0, 1.0]
    assert learning_rate_frac(1, 1, 0.02, 0.4) > 0
