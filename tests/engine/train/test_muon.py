"""Muon as the training uses it against a reference written from its description, in float64.

Sources: kellerjordan.github.io/posts/muon (momentum, Newton-Schulz and its coefficients), December 2024; the scaling
by 0.2 * sqrt(max(m, n)) and the decoupled decay, arXiv 2502.16982, section 2.2, February 2025.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from engine.train.model import Decoder
from engine.train.optim import OptimizerSet, is_hidden_matrix
from tests.engine.train.conftest import SMALL

RATE, DECAY, MOMENTUM = 2e-2, 0.1, 0.95


class ReferenceMuon:
    """One matrix."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.double().clone()
        self.momentum = torch.zeros_like(self.weight)

    def step(self, gradient: Tensor, rate: float) -> None:
        gradient = gradient.double()
        # An average here, a sum in the post: orthogonalizing forgets their factor.
        self.momentum = MOMENTUM * self.momentum + (1 - MOMENTUM) * gradient
        nesterov = MOMENTUM * self.momentum + (1 - MOMENTUM) * gradient
        rows, columns = self.weight.shape
        scale = 0.2 * math.sqrt(max(rows, columns))
        self.weight = (1 - rate * DECAY) * self.weight - rate * scale * orthogonalized(nesterov)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Five quintic Newton-Schulz iterations: each singular value s becomes a s + b s^3 + c s^5, near 1 in the end."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        left, values, right = torch.linalg.svd(x, full_matrices=False)
        x = left @ torch.diag(a * values + b * values**3 + c * values**5) @ right
    return x


class OneMatrix(nn.Module):
    """A matrix that the optimizer takes for one within a block."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(columns, rows, bias=False)])
        self.norm = nn.Parameter(torch.ones(columns))


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (128, 48), (48, 128), (32, 96)])
def test_steps_equal_the_reference(rows: int, columns: int):
    torch.manual_seed(1)
    model = nn.Module()
    model.model = OneMatrix(rows, columns)
    optimizer = OptimizerSet(model, "muon", RATE, DECAY)
    weight = model.model.layers[0].weight
    reference, before = ReferenceMuon(weight.detach()), weight.detach().double().clone()
    drift = torch.randn(rows, columns)
    for step in range(6):
        gradient = 0.5 * drift + torch.randn(rows, columns)
        frac = 1.0 - step / 12
        weight.grad = gradient.clone()
        model.model.norm.grad = torch.zeros(columns)
        optimizer.set_rate(frac)
        for each in optimizer.optimizers:
            each.step()
        reference.step(gradient, RATE * frac)
    moved, expected = weight.detach().double() - before, reference.weight - before
    # Newton-Schulz runs in bf16, whose rounding the iteration carries along.
    assert (moved - expected).norm() < 0.02 * expected.norm()
    alignment = (moved * expected).sum() / (moved.norm() * expected.norm())
    assert alignment > 0.9998


def test_the_update_has_the_size_of_adamws():
    """About 0.2 of the rate a weight, whatever the matrix: what lets both share one rate."""
    torch.manual_seed(2)
    model = Decoder(SMALL)
    model.initialise(1)
    optimizer = OptimizerSet(model, "muon", RATE, 0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for each in optimizer.optimizers:
        each.step()
    for name, parameter in model.named_parameters():
        if is_hidden_matrix(name, parameter):
            size = (parameter - before[name]).detach().square().mean().sqrt() / RATE
            assert 0.1 < size < 0.3, name
