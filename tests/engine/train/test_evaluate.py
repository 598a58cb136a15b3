"""A validation: the same windows every time, as many as there is time and memory for."""

from __future__ import annotations

import itertools
import math
import os
import time
from pathlib import Path

import pytest
import torch

from engine.corpus.manifest import CorpusManifest, load_manifest
from engine.corpus.shard import TokenStore
from engine.records import EvaluationRow, EventRow, StepRow, TextSampleRow
from engine.train import evaluate, observe
from engine.train.device import Accelerator
from engine.train.evaluate import Validator
from engine.train.loop import train
from engine.train.model import Decoder
from tests.engine.train.conftest import SMALL, MakeRun, make_plan


@pytest.fixture
def model() -> Decoder:
    model = Decoder(SMALL)
    model.initialise(1)
    return model


@pytest.fixture
def validator(corpus: Path) -> Validator:
    manifest: CorpusManifest = load_manifest(corpus / "corpus.json")
    tokens = TokenStore.open(Path(manifest.folder), "validation")
    return Validator(tokens, manifest, SMALL.context, Accelerator(make_plan()))


def slow(model: Decoder, seconds: float) -> None:
    forward = model.forward

    def slowly(*arguments):
        time.sleep(seconds)
        return forward(*arguments)

    model.forward = slowly


def test_it_is_the_mean_over_the_split(validator: Validator, model: Decoder):
    found = validator.evaluate(model)
    assert found.num_tokens == validator.num_tokens > 1000
    assert found.loss == pytest.approx(math.log(512), abs=0.3)
    with torch.no_grad():
        windows = validator._windows
        logits = model(windows[:, :-1]) @ model.head.T
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert found.loss == pytest.approx(expected.item(), rel=1e-4)
    assert validator.evaluate(model) == found


def test_it_is_bounded_in_time_and_says_what_it_covered(
    validator: Validator, model: Decoder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluate, "MAX_S", 0.25)
    whole, validator.batch = validator.num_tokens, 2
    slow(model, 0.1)
    started = time.monotonic()
    found = validator.evaluate(model)
    assert time.monotonic() - started < 1.5
    assert 0 < found.num_tokens < whole and found.num_tokens == validator.num_tokens
    again = validator.evaluate(model)
    assert again == found, "the next one takes the same windows, so that the two can be compared"


def test_a_restart_takes_the_same_windows(validator: Validator, model: Decoder, corpus: Path):
    assert validator.settled_windows == 0
    validator.settle(0)
    validator.settle(3)
    assert validator.evaluate(model).num_tokens == 3 * SMALL.context
    assert validator.settled_windows == 3


def test_whatever_is_left_out_what_is_taken_is_spread_evenly():
    order = evaluate._evenly(37)
    assert sorted(order) == list(range(37))
    for taken in (4, 8, 16):
        gaps = [b - a for a, b in itertools.pairwise([*sorted(order[:taken]), 37])]
        assert max(gaps) <= 2 * 64 / taken


def test_without_memory_it_takes_fewer_windows_at_a_time(validator: Validator, model: Decoder):
    expected = validator.evaluate(model)
    forward = model.forward

    def forward_in_little_memory(ids: torch.Tensor, *others):
        if ids.shape[0] > 2:
            torch.empty(2**60, dtype=torch.uint8)
        return forward(ids, *others)

    model.forward = forward_in_little_memory
    found = validator.evaluate(model)
    assert validator.batch == 2 and found.num_tokens == expected.num_tokens
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.usefixtures("signals")
def test_training_goes_on_where_there_is_no_memory_to_look_at_it(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
):
    def no_memory(*_: object, **__: object) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(evaluate, "summed_loss", no_memory)
    monkeypatch.setattr(observe, "generate", no_memory)
    run = make_run(steps=3)
    assert train(run.path, os.getppid()) == 0
    store = run.open()
    assert not store.rows(EvaluationRow) and not store.rows(TextSampleRow)
    assert len(store.rows(StepRow)) == 3 and run.model.is_dir()
    texts = [event.text for event in store.rows(EventRow) if event.kind == "out-of-memory"]
    assert len(texts) == 5
    assert "1 windows at a time" in texts[1] and sum("validation, which is left out" in t for t in texts) == 2
    assert sum("text sample, which is left out" in text for text in texts) == 2


@pytest.mark.usefixtures("signals")
def test_a_row_says_how_many_tokens_it_was_measured_on(make_run: MakeRun):
    run = make_run(steps=2)
    assert train(run.path, os.getppid()) == 0
    first, last = run.open().rows(EvaluationRow, "ORDER BY step")
    assert first.num_tokens == last.num_tokens and (last.num_tokens or 0) > 1000
