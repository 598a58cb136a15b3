"""The chunked cross-entropy against torch's on full logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from engine.train.loss import cross_entropy_sum


def parts(num_tokens: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(num_tokens, 32, generator=generator)
    head = torch.randn(300, 32, generator=generator) * 0.3
    targets = torch.randint(0, 300, (num_tokens,), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), targets


@pytest.mark.parametrize("chunk_tokens", [1, 7, 50, 1000])
def test_value_and_gradients_equal_plain_cross_entropy(chunk_tokens: int):
    hidden, head, targets = parts()
    (cross_entropy_sum(hidden, head, targets, chunk_tokens * 300) * 0.25).backward()
    plain_hidden, plain_head, _ = parts()
    plain = F.cross_entropy(plain_hidden @ plain_head.T, targets, reduction="sum")
    (plain * 0.25).backward()
    torch.testing.assert_close(cross_entropy_sum(hidden, head, targets, chunk_tokens * 300), plain)
    torch.testing.assert_close(hidden.grad, plain_hidden.grad)
    torch.testing.assert_close(head.grad, plain_head.grad)


def test_without_gradients_it_gives_the_same_value():
    hidden, head, targets = parts()
    with torch.no_grad():
        without = cross_entropy_sum(hidden, head, targets, 2100)
    torch.testing.assert_close(without, cross_entropy_sum(hidden, head, targets, 2100).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_value_stays_close_to_fp32(dtype: torch.dtype):
    hidden, head, targets = parts(2000)
    exact = F.cross_entropy(hidden @ head.T, targets)
    with torch.autocast("cpu", dtype=dtype):
        loss = cross_entropy_sum(hidden, head, targets, 300 * 128) / 2000
    loss.backward()
    assert loss.dtype is torch.float32 and hidden.grad.dtype is torch.float32
    assert abs(loss.item() - exact.item()) < 2e-3
    expected = torch.autograd.grad(exact, head)[0]
    assert (head.grad - expected).norm() < 0.02 * expected.norm()


def test_a_hopeless_token_has_a_finite_loss_in_bf16():
    hidden = torch.ones(2, 1, dtype=torch.bfloat16, requires_grad=True)
    head = torch.tensor([[300.0], [0.0]], dtype=torch.bfloat16)
    loss = cross_entropy_sum(hidden, head, torch.tensor([1, 0]))
    loss.backward()
    assert 80 < loss.item() < 300
    assert hidden.grad[:, 0].tolist() == [300.0, 0.0]


def test_a_tied_head_gets_both_of_its_gradients():
    _, head, targets = parts()
    cross_entropy_sum(F.embedding(targets, head), head, targets, 3000).backward()
    ours, head.grad = head.grad, None
    F.cross_entropy(F.embedding(targets, head) @ head.T, targets, reduction="sum").backward()
    torch.testing.assert_close(ours, head.grad)
