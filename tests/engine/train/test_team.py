"""Several processes train as one: real agents, real workers, gloo over loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file

from engine.errors import EngineError, TrainerExit
from engine.records import AttemptRow, EventRow, StepRow
from engine.runs.folder import RunFolder
from engine.settings import ScaleSettings
from engine.settings_file import freeze
from engine.train.checkpoint import newest_verified
from engine.train.data import BatchStream, Position, Share, WindowOrder
from engine.train.launch import join
from engine.train.loop import train
from tests.conftest import wait_for
from tests.engine.train.conftest import MakeRun
from tests.engine.train.test_data import CPU, CountedTokens
from tests.engine.train.test_process import LONG, answer, kinds, num_steps

Start = Callable[..., subprocess.Popen[bytes]]


def losses(run: RunFolder) -> list[float]:
    store = run.open()
    found = [row.loss for row in store.rows(StepRow, "ORDER BY step")]
    store.close()
    return found


def set_processes(run: RunFolder, number: int) -> None:
    settings = run.settings()
    freeze(msgspec.structs.replace(settings, scale=ScaleSettings(processes=number)), run.settings_path)


def workers_of(agent: int) -> list[int]:
    """The processes that an agent has started."""
    found = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [pid for pid in map(int, found) if b"work" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize(("num_windows", "micro_batch", "size"), [(8, 2, 2), (8, 2, 3), (6, 3, 4)])
def test_every_window_of_a_step_is_dealt_to_one_process(num_windows: int, micro_batch: int, size: int):
    order = WindowOrder(10 * 8 + 1, 8, 7)
    dealt: list[list[int]] = []
    for seat in range(size):
        share = Share(num_windows // micro_batch, seat, size)
        stream = BatchStream(CountedTokens(81), order_copy(), Position(), micro_batch, CPU, share)
        taken = [stream.next()[0][:, 0].tolist() for _ in range(2 * share.num_own)] if share.num_own else []
        dealt.append([start for batch in taken[: share.num_own] for start in batch])
        stream.close()
    starts = order.starts(Position())
    assert sorted(start for starts_of_one in dealt for start in starts_of_one) == sorted(
        next(starts) for _ in range(num_windows)
    )


def order_copy() -> WindowOrder:
    return WindowOrder(10 * 8 + 1, 8, 7)


@pytest.mark.usefixtures("signals")
def test_two_processes_train_as_one_to_rounding(make_run: MakeRun, start_trainer: Start):
    one, two = make_run(steps=12), make_run(scale={"processes": 2}, steps=12)
    trainer = start_trainer(two)
    assert train(one.path, os.getppid()) == 0
    assert trainer.wait(120) == 0
    assert losses(two) == pytest.approx(losses(one), rel=2e-5)
    assert len(losses(two)) == 12 and losses(two)[-1] < losses(two)[0] - 0.5
    first, second = (load_file(run.model / "model.safetensors") for run in (one, two))
    for name, tensor in first.items():
        assert (tensor - second[name]).abs().max() < 2e-3 * max(1.0, tensor.abs().max()), name
    store = two.open()
    started = next(event for event in store.rows(EventRow) if event.kind == "trainer-started")
    assert "2 processes" in started.text
    step = store.newest(StepRow, "step")
    assert step is not None and (step.micro_batch, step.grad_accum) == (4, 1)
    store.close()


@pytest.mark.timeout(400)
@pytest.mark.faults
def test_a_process_that_is_killed_is_started_again_and_the_run_goes_on_alone(
    make_run: MakeRun, start_trainer: Start
):
    run = make_run({"max_restarts": 3, "compile": "off"}, {"processes": 2}, steps=LONG)
    store = run.open(read_only=False)
    store.put(AttemptRow(attempt=1, at=0.0, pid=0, from_step=0))  # as the supervisor does
    store.close()
    agent = start_trainer(run)
    wait_for(lambda: num_steps(run) > 5, 120, "steps")
    assert answer(run, "pause") == "Paused."
    stood_at = num_steps(run)
    assert answer(run, "resume") == "Goes on."
    wait_for(lambda: num_steps(run) > stood_at + 5, 60, "steps after the pause")
    workers = workers_of(agent.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    wait_for(lambda: len(attempts(run)) == 2, 120, "another start")
    reached = attempts(run)[1].from_step
    wait_for(lambda: num_steps(run) > reached + 5 and kinds(run).count("trainer-started") == 2, 120, "steps")
    # The leader saved what it had before it was started again: nothing was lost.
    assert reached > stood_at + 5
    assert attempts(run)[0].outcome == "a process of it ended" and "restart" in kinds(run)
    assert agent.poll() is None and not set(workers) & set(workers_of(agent.pid))
    store = run.open(read_only=False)
    stop = store.post_command("stop", "test@here")
    assert agent.wait(60) == TrainerExit.STOPPED
    store.acknowledge(stop, "Stopped.", is_done=True)
    store.close()
    checkpoint = newest_verified(run.path).checkpoint
    assert checkpoint is not None and checkpoint.state.step > reached
    # The same files, one process.
    set_processes(run, 1)
    alone = start_trainer(run)
    wait_for(lambda: num_steps(run) > checkpoint.state.step + 3, 120, "steps of one process")
    alone.terminate()
    assert alone.wait(60) == TrainerExit.ORPHANED


def attempts(run: RunFolder) -> list[AttemptRow]:
    store = run.open()
    found = store.rows(AttemptRow, "ORDER BY attempt")
    store.close()
    return found


WORKER = """
import json, os
from contextlib import suppress
import torch
torch.set_num_threads(1)
from engine.train import step as step_module
from engine.train.control import Leave
from engine.train.data import Position
from engine.train.device import Accelerator
from engine.train.guard import allocate_state
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from engine.train.step import Stepper
from engine.train.team import ProcessTeam
from engine.settings import TrainingSettings
from tests.engine.train.conftest import make_plan
from tests.engine.train.test_data import CountedTokens

