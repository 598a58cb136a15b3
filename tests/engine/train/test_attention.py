"""Causal attention's own backward pass on a CPU, against torch's in double precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.train import attention
from engine.train.attention import causal_attention


def make(batch: int, length: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v and a gradient as the model has them: (B, T, H, E) in memory, seen as (B, H, T, E)."""
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(batch, length, 4, 32, generator=generator).transpose(1, 2) for _ in range(4)]
    q, k, v, grad = (tensor.to(torch.bfloat16) for tensor in tensors)
    return q * scale, k, v, grad


def gradients(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, dtype: torch.dtype) -> list[Tensor]:
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (q, k, v)]
    if dtype == torch.bfloat16:
        out = causal_attention(*inputs)
    else:
        out = F.scaled_dot_product_attention(*inputs, is_causal=True)
    return [out, *torch.autograd.grad(out, inputs, grad.to(dtype))]


def is_own(out: Tensor) -> bool:
    return "CausalAttentionOnCpu" in type(out.grad_fn).__name__


@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize(("batch", "length"), [(1, 16), (3, 100), (8, 256)])
def test_gradients_are_as_near_to_the_truth_as_torchs(
    monkeypatch: pytest.MonkeyPatch, batch: int, length: int, scale: float
):
    tensors = make(batch, length, scale)
    found = gradients(*tensors, torch.bfloat16)
    assert is_own(found[0])
    monkeypatch.setattr(attention, "MOST_SCORES", 0)
    rounded = gradients(*tensors, torch.bfloat16)
    assert not is_own(rounded[0])
    for ours, torchs, exact in zip(found, rounded, gradients(*tensors, torch.float64), strict=True):
        error = (ours.double() - exact).norm()
        assert error < 0.02 * exact.norm()
        assert error < 2 * (torchs.double() - exact).norm()


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch):
    tensors = make(5, 64)
    whole = gradients(*tensors, torch.bfloat16)
    monkeypatch.setattr(attention, "_SLICE_SCORES", 2 * 4 * 64**2)
    for ours, same in zip(gradients(*tensors, torch.bfloat16), whole, strict=True):
        assert torch.equal(ours, same)


def test_a_torch_without_the_function_or_with_another_is_left_to_itself(monkeypatch: pytest.MonkeyPatch):
    name = "_scaled_dot_product_flash_attention_for_cpu"
    function = getattr(torch.ops.aten, name)
    assert attention.HAS_LOGSUMEXP and attention.has_logsumexp()

    def gone(*_: object) -> None:
        raise AttributeError(name)

    def in_base_2(*arguments: object) -> tuple[Tensor, Tensor]:
        out, logsumexp = function(*arguments)
        return out, logsumexp / 0.6931

    def without_mask(
        q: Tensor, k: Tensor, v: Tensor, dropout: float, is_causal: bool
    ) -> tuple[Tensor, Tensor]:
        return function(q, k, v, dropout, False)

    for other in (gone, in_base_2, without_mask):
        monkeypatch.setattr(torch.ops.aten, name, other)
        assert not attention.has_logsumexp()
    monkeypatch.setattr(attention, "HAS_LOGSUMEXP", False)
    q, k, v, _ = make(1, 16)
    assert not is_own(causal_attention(q.requires_grad_(), k, v))


def test_long_contexts_and_other_formats_are_left_to_torch(monkeypatch: pytest.MonkeyPatch):
    tensors = [tensor.requires_grad_() for tensor in make(1, 64)[:3]]
    assert not is_own(causal_attention(*(tensor.float() for tensor in tensors)))
    monkeypatch.setattr(attention, "MOST_SCORES", 4 * 64**2 - 1)
    assert not is_own(causal_attention(*tensors))
