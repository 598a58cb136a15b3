"""The model against a plain reference, written from the definition and sharing no line with it."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.shape import ModelShape
from engine.train.model import Decoder, KeyValueCache, RMSNorm
from tests.engine.train.conftest import SMALL


def randomised(shape: ModelShape, **options: int) -> Decoder:
    """A model none of whose parameters is at a special value."""
    model = Decoder(shape, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.empty(parameter.shape).normal_(0.0, 0.2, generator=generator)
            parameter.copy_(1.0 + noise if "norm" in name else noise)
    return model


def reference_logits(weights: dict[str, Tensor], shape: ModelShape, ids: list[int]) -> Tensor:
    """Qwen3ForCausalLM for one sequence in float64: a loop over heads and positions, (T, V)."""
    w = {name: value.double() for name, value in weights.items()}
    half = shape.head_dim // 2

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight

    def turn(x: Tensor, position: int) -> Tensor:
        out = x.clone()
        for i in range(half):
            angle = position / 10_000.0 ** (2 * i / shape.head_dim)
            a, b = x[i], x[i + half]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + half] = b * math.cos(angle) + a * math.sin(angle)
        return out

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(shape.n_layer):
        p = f"model.layers.{layer}."
        h = norm(x, w[p + "input_layernorm.weight"])
        q, k, v = (h @ w[f"{p}self_attn.{name}_proj.weight"].T for name in "qkv")
        outputs = []
        for head in range(shape.n_head):
            kv_head = head // (shape.n_head // shape.n_kv_head)
            wide = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
            narrow = slice(kv_head * shape.head_dim, (kv_head + 1) * shape.head_dim)
            qs = norm(q[:, wide], w[p + "self_attn.q_norm.weight"])
            ks = norm(k[:, narrow], w[p + "self_attn.k_norm.weight"])
            qs = torch.stack([turn(row, at) for at, row in enumerate(qs)])
            ks = torch.stack([turn(row, at) for at, row in enumerate(ks)])
            rows = []
            for at in range(len(ids)):
                score = torch.softmax(ks[: at + 1] @ qs[at] / math.sqrt(shape.head_dim), 0)
                rows.append(score @ v[: at + 1, narrow])
            outputs.append(torch.stack(rows))
        x = x + torch.cat(outputs, -1) @ w[p + "self_attn.o_proj.weight"].T
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        gate, up = h @ w[p + "mlp.gate_proj.weight"].T, h @ w[p + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + torch.exp(-gate)) * up) @ w[p + "mlp.down_proj.weight"].T
    x = norm(x, w["model.norm.weight"])
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embeddings": True}, {"n_kv_head": 4}, {"n_kv_head": 1, "n_embd": 48, "n_layer": 1}],
)
def test_logits_equal_the_plain_reference(changes: dict[str, object]):
    shape = msgspec.structs.replace(SMALL, **changes)
    model = randomised(shape).eval()
    ids = torch.randint(0, shape.vocab_size, (2, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(ids) @ model.head.T
    for row in range(2):
        expected = reference_logits(dict(model.named_parameters()), shape, ids[row].tolist())
        torch.testing.assert_close(logits[row].double(), expected, rtol=1e-4, atol=1e-4)


def test_parameters_are_named_and_counted_as_in_transformers():
    model = Decoder(SMALL)
    names = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert names["model.embed_tokens.weight"] == (512, 64)
    assert names["model.layers.1.self_attn.k_proj.weight"] == (32, 64)
    assert names["model.layers.0.self_attn.q_norm.weight"] == (16,)
    assert names["model.layers.0.mlp.down_proj.weight"] == (64, 128)
    assert names["model.layers.1.post_attention_layernorm.weight"] == names["model.norm.weight"] == (64,)
    assert names["lm_head.weight"] == (512, 64)
    assert set(names) == set(model.state_dict())
    assert sum(p.numel() for p in model.parameters()) == SMALL.parameters
    tied = msgspec.structs.replace(SMALL, tie_embeddings=True)
    assert sum(p.numel() for p in Decoder(tied).parameters()) == tied.parameters
    assert "lm_head.weight" not in Decoder(tied).state_dict()


def test_blocks_start_as_the_identity_and_the_seed_decides_the_rest():
    first, second, third = Decoder(SMALL), Decoder(SMALL), Decoder(SMALL)
    for model, seed in ((first, 1), (second, 1), (third, 2)):
        model.initialise(seed)
    assert not first.model.layers[0].mlp.down_proj.weight.any()
    assert not first.model.layers[1].self_attn.o_proj.weight.any()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.head, third.head)
    ids = torch.arange(5)[None]
    torch.testing.assert_close(first(ids), first.model.norm(first.model.embed_tokens(ids)))


def test_reading_token_by_token_equals_reading_at_once():
    model = randomised(SMALL).eval()
    ids = torch.randint(0, 512, (1, 9))
    caches = [KeyValueCache() for _ in model.model.layers]
    with torch.no_grad():
        at_once = model(ids)
        parts = [model(ids[:, :4], caches), *(model(ids[:, at : at + 1], caches) for at in range(4, 9))]
    torch.testing.assert_close(torch.cat(parts, 1), at_once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_recomputed_blocks", [1, 2])
def test_recomputed_activations_change_no_gradient(num_recomputed_blocks: int):
    plain = randomised(SMALL)
    recomputing = randomised(SMALL, num_recomputed_blocks=num_recomputed_blocks)
    ids = torch.randint(0, 512, (2, 16))
    for model in (plain, recomputing):
        model.train()
        model(ids).square().mean().backward()
    for a, b in zip(plain.model.layers.parameters(), recomputing.model.layers.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_of_a_cpu_equals_torchs(dtype: torch.dtype):
    norm = RMSNorm(48)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(48, generator=generator))
    x = torch.randn(3, 5, 48, generator=generator).to(dtype).requires_grad_()
    grad = torch.randn(3, 5, 48, generator=generator).to(dtype)
    norm(x).backward(grad)
    weight = norm.weight.detach().clone().requires_grad_()
    y = x.detach().clone().requires_grad_()
    expected = F.rms_norm(y.float(), (48,), weight, 1e-6).to(dtype)
    expected.backward(grad)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(norm.weight.grad, weight.grad)


def test_autocast_changes_the_format_of_the_matrices_alone():
    model = randomised(SMALL).eval()
    ids = torch.randint(0, 512, (2, 16))
    with torch.no_grad():
        exact = model(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model.model.layers[0].input_layernorm(torch.ones(1, 64)).dtype is torch.bfloat16
            rounded = model(ids)
    assert (rounded.float() - exact).norm() < 0.03 * exact.norm()
