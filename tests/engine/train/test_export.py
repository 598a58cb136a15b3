"""An exported model is the same model to others: transformers loads the folder, a .gguf holds the same numbers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers

from engine.errors import CheckpointError, EngineError, StoreError
from engine.runs import export as exporting
from engine.runs.export import ExportRequest, export
from engine.runs.folder import RunFolder
from engine.train.export import GGUF_FILE, export_gguf
from engine.train.loop import train
from engine.train.model_folder import load_newest
from tests.engine.train.conftest import MakeRun

TEXT = "import os\nfor name in os.listdir(path):  # <|endoftext|> 123 ünï 你好\n    print(name)\n"


@pytest.fixture
def trained(make_run: MakeRun, signals: None) -> RunFolder:
    run = make_run(steps=3)
    assert train(run.path, os.getppid()) == 0
    return run


def test_transformers_loads_the_folder_and_computes_the_same(trained: RunFolder, tmp_path: Path):
    told: list[tuple[int, int]] = []
    target = tmp_path / "out" / "model"
    assert export(trained, ExportRequest(to=target), lambda *done: told.append(done)) == target
    assert told[-1][0] == told[-1][1] == 4 * load_newest(trained.path).model.shape.parameters
    assert [done for done, _ in told] == sorted(done for done, _ in told) and len(told) > 5
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(target)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    ours = load_newest(trained.path).model
    ids = tokenizer(TEXT.replace("<|endoftext|>", ""), return_tensors="pt")["input_ids"][:, :60]
    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        mine, other = ours(ids) @ ours.head.T, theirs(ids).logits
    assert mine.std() > 0.01
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT
    assert tokenizer.eos_token_id == theirs.config.eos_token_id == theirs.generation_config.eos_token_id == 0
    card = (target / "README.md").read_text("utf-8")
    assert "library_name: transformers" in card and "electricity" in card and "validation loss" in card
    assert str(tmp_path) not in card


def test_a_gguf_holds_the_same_numbers_and_the_tokenizer(trained: RunFolder, tmp_path: Path):
    parameters = dict(load_newest(trained.path).model.named_parameters())
    for numbers, tolerance in (("f32", 0.0), ("f16", 1e-3), ("q8_0", 1e-2)):
        folder = tmp_path / numbers
        folder.mkdir()
        assert export_gguf(trained.path, folder, "", numbers, lambda *_: None) == "model"
        reader = gguf.GGUFReader(folder / GGUF_FILE)
        found = {tensor.name: tensor for tensor in reader.tensors}
        assert len(found) == len(parameters)
        for theirs, ours in (
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight"),
            ("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight"),
            ("blk.1.attn_q_norm.weight", "model.layers.1.self_attn.q_norm.weight"),
        ):
            tensor, wanted = found[theirs], parameters[ours].detach().numpy()
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(wanted.shape)
            assert np.abs(values - wanted).max() <= tolerance * np.abs(wanted).max()
        assert list(found["token_embd.weight"].shape) == [64, 512]  # a .gguf names the innermost axis first

    def value(key: str) -> object:
        return reader.get_field(key).contents()

    assert value("general.architecture") == "qwen3" and value("tokenizer.ggml.pre") == "qwen2"
    assert value("qwen3.context_length") == 64 and value("qwen3.attention.head_count_kv") == 2
    tokens, kinds = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    assert len(tokens) == len(kinds) == 512 and tokens[0] == "<|endoftext|>" and kinds[0] == 3
    tokenizer = json.loads((trained.path / "tokenizer.json").read_text("utf-8"))
    assert all(tokens[index] == token for token, index in tokenizer["model"]["vocab"].items())
    assert len(value("tokenizer.ggml.merges")) == len(tokenizer["model"]["merges"])


def test_the_tokenizer_splits_text_by_the_pattern_that_converters_know(trained: RunFolder):
    tokenizer = json.loads((trained.path / "tokenizer.json").read_text("utf-8"))
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    assert split == (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(error: type[EngineError], words: str, **choices: object) -> None:
        request = ExportRequest(**{"to": tmp_path / "out", **choices})  # type: ignore[arg-type]
        with pytest.raises(error, match=words):
            export(trained, request, lambda *_: None)
        assert not [path for path in tmp_path.iterdir() if re.match(r"\.?out", path.name)]

    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("kept")
    refused(EngineError, "not empty", to=full)
    assert [path.name for path in full.iterdir()] == ["mine"]
    refused(EngineError, "no folder", to=full / "mine")
    refused(StoreError, "has no step-77", source="step-77")
    weights = trained.path / "checkpoints" / "step-3" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused(CheckpointError, "sha256 differs", source="step-3")
    monkeypatch.setattr(exporting, "disk_free_bytes", lambda _: 1_000_000)
    refused(EngineError, "0.00 GiB are free")
