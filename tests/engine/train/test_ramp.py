"""The batch ramp: its rules, and real sizes proven until real memory is short."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch

from engine import ramp as rules
from engine.plan import MicroStep, sizes_to_try
from engine.process import module_argv
from engine.ramp import END_FACT, KeptRamp, RampEnd, choose, judged, key_of, next_size, recall, replan
from engine.records import EventRow, RampRow, RunPlan
from engine.rehearsal import Proof
from engine.runs.folder import RunFolder
from engine.settings import TrainingSettings
from engine.shape import ModelShape
from engine.train.peak import PeakMemory
from engine.train.proof import Prover
from engine.train.ramp import OrphanedError, Ramp
from tests.engine.train.conftest import MakeRun, make_plan

MIB = 2**20
WIDE = ModelShape(
    vocab_size=512,
    n_layer=2,
    n_head=4,
    n_kv_head=4,
    n_embd=128,
    intermediate=2048,
    context=256,
    tie_embeddings=False,
)
"""Little to compute and much to keep: each sequence takes some 18 MiB of activations."""
SIZES = tuple(
    MicroStep(micro_batch=n, num_recomputed_blocks=0, memory_bytes=n * MIB, tokens_per_s_frac=1.0)
    for n in (1, 2, 4, 8, 16)
)


def row(micro_batch: int, tokens_per_s: float | None = None, state: str = "proven") -> RampRow:
    return RampRow(
        number=micro_batch,
        ramp=1,
        at=0.0,
        micro_batch=micro_batch,
        num_recomputed_blocks=0,
        state=state,
        tokens_per_s=tokens_per_s,
        memory_bytes=micro_batch * MIB,
        budget_bytes=100 * MIB,
    )


def climbed(speeds: Sequence[float]) -> list[RampRow]:
    """The rows of a ramp on a device of these speeds, as the rules have them."""
    rows: list[RampRow] = []
    while size := next_size(SIZES, rows, 0.0, "cpu"):
        found = row(size.micro_batch, speeds[len(rows)])
        rows.append(judged(found, rows))
    return rows


def chosen(rows: Sequence[RampRow]) -> int:
    found = choose(rows)
    assert found is not None
    return found.micro_batch


@pytest.mark.parametrize(
    ("speeds", "tried", "micro_batch"),
    [
        ((100, 120, 140, 150, 160), 5, 16),
        ((100, 120, 121, 122, 122), 5, 2),  # as fast as the largest, and smaller
        ((100, 120, 110, 112, 130), 4, 2),  # slower twice in a row
        ((100, 120, 110, 130, 135), 5, 16),  # slower once is no end
        ((100, 120, 90, 150, 160), 3, 2),  # much slower: memory spills
        ((100, 101, 101, 100, 99), 5, 1),
    ],
)
def test_the_fastest_is_chosen_and_the_smallest_of_those(
    speeds: Sequence[float], tried: int, micro_batch: int
) -> None:
    rows = climbed(speeds)
    assert len(rows) == tried
    assert chosen(rows) == micro_batch


def test_what_leaves_no_margin_is_not_chosen_and_larger_ones_are_not_tried() -> None:
    rows = [row(1, 100.0), judged(msgspec.structs.replace(row(2, 500.0), budget_bytes=2 * MIB - 1), [])]
    assert rows[-1].state == "over-budget"
    assert chosen(rows) == 1
    assert next_size(SIZES, rows, 0.0, "cpu") is None
    leaner = msgspec.structs.replace(SIZES[2], num_recomputed_blocks=4, memory_bytes=MIB + 1)
    assert next_size((*SIZES[:2], leaner), rows, 0.0, "cpu") is leaner
    assert choose([row(1, None, "out-of-memory")]) is None


@pytest.mark.parametrize("state", ["killed", "failed", "stopped"])
def test_a_size_that_took_its_process_along_is_the_last(state: str) -> None:
    assert next_size(SIZES, [row(1, 100.0), row(2, None, state)], 0.0, "cpu") is None
    assert chosen([row(1, 100.0), row(2, None, state)]) == 1


def sizes_of(*numbers: int) -> list[MicroStep]:
    return [msgspec.structs.replace(SIZES[0], micro_batch=n, memory_bytes=n * MIB) for n in numbers]


def test_sizes_are_doubled_and_what_lies_between_is_tried_only_where_a_double_one_is_not_left() -> None:
    sizes = sizes_of(1, 2, 3, 4, 6, 8, 12, 24)
    rows: list[RampRow] = []
    while size := next_size(sizes, rows, 0.0, "cpu"):
        too_large = size.micro_batch >= 8
        rows.append(
            row(size.micro_batch, None, "out-of-memory") if too_large else row(size.micro_batch, 100.0)
        )
    assert [row.micro_batch for row in rows] == [1, 2, 4, 8, 6]
    assert next_size(sizes_of(1, 2, 3), [row(1, 100.0), row(2, 120.0)], 0.0, "cpu") == sizes_of(3)[0]
    slower = [row(1, 100.0), row(2, 90.0, "slower")]
    assert next_size(sizes_of(1, 2, 3), slower, 0.0, "cpu") is None, (
        "a little more of what was slower wins nothing"
    )


def test_a_ramp_takes_no_longer_than_it_may() -> None:
    assert next_size(SIZES, [row(1, 100.0)], 59.0, "cpu") is SIZES[1]
    assert next_size(SIZES, [row(1, 100.0)], 60.0, "cpu") is None
    assert next_size(SIZES, [row(1, 100.0)], 60.0, "cuda") is SIZES[1]


def test_the_tokens_of_a_step_stay_whatever_is_chosen() -> None:
    plan = make_plan(micro_batch=4)
    for micro_batch in (1, 2, 8):
        changed = replan(plan, micro_batch, 1)
        assert changed.micro_batch * changed.grad_accum * plan.shape.context == plan.tokens_per_step
        assert (changed.tokens_per_step, changed.steps) == (plan.tokens_per_step, plan.steps)
        assert changed.num_recomputed_blocks == 1
        assert changed.memory_total_bytes == sum(changed.memory_parts_bytes.values()) > 0


def test_a_ramp_is_remembered_for_the_same_settings_and_memory_alone(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(make_plan(), memory_budget_bytes=100 * MIB)
    key = key_of(plan, TrainingSettings(), "2.13.0")
    assert recall(tmp_path, key, 100 * MIB) is None
    rows = (row(1, 100.0), row(2, 200.0))
    now = time.time()
    for age_s, is_fresh in ((rules.KEPT_S + 60, False), (-3600.0, False), (rules.KEPT_S - 60, True)):
        rules.keep(tmp_path, KeptRamp(at=now - age_s, key=key, budget_bytes=100 * MIB, rows=rows))
        found = recall(tmp_path, key, 90 * MIB)
        assert (found is not None) == is_fresh, "a month, and no clock that was set back"
    assert found is not None
    assert (found[0].at, found[1].micro_batch) == (now - rules.KEPT_S + 60, 2)
    assert recall(tmp_path, key, 1 * MIB) is None, "what was chosen does not fit today"
    assert recall(tmp_path, key, 900 * MIB) is not None, "memory was not what ended it"
    for changed in (
        key_of(plan, TrainingSettings(), "2.14.0"),
        key_of(plan, TrainingSettings(activation_checkpointing="off"), "2.13.0"),
        key_of(msgspec.structs.replace(plan, optimizer="adamw"), TrainingSettings(), "2.13.0"),
    ):
        assert recall(tmp_path, changed, 100 * MIB) is None
    rows = (row(1, 100.0), row(2, None, "out-of-memory"))
    rules.keep(tmp_path, KeptRamp(at=now, key=key, budget_bytes=100 * MIB, rows=rows))
    assert [kept.at for kept in rules.load(tmp_path)] == [now]
    assert recall(tmp_path, key, 105 * MIB) is not None
    assert recall(tmp_path, key, 200 * MIB) is None, "there is more memory than there was"
    rules.path_of(tmp_path).write_text("[{", "utf-8")
    assert recall(tmp_path, key, 100 * MIB) is None


def test_a_proof_is_a_step_an_evaluation_a_save_and_a_load(tmp_path: Path) -> None:
    plan = make_plan()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    prover = Prover(plan, TrainingSettings(), scratch)
    proof = prover.prove(2, 1)
    assert isinstance(proof, Proof)
    assert (proof.micro_batch, proof.num_recomputed_blocks) == (2, 1)
    assert proof.step_s == pytest.approx(4 * proof.micro_step_s + proof.update_s)
    assert proof.tokens_per_s == pytest.approx(plan.tokens_per_step / proof.step_s)
    assert min(proof.micro_step_s, proof.update_s, proof.evaluate_s, proof.save_s, proof.load_s) > 0
    # Weights in fp32, and the optimizer's state: one moment of the matrices, two of the rest.
    assert proof.checkpoint_bytes > 8 * plan.shape.parameters
    assert 50 * MIB < proof.step_memory_bytes <= proof.memory_bytes
    assert list(scratch.iterdir()) == []
    again = prover.time_again(proof)
    assert isinstance(again, Proof)
    assert again.micro_step_s <= proof.micro_step_s


def test_a_peak_on_a_gpu_does_not_count_what_an_earlier_part_left_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("release"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: done.append("forget"))
    PeakMemory(torch.device("cuda")).begin()
    assert done == ["release", "forget"]


# --- the process ----------------------------------------------------------------------------------------------


def wide_run(make_run: MakeRun, budget_bytes: int | None = None) -> RunFolder:
    tokens_per_step = 8 * WIDE.context
    return make_run(
        {"activation_checkpointing": "off"},
        shape=WIDE,
        tokens_per_step=tokens_per_step,
        tokens_total=12 * tokens_per_step,
        micro_batch=1,
        grad_accum=8,
        memory_budget_bytes=budget_bytes,
    )


def ramped(run: RunFolder, command: list[str] | None = None) -> list[RampRow]:
    command = command or module_argv("engine.train", "ramp", str(run.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    store = run.open()
    rows = store.ramp()
    told = [event for event in store.rows(EventRow) if event.kind == "ramp-size"]
    assert [event.level for event in told] == ["info"] * len(rows), "memory that is short is no fault"
    end = store.meta(END_FACT, RampEnd)
    assert end.ramp == rows[-1].ramp
    is_cut = any(event.kind == "ramp-time" for event in store.rows(EventRow))
    assert end.is_complete != is_cut
    store.close()
    return rows


def test_sizes_grow_until_one_leaves_no_margin(make_run: MakeRun) -> None:
    free = ramped(wide_run(make_run))
    assert [row.micro_batch for row in free] == [1, 2, 4, 8][: len(free)]
    assert all(row.tokens_per_s and row.save_s and row.load_s and row.evaluate_s for row in free)
    memory = [row.memory_bytes or 0 for row in free]
    noise = 16 * MIB
    assert all(later > earlier - noise for earlier, later in itertools.pairwise(memory))
    if len(free) == 4:  # a busy machine may have ended it earlier
        assert memory[3] - memory[0] > 80 * MIB
    budget_bytes = memory[0] + 50 * MIB
    for _ in range(4):
        short = ramped(wide_run(make_run, budget_bytes))
        if short[-1].state != "slower":  # a busy machine ended it before memory could
            break
    assert short[-1].state == "over-budget"
    assert (short[-1].memory_bytes or 0) > budget_bytes
    assert len(short) > 1
    found = choose(short)
    assert found is not None
    assert (found.memory_bytes or 0) <= budget_bytes


def test_a_ramp_whose_time_is_up_is_not_complete(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.MOST_S, "cpu", 1e-9)
    run = wide_run(make_run)
    store = run.open(read_only=False)
    ramp = Ramp(run, store, os.getppid())
    sizes = sizes_to_try(ramp._plan, ramp._training)
    monkeypatch.setattr(ramp._prover, "prove", lambda *_: "no room")
    ramp._rows.append(msgspec.structs.replace(row(1, 100.0), ramp=1))
    ramp.run()
    assert len(ramp._rows) == 1 < len(sizes)
    assert store.meta(END_FACT, RampEnd) == RampEnd(ramp=1, is_complete=False)
    monkeypatch.setitem(rules.MOST_S, "cpu", 60.0)
    ramp.run()
    assert [row.state for row in ramp._rows] == ["proven", "out-of-memory"]
    assert store.meta(END_FACT, RampEnd) == RampEnd(ramp=1, is_complete=True)
    store.close()


def test_a_size_whose_supervisor_died_is_stopped_and_says_so(make_run: MakeRun) -> None:
    run = make_run()
    store = run.open(read_only=False)
    ramp = Ramp(run, store, parent_pid=-1)
    with pytest.raises(OrphanedError):
        ramp._tried(SIZES[0])
    (found,) = store.ramp()
    assert (found.state, found.note) == ("stopped", "The supervisor died meanwhile.")
    assert store.find_meta(END_FACT, RampEnd) is None
    store.close()


LIMITED = """
import os, resource, sys
from pathlib import Path
import torch
from engine import ramp as rules
from engine.train.ramp import ramp
rules.MUCH_SLOWER_FRAC = rules.SLOWER_FRAC = 1.0  # a busy machine must not end it before memory does
torch.set_num_threads(1)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {room_mib} * 2**20,) * 2)
ramp(Path(sys.argv[1]), os.getppid())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not limit the address space")
def test_memory_that_runs_out_ends_the_ramp_and_not_the_process(make_run: MakeRun) -> None:
    run = wide_run(make_run)
    rows = ramped(run, [sys.executable, "-c", LIMITED.format(room_mib=300), str(run.path)])
    assert rows[-1].state == "out-of-memory", rows[-1]
    assert "allocate" in rows[-1].note
    assert rows[0].state == "proven"
    assert choose(rows) is not None


def test_a_proof_on_its_own_prints_one_line_of_json(tmp_path: Path) -> None:
    plan: RunPlan = make_plan()
    path = tmp_path / "plan.json"
    path.write_bytes(msgspec.json.encode(plan))
    command = module_argv("engine.train", "prove", str(path), str(tmp_path / "scratch"))
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    proof = msgspec.json.decode(done.stdout, type=Proof)
    assert proof.micro_batch == 1
    assert done.stdout.count(b"\n") == 1
    assert list((tmp_path / "scratch").iterdir()) == []
    path.write_text("{}", "utf-8")
    refused = subprocess.run(command, capture_output=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"is no plan" in refused.stderr
