"""What a run leaves is a Qwen3 to others: transformers loads it as it lies, and computes the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest
import torch
import transformers

from engine.records import RunPlan
from engine.shape import ModelShape
from engine.train.loop import train
from engine.train.model import Decoder
from engine.train.model_folder import ModelInfo, load_newest, write_model
from engine.train.sample import Vocabulary, generate
from tests.engine.train.conftest import SMALL, MakeRun


def randomised(shape: ModelShape) -> Decoder:
    """A model none of whose parameters is at a special value."""
    model = Decoder(shape)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.empty(parameter.shape).normal_(0.0, 0.2, generator=generator)
            parameter.copy_(1.0 + noise if "norm" in name else noise)
    return model


def info_of(shape: ModelShape) -> ModelInfo:
    return ModelInfo(
        run_id="a-run",
        preset="tiny",
        parameters=shape.parameters,
        shape=shape,
        corpus="builtin:python",
        step=1,
        tokens=512,
        val_loss=None,
        val_bits_per_byte=None,
        end_of_text_id=0,
        finished_at=time.time(),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": True},
        {"n_kv_head": 4},
        {"n_kv_head": 1, "n_embd": 48, "n_layer": 3, "tie_embeddings": True},
    ],
    ids=["untied, grouped", "tied, grouped", "untied, multi-head", "tied, multi-query"],
)
def test_logits_equal_those_of_transformers(tmp_path: Path, changes: dict[str, object]):
    shape = msgspec.structs.replace(SMALL, **changes)
    ours = randomised(shape).eval()
    (tmp_path / "tokenizer.json").write_text("{}")
    folder = write_model(tmp_path, ours, info_of(shape))
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert sum(parameter.numel() for parameter in theirs.parameters()) == shape.parameters
    ids = torch.randint(0, shape.vocab_size, (2, shape.context), generator=torch.Generator().manual_seed(1))
    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        mine, other = ours(ids) @ ours.head.T, theirs(ids).logits
    assert mine.std() > 0.5, "logits that are all alike would prove nothing"
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("signals")
def test_a_finished_run_is_loaded_by_its_folder_and_writes_the_same_text(make_run: MakeRun):
    run = make_run(steps=20)
    assert train(run.path, os.getppid()) == 0
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run.model, dtype=torch.float32).eval()
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(run.model / "tokenizer.json"))
    plan = run.open().meta("plan", RunPlan)
    end_of_text_id = theirs.config.eos_token_id
    vocabulary = Vocabulary(run.model / "tokenizer.json", end_of_text_id)
    text = "import os\nfor name in os.listdir(path):\n"
    ids = vocabulary.encode(text)
    assert tokenizer(text)["input_ids"] == ids and tokenizer.decode(ids) == text
    ours = load_newest(run.path).model
    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        batch = torch.tensor([ids])
        torch.testing.assert_close(ours(batch) @ ours.head.T, theirs(batch).logits, rtol=1e-4, atol=1e-4)
    # Greedy, so that not a token may differ; the prompt ends where a token does.
    mine = "".join(generate(ours, vocabulary, text, max_tokens=12, temperature=0))
    written = theirs.generate(
        batch, attention_mask=torch.ones_like(batch), do_sample=False, max_new_tokens=12, pad_token_id=0
    )
    assert plan.shape.context > len(ids) + 12
    assert mine and tokenizer.decode(written[0, len(ids) :]).startswith(mine)
