"""Real trainers as processes: killed, told what to do, orphaned, and what they leave."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.errors import EngineError
from engine.process import module_argv
from engine.records import (
    CheckpointRow,
    EvaluationRow,
    EventRow,
    RunState,
    StateRow,
    StepRow,
    TextSampleRow,
)
from engine.runs.folder import RunFolder
from engine.runs.lock import holder
from engine.train.__main__ import main
from engine.train.checkpoint import newest_verified, verify
from engine.train.control import stop_reason
from engine.train.loop import train
from tests.conftest import wait_for
from tests.engine.train.conftest import MakeRun

Start = Callable[..., subprocess.Popen[bytes]]
LONG = 1_000_000


def weights_hash(run: RunFolder) -> str:
    return hashlib.sha256((run.model / "model.safetensors").read_bytes().split(b"}}", 1)[1]).hexdigest()


def kinds(run: RunFolder) -> list[str]:
    store = run.open()
    found = [event.kind for event in store.rows(EventRow)]
    store.close()
    return found


def num_steps(run: RunFolder) -> int:
    store = run.open()
    newest = store.newest(StepRow, "step")
    store.close()
    return newest.step if newest else 0


def answer(run: RunFolder, verb: str) -> str:
    """Post a command and wait for its acknowledgement."""
    store = run.open(read_only=False)
    number = store.post_command(verb, "test@here")
    wait_for(lambda: store.acknowledgement(number), 30, verb)
    acknowledgement = store.acknowledgement(number)
    assert acknowledgement is not None and acknowledgement.is_done
    store.close()
    return acknowledgement.message


@pytest.mark.usefixtures("signals")
def test_killed_and_resumed_equals_undisturbed_bit_for_bit(make_run: MakeRun, start_trainer: Start):
    options = {"steps": 220, "precision": "bf16"}
    undisturbed, killed = make_run(**options), make_run({"checkpoint_every_s": 1}, **options)
    assert train(undisturbed.path, os.getppid()) == 0

    trainer = start_trainer(killed)
    wait_for(lambda: list(killed.checkpoints.glob("step-*")), 60, "a checkpoint")
    at = num_steps(killed)
    wait_for(lambda: num_steps(killed) > at, 60, "steps after it")
    trainer.send_signal(signal.SIGKILL)
    assert trainer.wait() == -signal.SIGKILL, "it was to be killed before its end"
    assert start_trainer(killed).wait(90) == 0

    assert "resumed" in kinds(killed)
    assert weights_hash(killed) == weights_hash(undisturbed)
    store, other = killed.open(), undisturbed.open()
    losses, expected = ([row.loss for row in each.rows(StepRow, "ORDER BY step")] for each in (store, other))
    assert losses == expected and len(losses) == 220
    assert len(store.rows(CheckpointRow)) >= 2
    assert len(list(killed.checkpoints.iterdir())) == 2


@pytest.mark.usefixtures("signals")
def test_a_whole_run_leaves_rows_and_a_model_that_writes(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
):
    run = make_run(steps=200)
    assert train(run.path, os.getppid()) == 0
    store = run.open()
    first, last = store.rows(EvaluationRow, "ORDER BY step")
    assert (first.step, last.step) == (0, 200)
    assert first.val_loss == pytest.approx(6.3, abs=0.3) and last.val_loss < 0.85 * first.val_loss
    manifest = json.loads(run.corpus_path.read_bytes())
    tokens_per_byte = manifest["validation_tokens"] / manifest["validation_bytes"]
    assert last.val_bits_per_byte == pytest.approx(last.val_loss / 0.693147 * tokens_per_byte, rel=1e-4)
    row = store.rows(StepRow, "ORDER BY step DESC")[0]
    assert (row.step, row.tokens, row.micro_batch, row.grad_accum) == (200, 200 * 512, 4, 2)
    assert row.tokens_per_s > 0 and row.memory_bytes and row.memory_bytes > 50_000_000
    assert [sample.step for sample in store.rows(TextSampleRow, "ORDER BY step")] == [0, 200]
    assert store.state() == msgspec.structs.replace(store.rows(StateRow)[0], state="running")
    heartbeat = store.heartbeat("trainer")
    assert heartbeat is not None and time.time() - heartbeat.at < 60
    assert {"trainer-started", "checkpoint", "epoch", "model-written"} <= set(kinds(run))
    epoch = next(event for event in store.rows(EventRow) if event.kind == "epoch")
    assert "no CUDA cache" in epoch.text and json.loads(epoch.data)["resident_bytes"] > 0

    assert {path.name for path in run.model.iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "info.json",
        "manifest.json",
    }
    config = json.loads((run.model / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"] and config["num_key_value_heads"] == 2
    assert json.loads((run.model / "info.json").read_text())["val_loss"] == last.val_loss
    options = ["--prompt", "import ", "--max-tokens", "40", "--seed", "1"]
    texts = []
    for _ in range(2):
        assert main(["generate", str(run.path), *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and len(texts[0]) > 20
    command = module_argv("engine.train", "generate", str(run.path), *options)
    assert len(subprocess.run(command, capture_output=True, check=True).stdout) > 20


def test_commands_are_obeyed_and_answered(make_run: MakeRun, start_trainer: Start):
    run = make_run(steps=LONG)
    trainer = start_trainer(run)
    wait_for(lambda: num_steps(run) > 3, 60, "steps")
    assert answer(run, "pause") == "Paused."
    paused_at = num_steps(run)
    store = run.open(read_only=False)
    state = store.state()
    assert state is not None and state.state == RunState.PAUSED and "test@here" in state.reason
    assert answer(run, "pause") == "It was paused already."
    saved = answer(run, "checkpoint")
    wait_for(lambda: store.heartbeat("trainer").phase == "paused", 30, "the phase")
    folder = run.checkpoints / saved.removeprefix("Saved ").rstrip(".")
    assert verify(folder).state.step == paused_at
    time.sleep(0.5)
    assert num_steps(run) == paused_at
    assert answer(run, "resume") == "Goes on."
    wait_for(lambda: num_steps(run) > paused_at, 30, "steps after the pause")
    resumed = store.rows(StepRow, "WHERE step = ?", (paused_at + 1,))[0]
    assert resumed.tokens_per_s > 512 / 2, "the pause does not count as the step's time"
    assert answer(run, "resume") == "It was not paused."
    stop = store.post_command("stop", "test@here")
    assert trainer.wait(30) == 10
    assert store.acknowledgement(stop) is None, "that is the supervisor's"
    checkpoint = newest_verified(run.path).checkpoint
    assert checkpoint is not None and checkpoint.state.step == num_steps(run)
    assert [row.state for row in store.rows(StateRow)] == ["running", "paused", "running"]


def test_without_its_supervisor_it_saves_and_leaves(make_run: MakeRun, start_trainer: Start):
    run = make_run(steps=LONG)
    command = module_argv("engine.train", "run", str(run.path))
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"])
    wait_for(lambda: num_steps(run) > 3, 60, "steps")
    second = start_trainer(run)
    assert second.wait(30) == 2, "never two trainers on one run"
    assert "Another trainer" in run.log_path.read_text() and "Traceback" not in run.log_path.read_text()
    parent.kill()
    parent.wait()
    wait_for(lambda: holder(run.trainer_lock) is None, 30, "the orphan to leave")
    checkpoint = newest_verified(run.path).checkpoint
    assert checkpoint is not None and checkpoint.state.step == num_steps(run)
    assert kinds(run)[-1] == "trainer-left"

    trainer = start_trainer(run)
    wait_for(lambda: num_steps(run) > checkpoint.state.step, 60, "steps after the restart")
    trainer.send_signal(signal.SIGINT)
    trainer.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert trainer.poll() is None, "a hang-up or Ctrl-C is not meant for it"
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(30) == 11
    assert "resumed" in kinds(run)


def test_a_locked_store_does_not_stall_training(make_run: MakeRun, start_trainer: Start):
    run = make_run({"checkpoint_every_s": 1}, steps=LONG)
    lock = sqlite3.connect(run.store_path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    trainer = start_trainer(run)
    wait_for(lambda: holder(run.trainer_lock), 60, "the trainer to start")
    time.sleep(2.0)
    lock.execute("ROLLBACK")
    wait_for(lambda: num_steps(run) > 3, 60, "steps")
    lock.execute("BEGIN IMMEDIATE")
    before = num_steps(run)
    time.sleep(2.0)
    assert num_steps(run) == before
    lock.execute("ROLLBACK")
    wait_for(lambda: num_steps(run) > before, 30, "rows after the lock")
    store = run.open()
    rows = store.rows(StepRow, "WHERE step > ? ORDER BY step", (before,))
    during = [row for row in rows if row.at < rows[0].at + 2.0]
    assert len(during) > 3 and [row.step for row in during] == list(
        range(before + 1, before + 1 + len(during))
    )
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(during)]
    assert max(gaps) < 1.0
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(30) == 11


def test_damaged_checkpoints_are_told_and_the_older_one_used(make_run: MakeRun, start_trainer: Start):
    run = make_run(steps=LONG)
    trainer = start_trainer(run)
    wait_for(lambda: num_steps(run) > 3, 60, "steps")
    older = answer(run, "checkpoint").removeprefix("Saved ").rstrip(".")
    at = num_steps(run)
    wait_for(lambda: num_steps(run) > at + 3, 30, "more steps")
    newer = answer(run, "checkpoint").removeprefix("Saved ").rstrip(".")
    trainer.kill()
    trainer.wait()
    (run.checkpoints / newer / "optimizer.safetensors").write_bytes(b"")
    trainer = start_trainer(run)
    wait_for(lambda: "resumed" in kinds(run), 60, "a resumed trainer")
    store = run.open()
    told = {event.kind: event.text for event in store.rows(EventRow)}
    assert newer in told["checkpoint-damaged"] and "optimizer.safetensors" in told["checkpoint-damaged"]
    assert older in told["resumed"]


@pytest.mark.usefixtures("signals")
def test_what_a_restart_cannot_mend_is_refused(make_run: MakeRun):
    run = make_run()
    manifest = json.loads(run.corpus_path.read_bytes())
    run.corpus_path.write_text(json.dumps({**manifest, "vocab_size": 700}))
    with pytest.raises(EngineError, match="700 ids"):
        train(run.path, os.getppid())
    store = run.open()
    (event,) = [event for event in store.rows(EventRow) if event.level == "error"]
    assert event.source == "trainer" and event.kind == "trainer-refused" and "700 ids" in event.text


def test_where_nothing_compiles_it_trains_eagerly_and_says_why(
    make_run: MakeRun, start_trainer: Start, tmp_path: Path
):
    run = make_run({"compile": "on"}, steps=3, is_compiled=True)
    cache = str(tmp_path / "inductor")
    trainer = start_trainer(run, CXX="/nonexistent/c++", TORCHINDUCTOR_CACHE_DIR=cache)
    assert trainer.wait(120) == 0
    store = run.open()
    (event,) = [event for event in store.rows(EventRow) if event.kind == "compile-failed"]
    assert event.level == "warning" and len(event.text) > 60
    assert num_steps(run) == 3


def test_generate_without_a_checkpoint_says_so(make_run: MakeRun, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", str(make_run().path)]) == 2
    out, error = capsys.readouterr()
    assert "no checkpoint" in error and not out


@pytest.mark.usefixtures("signals")
def test_generate_goes_back_to_a_good_checkpoint_where_the_model_is_damaged(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
):
    run = make_run(steps=12)
    assert train(run.path, os.getppid()) == 0
    command = ["generate", str(run.path), "--prompt", "import ", "--max-tokens", "20"]
    assert main(command) == 0
    whole = capsys.readouterr()
    assert whole.out and not whole.err
    weights = run.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main(command) == 0
    out, error = capsys.readouterr()
    assert out == whole.out and str(run.model) in error and "step-12 is used" in error
    for folder in run.checkpoints.iterdir():
        (folder / "model.safetensors").write_bytes(b"")
    assert main(command) == 2
    out, error = capsys.readouterr()
    assert not out and str(run.model) in error and "step-12 is damaged" in error and "Restore" in error


def test_generate_ends_quietly_with_ctrl_c_and_with_its_reader(make_run: MakeRun, start_trainer: Start):
    run = make_run(steps=2)
    assert start_trainer(run).wait(60) == 0
    # Temperature 0 soon repeats itself: it streams until it is told otherwise.
    options = ("--temperature", "0", "--max-tokens", str(LONG))
    command = module_argv("engine.train", "generate", str(run.path), *options)
    for is_interrupted in (True, False):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1)
        if is_interrupted:
            process.send_signal(signal.SIGINT)
        else:
            process.stdout.close()
        assert process.wait(30) == (130 if is_interrupted else 0)
        assert process.stderr.read() == b""


def test_probe_ends_quietly_where_nobody_reads():
    process = subprocess.Popen(
        module_argv("engine.train", "probe"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == b""


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("ana@laptop (the app)", "Stopped by ana@laptop (the app)."),
        ("supervisor: limits.max_hours is reached: 2 hours.", "limits.max_hours is reached: 2 hours."),
    ],
)
def test_why_it_was_stopped_is_one_sentence(who: str, reason: str):
    assert stop_reason(who) == reason


def test_probe_tells_what_torch_can_use():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(
        module_argv("engine.train", "probe"), capture_output=True, check=True, text=True, env=environment
    )
    probe = json.loads(found.stdout)
    assert probe["torch"].startswith("2.") and probe["num_threads"] >= 1
    assert probe["cuda_available"] is False and probe["devices"] == []
