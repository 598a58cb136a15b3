"""What it costs to be safe, and what a kill costs: checkpoints of a preset on this disk, and a real run that is killed.

Run: python -m bench.safety [--preset 134m] [--rounds 3] [--kills 8] [--folder DIR]. Prints two tables in Markdown.

The first saves the whole state of a training (weights and optimizer, fresh) the engine's way, and plainly: the same
bytes through the same buffer with no hash, no sync, no reading back, and no rename. The difference, as a share of the
longest interval between checkpoints that "auto" gives, is the price of safety; the machine waits while it is paid.
The second kills the trainer of a real run with SIGKILL at random moments.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from engine import Workspace
from engine.records import AttemptRow, CheckpointRow, StepRow
from engine.runs.folder import RunFolder
from engine.shape import PRESETS
from engine.train.checkpoint import Checkpoints, TrainState
from engine.train.data import Position
from engine.train.guard import allocate_state
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from tests.conftest import SMALL, write_text

INTERVAL_S = 900.0
"""Between two checkpoints of a run of days, with `training.checkpoint_every_s = "auto"`; see engine/train/loop.py."""
_MIB = 2**20


def subject(preset: str) -> tuple[Decoder, OptimizerSet, TrainState]:
    """A model of a preset with an optimizer's whole state."""
    shape = PRESETS[preset]
    model = Decoder(shape)
    model.initialise(1)
    optimizer = OptimizerSet(model, "muon", 1e-3, 0.1)
    allocate_state(model, optimizer)
    state = TrainState(
        step=1,
        tokens=1,
        position=Position(),
        shape=shape,
        optimizer="muon",
        tokens_per_step=1,
        steps=9,
        micro_batch=1,
    )
    return model, optimizer, state


def save_plainly(path: Path, model: Decoder, optimizer: OptimizerSet) -> tuple[float, int]:
    """Seconds and bytes of writing the same tensors and nothing else."""
    began_s, num_bytes = time.perf_counter(), 0
    with path.open("wb") as file:
        for tensors in (model.named_parameters(), optimizer.tensors()):
            for _, tensor in tensors:
                num_bytes += file.write(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return time.perf_counter() - began_s, num_bytes


def measure_saves(preset: str, rounds: int, folder: Path) -> None:
    """Print what a checkpoint takes both ways."""
    model, optimizer, state = subject(preset)
    checkpoints = Checkpoints(folder, keep=2)
    safe, plain, cpu, num_bytes = [], [], [], 0
    for number in range(rounds):
        seconds, num_bytes = save_plainly(folder / "plain", model, optimizer)
        plain.append(seconds)
        (folder / "plain").unlink()
        os.sync()  # what the plain way left to be written later is not to be paid for by the other
        used_s = time.process_time()
        state = msgspec.structs.replace(state, step=number + 1)
        began_s = time.perf_counter()
        checkpoints.save(model, optimizer, state)
        checkpoints.prune()
        safe.append(time.perf_counter() - began_s)
        cpu.append(time.process_time() - used_s)
    extra = [one - other for one, other in zip(safe, plain, strict=True)]
    print(
        "| preset | MiB | plain s | safe s | of it CPU s | safety, % of 900 s | the whole save, % of 900 s |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {preset} | {num_bytes / _MIB:,.0f} | {spread(plain)} | {spread(safe)} | {spread(cpu)} | "
        f"{100 * statistics.median(extra) / INTERVAL_S:.2f} | {100 * statistics.median(safe) / INTERVAL_S:.2f} |"
    )


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def measure_kills(kills: int, folder: Path) -> None:
    """Print what a kill at a random moment costs a real run with a checkpoint every 5 s."""
    write_text(folder / "text")
    settings = SMALL.format(tokens=10**9).replace("checkpoint_every_s = 1", "checkpoint_every_s = 5")
    (folder / "settings.toml").write_text(settings, "utf-8")
    workspace, chance = Workspace(folder), random.Random(8)
    run_id = workspace.start()
    run = workspace.folder_of(run_id)
    lost, recovered_s = [], []
    try:
        for number in range(kills):
            wait(functools.partial(is_stepping, run, number + 1))
            time.sleep(chance.uniform(0.0, 10.0))
            status = workspace.status(run_id)
            assert status.trainer_pid is not None
            os.kill(status.trainer_pid, signal.SIGKILL)
            killed_s, at = time.monotonic(), newest(run)[0]
            wait(functools.partial(is_stepping, run, number + 2))
            recovered_s.append(time.monotonic() - killed_s)
            lost.append(at - newest(run)[1])
    finally:
        workspace.command(run_id, "stop")
    print("\n| kills | steps lost | steps between checkpoints | seconds to the next step |")
    print("|---|---|---|---|")
    with_rows = run.open()
    at = [row.step for row in with_rows.rows(CheckpointRow, "ORDER BY step")]
    with_rows.close()
    apart = [float(later - earlier) for earlier, later in itertools.pairwise(at)]
    print(f"| {kills} | {spread([float(one) for one in lost])} | {spread(apart)} | {spread(recovered_s)} |")


def newest(run: RunFolder) -> tuple[int, int]:
    """The newest step, and the one that the newest start of the trainer went on from."""
    store = run.open()
    try:
        step, attempt = store.newest(StepRow, "at"), store.newest(AttemptRow, "attempt")
        return step.step if step else 0, attempt.from_step if attempt else 0
    finally:
        store.close()


def is_stepping(run: RunFolder, attempt: int) -> bool:
    """Whether that start of the trainer has done a step."""
    store = run.open()
    try:
        return bool(store.rows(StepRow, "WHERE attempt = ? LIMIT 1", (attempt,)))
    finally:
        store.close()


def wait(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="134m", choices=PRESETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to be measured; a temporary one"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="safety-"))
    try:
        if options.rounds:
            measure_saves(options.preset, options.rounds, folder)
        if options.kills:
            measure_kills(options.kills, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
