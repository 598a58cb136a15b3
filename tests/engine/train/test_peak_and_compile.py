"""The measured peak, and what is told about compiling."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path

import msgspec
import pytest
import torch

from engine import plan as plans
from engine.ramp import SPEED_FACT
from engine.records import EventRow, MeasuredPeak, StepRow
from engine.rehearsal import Rehearsal, keep
from engine.runs.folder import RunFolder
from engine.settings import TrainingSettings
from engine.train import matmul_probe
from engine.train.compiling import Outlook, compile_where_it_pays, outlook_of, why_not
from engine.train.device import Accelerator, forward_backward
from engine.train.journal import Journal
from engine.train.loop import train
from engine.train.matmul_probe import KEPT_S, doubt_peak, known_peak, measure
from engine.train.model import Decoder
from engine.train.tensorfile import read_tensors
from tests.engine.train.conftest import DEVICE, SMALL, MakeRun, make_plan

AUTO, OFF, ON = (TrainingSettings(compile=choice) for choice in ("auto", "off", "on"))


def told(run: RunFolder, kind: str) -> EventRow:
    (event,) = [event for event in run.open().rows(EventRow) if event.kind == kind]
    return event


def test_the_peak_is_near_what_a_plain_product_gives():
    accelerator = Accelerator(make_plan())
    found = measure(accelerator)
    assert found is not None
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    fastest_s = min(timed(a, b) for _ in range(12))
    plain = 2 * 1024**3 / fastest_s
    assert 0.3 * plain < found < 10 * plain, "of the same order, other programs beside it or not"


def timed(a: torch.Tensor, b: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - started


def test_the_peak_is_kept_for_its_device_and_format_for_a_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(matmul_probe.BUDGET_S, "cpu", 0.01)
    cache, plan = tmp_path / "cache" / "peak.json", make_plan()
    accelerator = Accelerator(plan)
    first = known_peak(cache, plan, accelerator)
    assert first is not None and known_peak(cache, plan, accelerator) == first
    half = make_plan(precision="bf16")
    assert known_peak(cache, half, Accelerator(half)) != first
    other = make_plan(device=msgspec.structs.replace(DEVICE, name="another processor"))
    assert known_peak(cache, other, accelerator) != first
    kept = msgspec.json.decode(cache.read_bytes(), type=dict[str, MeasuredPeak])
    assert len(kept) == 3 and first in kept.values()
    aged = {key: msgspec.structs.replace(peak, at=peak.at - KEPT_S - 1) for key, peak in kept.items()}
    cache.write_bytes(msgspec.json.encode(aged))
    renewed = known_peak(cache, plan, accelerator)
    assert renewed is not None and renewed.at >= first.at
    cache.write_bytes(b"{damaged")
    assert known_peak(cache, plan, accelerator) is not None
    cache.unlink()
    cache.mkdir()
    assert known_peak(cache, plan, accelerator) is not None, "a cache that cannot be kept is done without"


def test_a_peak_that_a_training_was_faster_than_is_measured_anew_and_the_higher_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache, plan = tmp_path / "peak.json", make_plan()
    accelerator = Accelerator(plan)
    measured = iter((4e9, 9e9, 5e9))
    monkeypatch.setattr(matmul_probe, "measure", lambda _: next(measured))
    found = []
    for faster in (0.9, 1.1, 1.1, 0.9):
        peak = known_peak(cache, plan, accelerator)
        assert peak is not None
        found.append(peak.flops)
        doubt_peak(cache, plan, accelerator, faster * peak.flops / plan.shape.flops_per_token)
    assert found == [4e9, 4e9, 9e9, 9e9], "5e9 is another program's doing"
    assert next(measured, None) is None


@pytest.mark.usefixtures("signals")
def test_a_training_that_is_faster_than_the_peak_doubts_it(make_run: MakeRun):
    run = make_run(steps=2)
    cache = run.workspace / "cache" / "peak.json"
    assert train(run.path, os.getppid()) == 0
    (peak,) = msgspec.json.decode(cache.read_bytes(), type=dict[str, MeasuredPeak]).values()
    assert peak.at > 0
    key = next(iter(json.loads(cache.read_bytes())))
    cache.write_bytes(msgspec.json.encode({key: msgspec.structs.replace(peak, flops=1.0)}))
    run = make_run(steps=2)
    assert train(run.path, os.getppid()) == 0
    (peak,) = msgspec.json.decode(cache.read_bytes(), type=dict[str, MeasuredPeak]).values()
    assert (peak.flops, peak.at) == (1.0, 0.0)


def test_without_memory_for_a_product_the_peak_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(matmul_probe._SHAPES, "cpu", ((2**31, 2**28, 8),))
    plan = make_plan()
    assert known_peak(tmp_path / "peak.json", plan, Accelerator(plan)) is None
    assert not (tmp_path / "peak.json").exists()


def lasting(seconds: float | None) -> Outlook:
    return Outlook(seconds=seconds, basis="as was measured")


def test_whether_it_pays_is_told_in_minutes(monkeypatch: pytest.MonkeyPatch):
    eager, compiled = make_plan(), make_plan(is_compiled=True)
    monkeypatch.setattr(plans, "has_compiler", lambda: True)
    reason = why_not(compiled, AUTO, lasting(240.0))
    assert reason == "the run takes 4 min as was measured, and it pays from about 30 min on"
    assert why_not(eager, AUTO, lasting(2400.0)) is None, "what was measured counts, not the plan's formula"
    assert why_not(compiled, AUTO, lasting(None)) is None
    assert "not known" in (why_not(eager, AUTO, lasting(None)) or "")
    assert why_not(compiled, ON, lasting(240.0)) is None, "who asked for it gets it"
    assert "off" in (why_not(eager, OFF, lasting(2400.0)) or "")
    monkeypatch.setattr(plans, "has_compiler", lambda: False)
    assert "neither g++ nor clang++" in (why_not(eager, AUTO, lasting(2400.0)) or "")
    old = msgspec.structs.replace(DEVICE, kind="cuda", capability=(6, 1))
    monkeypatch.setattr(plans, "has_compiler", lambda: True)
    assert "7.0" in (why_not(make_plan(device=old), AUTO, lasting(2400.0)) or "")


def test_how_long_a_run_takes_is_measured_where_it_can_be(make_run: MakeRun):
    run = make_run()
    store, plan = run.open(read_only=False), make_plan()
    guess = outlook_of(plan, store)
    assert guess.seconds is not None and "by formula" in guess.text
    rehearsal = Rehearsal(
        at=1.0,
        device=plan.device.name,
        flops_per_token=plan.shape.flops_per_token,
        precision=plan.precision,
        micro_batch=4,
        steps=6,
        tokens_per_s=2.0,
        tokens_per_s_low=1.0,
        tokens_per_s_high=3.0,
        memory_bytes=None,
    )
    keep(Path(store.meta("workspace", str)), rehearsal)
    assert outlook_of(plan, store).text == "the run takes 51 min at the 2 tokens/s that a rehearsal measured"
    store.set_meta(**{SPEED_FACT: 4.0})
    found = outlook_of(plan, store)
    assert found.text == "the run takes 26 min at the 4 tokens/s that the batch ramp measured"
    assert found.seconds == pytest.approx(plan.tokens_total / 4.0)
    assert outlook_of(plan, store, 240.0).text == "the rest of the run takes 4 min at its speed so far"
    store.close()


@pytest.mark.usefixtures("signals")
def test_a_short_run_says_that_it_is_not_compiled_and_what_its_peak_is(make_run: MakeRun):
    run = make_run(steps=2)
    assert train(run.path, os.getppid()) == 0
    event = told(run, "not-compiled")
    assert event.level == "info" and event.text.startswith("The model is not compiled: ")
    assert "by formula" in event.text
    peak = run.open().find_meta("peak", MeasuredPeak)
    assert peak is not None and peak.precision == "fp32"
    assert json.loads(told(run, "peak").data)["flops"] == peak.flops
    assert "TFLOP/s in fp32" in told(run, "peak").text


def test_what_is_compiled_says_so_and_computes_the_same(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch):
    """Traced and differentiated as always, but without the half minute that the C++ compiler takes."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", functools.partialmethod(compile_module, backend="aot_eager")
    )
    shape = msgspec.structs.replace(SMALL, n_layer=1)
    plan, run = make_plan(shape=shape, is_compiled=True), make_run()
    accelerator, journal = Accelerator(plan), Journal(run.store_path)
    model = Decoder(shape)
    model.initialise(1)
    model.train()
    ids = torch.randint(0, shape.vocab_size, (4, shape.context + 1))
    results = []
    for _ in range(2):
        loss = forward_backward(model, accelerator, ids[:, :-1], ids[:, 1:], 1.0)
        results.append((loss.item(), model.model.embed_tokens.weight.grad.clone()))
        model.zero_grad()
        if len(results) == 1:
            compile_where_it_pays(model, accelerator, journal, plan, ON, 4, None)
    journal.close()
    (eager, its_gradient), (compiled, other_gradient) = results
    assert compiled == pytest.approx(eager, rel=1e-4)
    torch.testing.assert_close(other_gradient, its_gradient, rtol=0.02, atol=0.02)
    event = told(run, "compiled")
    assert event.text.startswith("Compiled the model in ") and json.loads(event.data)["seconds"] > 0


@pytest.mark.usefixtures("signals")
def test_two_compiled_trainings_of_one_seed_are_the_same_bit_for_bit(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
):
    """In bf16, where attention goes back in a way of its own."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", functools.partialmethod(compile_module, backend="aot_eager")
    )
    monkeypatch.setitem(matmul_probe.BUDGET_S, "cpu", 0.01)
    curves, weights = [], []
    for _ in range(2):
        run = make_run({"compile": "on"}, steps=3, precision="bf16", is_compiled=True)
        assert train(run.path, os.getppid()) == 0
        assert told(run, "compiled")
        rows = run.open().rows(StepRow, "ORDER BY step")
        curves.append([(row.loss, row.grad_norm) for row in rows])
        weights.append(dict(read_tensors(run.model / "model.safetensors")))
    assert curves[0] == curves[1] and len(curves[0]) == 3
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