class Tokens(CountedTokens):
    def read(self, start, length):
        return super().read(start, length) % 512

class Told:
    def tell(self, level, kind, text, **data):
        kinds.append(kind)

kinds = []
rank = int(os.environ["RANK"])
team = ProcessTeam(is_leader=rank == 0)
plan = make_plan(micro_batch=4)
torch.manual_seed(rank)
model = Decoder(plan.shape)
model.initialise(rank)
optimizer = OptimizerSet(model, "muon", 1e-3, 0.1)
allocate_state(model, optimizer)
accelerator = Accelerator(plan, team.local_rank)
stepper = Stepper(model, optimizer, accelerator, plan, TrainingSettings(), Tokens(5000), Told(), team=team)
real, calls = step_module.forward_backward, 0

def forward_backward(*arguments):
    global calls
    calls += 1
    if (rank, calls) == (1, 2):
        raise torch.OutOfMemoryError("no room in process 1")
    return real(*arguments)

step_module.forward_backward = forward_backward
found = []
if team.is_leader:
    team.spread(model, optimizer, {})
    position = Position()
    stepper.begin(position)
    for number in range(4):
        optimizer.set_rate(1.0)
        if number == 2:
            model.lm_head.weight.data[0, 0] = float("nan")
            team.spread(model, optimizer, {})
        result = stepper.step(position, number + 1, lambda: 0.0)
        found.append(result.is_skipped)
        position = stepper.order.advance(position, stepper.windows_per_step)
    def leave():
        raise Leave(0, "told to before its first micro-step")
    with suppress(Leave):
        stepper.step(position, 5, leave)
    team.dismiss()
else:
    while (order := team.receive()).verb != "leave":
        if order.verb == "share":
            team.share_state(model, optimizer)
        else:
            found.append(stepper.follow(order))
stepper.close()
team.close()
total = sum(parameter.double().nan_to_num().sum().item() for parameter in model.parameters())
print(json.dumps({"found": found, "micro_batch": stepper.micro_batch, "total": total, "kinds": kinds}))
"""


def test_want_of_memory_in_one_process_is_met_by_all_and_steps_are_left_out_together(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER))
    processes = []
    for rank in range(2):
        places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
        environment = {**os.environ, **places, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), environment.get("PYTHONPATH", "")])
        command = [sys.executable, str(script)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    leader, follower = (msgspec.json.decode(output.splitlines()[-1]) for output in outputs)
    # The second step was broken off in both, and done again with half the sequences at a time; so was the last.
    assert follower["found"] == [True, False, True, True, True, False]
    assert leader["micro_batch"] == follower["micro_batch"] == 2
    # Weights that are not finite let both leave the steps out.
    assert leader["found"] == [False, False, True, True]
    assert leader["kinds"] == ["out-of-memory", "non-finite", "non-finite"]
    assert leader["total"] == follower["total"]


def test_who_waits_for_other_machines_gives_signs_of_life(make_run: MakeRun, start_trainer: Start):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    run = make_run(scale={"nodes": 2, "address": address})
    agent = start_trainer(run)

    def beat_at() -> float:
        store = run.open()
        newest = store.heartbeat("trainer")
        store.close()
        return newest.at if newest and newest.phase == "waiting for all processes" else 0.0

    wait_for(beat_at, 60, "a sign of life")
    first = beat_at()
    wait_for(lambda: beat_at() > first, 60, "another sign of life")
    agent.terminate()
    assert agent.wait(60) == TrainerExit.ORPHANED


def test_what_cannot_be_joined_is_refused(tmp_path: Path, make_run: MakeRun, start_trainer: Start):
    for address in ("somewhere", "10.0.0.1:", ":29400"):
        with pytest.raises(EngineError, match="HOST:PORT"):
            join(tmp_path, ScaleSettings(nodes=2, address=address), 0)
    run = make_run(scale={"nodes": 2})
    assert start_trainer(run).wait(60) == TrainerExit.REFUSED
    assert "scale.address" in run.log_path.read_text()
