"""A process that saves under faults: `python -m tests.faults.saves checkpoint|model FOLDER FAULT...`, with disk.c.

It forks a child for every call that a save makes to the file system, which dies at that call, or meets an error there,
or writes only half; then it looks at what is left and saves again. It prints what it found as JSON, a line a fault.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from engine.errors import CheckpointError
from engine.shape import ModelShape
from engine.train.checkpoint import newest_verified, verify
from engine.train.model import Decoder
from engine.train.model_folder import ModelInfo, load_from, write_model
from tests.engine.train.test_checkpoint import Saver

SHAPE = ModelShape(
    vocab_size=64,
    n_layer=1,
    n_head=1,
    n_kv_head=1,
    n_embd=16,
    intermediate=16,
    context=16,
    tie_embeddings=True,
)
KILL, TEAR = -1, -2
FAULTS = {
    "killed": KILL,
    "torn": TEAR,
    "full": errno.ENOSPC,
    "broken": errno.EIO,
    "read-only": errno.EROFS,
}
SAVED, REFUSED, CRASHED = 0, 3, 4


def main(what: str, folder: Path, faults: list[str]) -> None:
    """Go through these faults at every call."""
    torch.set_num_threads(1)  # a thread pool does not live through a fork
    before, act, look = (checkpoint_case if what == "checkpoint" else model_case)(folder / "run")
    pristine = folder / "pristine"
    before()
    shutil.copytree(folder / "run", pristine)
    num_calls = _in_child(folder / "run", 0, 0, act)[1]
    for name in faults:
        for at in range(1, num_calls + 1):
            shutil.rmtree(folder / "run")
            shutil.copytree(pristine, folder / "run")
            code, _ = _in_child(folder / "run", at, FAULTS[name], act)
            found = {"fault": name, "at": at, "of": num_calls, "code": code}
            print(json.dumps(found | look()), flush=True)


def _in_child(folder: Path, at: int, action: int, act: Callable[[], None]) -> tuple[int, int]:
    """Let a child of this process act under a fault: how it ended, and how many calls it made."""
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = CRASHED
        try:
            library.fault_arm(str(folder).encode(), ctypes.c_long(at), ctypes.c_long(action))
            try:
                act()
                code = SAVED
            except CheckpointError:
                code = REFUSED
            calls = library.fault_count()
            library.fault_arm(b"", ctypes.c_long(0), ctypes.c_long(0))
            os.write(writing, str(calls).encode())
        finally:
            os._exit(code)
    os.close(writing)
    calls = os.read(reading, 64)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(calls or b"0")


def checkpoint_case(
    run: Path,
) -> tuple[Callable[[], None], Callable[[], None], Callable[[], dict[str, object]]]:
    """Checkpoints of steps 3 and 5 are there; that of step 9 is saved, and step 3 then goes."""
    run.mkdir()
    saver = Saver(run, shape=SHAPE)

    def act() -> None:
        saver.save(9)
        saver.checkpoints.prune()

    def look() -> dict[str, object]:
        search = newest_verified(run)
        newest = search.checkpoint.state.step if search.checkpoint else None
        good = [name for name in saver.names() if name.startswith("step-") and _is_good(run, name)]
        damaged = [str(error) for error in search.damaged]
        # What comes after the fault is gone: another process saves the same step, and clears up.
        later = Saver(run, shape=SHAPE)
        again = later.save(9)
        later.checkpoints.prune()
        return {
            "newest": newest,
            "good": good,
            "damaged": damaged,
            "again": verify(again).state.step,
            "left": later.names(),
        }

    def before() -> None:
        for step in (3, 5):
            saver.save(step)

    return before, act, look


def _is_good(run: Path, name: str) -> bool:
    try:
        verify(run / "checkpoints" / name)
    except CheckpointError:
        return False
    return True


def model_case(run: Path) -> tuple[Callable[[], None], Callable[[], None], Callable[[], dict[str, object]]]:
    """A finished model is there, and is written anew."""
    run.mkdir()
    (run / "tokenizer.json").write_text("{}")
    model = Decoder(SHAPE)
    model.initialise(1)
    info = ModelInfo(
        run_id="a",
        preset="tiny",
        parameters=SHAPE.parameters,
        shape=SHAPE,
        corpus="text",
        step=9,
        tokens=9,
        val_loss=None,
        val_bits_per_byte=None,
        end_of_text_id=0,
        finished_at=0.0,
    )

    def write() -> None:
        write_model(run, model, info)

    def look() -> dict[str, object]:
        is_whole: bool | None = None
        if (run / "model").is_dir():
            try:
                load_from(run, "model")
                is_whole = True
            except CheckpointError:
                is_whole = False
        write()
        load_from(run, "model")
        return {"is_whole": is_whole, "left": sorted(path.name for path in run.iterdir())}

    return write, write, look


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
