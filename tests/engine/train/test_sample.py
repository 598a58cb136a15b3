"""Text from a model: whole characters, the same for the same seed, bounded."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from engine.shape import ModelShape
from engine.train.model import Decoder
from engine.train.sample import NoTextError, Vocabulary, choose, generate

SIZE = 320


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    """Every byte, and " n" as one token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {"<|endoftext|>": 0} | {letter: index + 1 for index, letter in enumerate(letters)}
    ids["Ġn"] = 257
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[("Ġ", "n")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Vocabulary(tmp_path / "tokenizer.json", 0)


def chain(vocabulary: Vocabulary, *pieces: bytes) -> Decoder:
    """A model that says these tokens one after the other, whichever of them it last saw, then end-of-text."""
    shape = ModelShape(
        vocab_size=SIZE,
        n_layer=1,
        n_head=1,
        n_kv_head=1,
        n_embd=SIZE,
        intermediate=8,
        context=16,
        tie_embeddings=False,
    )
    model = Decoder(shape).eval()
    model.initialise(0)
    ids = [vocabulary.pieces.index(piece) for piece in pieces] + [0]
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(SIZE))
        head = torch.zeros(SIZE, SIZE)
        for before, after in itertools.pairwise(ids):
            head[after, before] = 10.0
        model.head.copy_(head)
    return model


def test_a_character_is_given_whole_or_not_yet(vocabulary: Vocabulary):
    model = chain(vocabulary, b"a", *(bytes([byte]) for byte in "é€b".encode()))
    pieces = list(generate(model, vocabulary, "xa", max_tokens=50, temperature=0))
    assert pieces == ["é", "€", "b"]


def test_a_character_that_is_cut_off_at_the_end_is_marked(vocabulary: Vocabulary):
    model = chain(vocabulary, b"a", *(bytes([byte]) for byte in "é".encode()))
    assert "".join(generate(model, vocabulary, "xa", max_tokens=2, temperature=0)) == "\ufffd"


def test_the_last_token_of_the_prompt_is_chosen_together_with_what_follows(vocabulary: Vocabulary):
    model = chain(vocabulary, b"f", b" n", b"o")
    assert "".join(generate(model, vocabulary, "def ", max_tokens=9, temperature=0)) == "no"


def test_end_of_text_ends_it_and_what_spells_it_is_text(vocabulary: Vocabulary):
    assert list(generate(chain(vocabulary, b"a"), vocabulary, "xa", max_tokens=9, temperature=0)) == []
    assert len(vocabulary.encode("<|endoftext|>")) > 5
    assert vocabulary.encode("") == [0]


def test_a_prompt_that_is_not_utf_8_is_read_with_its_bad_bytes_replaced(vocabulary: Vocabulary):
    prompt = b"x\xe9\xffa".decode("utf-8", "surrogateescape")
    assert vocabulary.encode(prompt) == vocabulary.encode("x\ufffd\ufffda")
    assert vocabulary.encode("\ud800") == vocabulary.encode("\ufffd")
    assert vocabulary.encode("😀é") != vocabulary.encode("\ufffdé")
    assert (
        "".join(generate(chain(vocabulary, b"a", b"b"), vocabulary, prompt, max_tokens=9, temperature=0))
        == "b"
    )


def test_same_seed_same_text_beyond_the_context_too(vocabulary: Vocabulary):
    model = chain(vocabulary, b"a")
    model.head.data.zero_()
    first, second, third = (
        "".join(generate(model, vocabulary, "a", max_tokens=40, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == second != third
    assert len(vocabulary.encode(first)) > 16


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_weights_gone_bad_say_so_and_nothing_else(vocabulary: Vocabulary, temperature: float):
    model = chain(vocabulary, b"a")
    model.head.data[5] = torch.nan
    with pytest.raises(NoTextError, match="not finite"):
        list(generate(model, vocabulary, "xa", max_tokens=9, temperature=temperature))


def test_top_p_and_temperature():
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    generator = torch.Generator().manual_seed(0)
    assert {choose(logits, 1.0, 0.5, generator) for _ in range(50)} == {0}
    assert {choose(logits, 1.0, 0.7, generator) for _ in range(50)} == {0, 1}
    assert {choose(logits, 1.0, 1.0, generator) for _ in range(200)} == {0, 1, 2}
    assert {choose(logits, 1.0, 0.0, generator) for _ in range(9)} == {0}
    assert choose(torch.tensor([1.0, 3.0, 2.0]), 0.0, 1.0, generator) == 1
    hot = sum(choose(logits, 10.0, 1.0, generator) == 2 for _ in range(300))
    assert math.isclose(hot / 300, 0.3, abs_tol=0.12)
