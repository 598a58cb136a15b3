"""A save under faults at every one of its calls to the file system, and the order in which it makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.process import module_argv
from tests.engine.train.conftest import MakeRun
from tests.faults.disk import Disk, build
from tests.faults.saves import CRASHED, FAULTS, REFUSED, SAVED

KILLED = -9


QUICK = ("killed", "broken")
"""The rest takes as long again, and is tried where there is time for it."""
EVERY = [QUICK, pytest.param(tuple(FAULTS), marks=pytest.mark.faults)]


def outcomes(what: str, tmp_path: Path, faults: tuple[str, ...]) -> list[dict[str, Any]]:
    folder = tmp_path / "saves"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.saves", what, str(folder), *faults],
        env={**os.environ, "LD_PRELOAD": str(build(tmp_path)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    num_calls = found[0]["of"]
    assert num_calls > 20 and len(found) == num_calls * len(faults), "every call was tried with every fault"
    assert not [one for one in found if one["code"] == CRASHED]
    assert all(one["code"] == KILLED for one in found if one["fault"] == "killed")
    # Only what writes can be torn; at the other calls nothing happens.
    torn = [one["code"] for one in found if one["fault"] == "torn"]
    assert set(torn) <= {KILLED, SAVED} and torn.count(KILLED) >= ("torn" in faults)
    return found


@pytest.mark.parametrize("faults", EVERY, ids="-".join)
def test_a_checkpoint_that_meets_a_fault_anywhere_leaves_two_good_ones(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    found = outcomes("checkpoint", tmp_path, faults)
    for one in found:
        assert one["damaged"] == [], one
        assert one["newest"] in (5, 9) and len(one["good"]) >= 2, one
        if one["code"] == SAVED:
            assert one["newest"] == 9, one
        assert one["again"] == 9 and one["left"] == ["step-5", "step-9"], one
    refused = [one for one in found if one["code"] == REFUSED]
    assert {one["fault"] for one in refused} == set(faults) - {"killed", "torn"}
    for fault in {one["fault"] for one in refused}:
        in_place = [one for one in refused if one["fault"] == fault and one["newest"] == 9]
        # The last call but those of the clearing up is the sync of the folder that the new one is in already.
        assert len(in_place) <= 1, "what was refused does not count"


@pytest.mark.parametrize("faults", [("killed",), EVERY[1]], ids="-".join)
def test_a_model_that_meets_a_fault_anywhere_is_whole_or_not_there(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    for one in outcomes("model", tmp_path, faults):
        assert one["is_whole"] in (True, None), one
        assert one["left"] == ["model", "tokenizer.json"], one


@pytest.mark.faults
def test_a_checkpoint_is_written_in_the_one_order_that_survives_a_power_cut(
    tmp_path: Path,
    make_run: MakeRun,
) -> None:
    run = make_run({"checkpoint_every_s": 1, "keep_checkpoints": 2}, steps=400)
    disk = Disk(tmp_path, traced=str(run.path))
    command = module_argv("engine.train", "run", str(run.path))
    with run.log_path.open("ab") as log:
        environment = {**os.environ, **disk.env, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    calls = [line.split() for line in disk.trace.read_text().splitlines()]
    placed = [index for index, call in enumerate(calls) if call[0] == "rename" and is_placing(call)]
    assert len(placed) >= 3, "checkpoints were saved on the way"
    for index in placed:
        check_order(calls, index)
    gone = [index for index, call in enumerate(calls) if call[0] == "rename" and "/.old-step-" in call[2]]
    assert gone, "older ones went"
    for index in gone:
        newest = max(at for at in placed if at < index)
        between = [call for call in calls[newest:index] if call[0] == "pwrite"]
        assert any(call[1].endswith("run.db-wal") for call in between), "only once the newer one is entered"


def is_placing(call: list[str]) -> bool:
    return "/checkpoints/.step-" in call[1] and "/checkpoints/step-" in call[2]


def check_order(calls: list[list[str]], placed: int) -> None:
    """Each file: written, synced, read back; then the manifest, its folder, the rename, and the folder above."""
    aside, target = calls[placed][1], calls[placed][2]
    own = [(call[0], call[1].removeprefix(aside)) for call in calls[:placed] if call[1].startswith(aside)]
    for name in ("/model.safetensors", "/optimizer.safetensors"):
        of_file = [call for call, path in own if path == name]
        last_write = len(of_file) - of_file[::-1].index("write")
        assert of_file[last_write:] == ["fsync", "read"], of_file
    manifest = [index for index, (_, path) in enumerate(own) if path.startswith("/.manifest.json.")]
    reads = [
        index for index, (call, path) in enumerate(own) if call == "read" and path.endswith(".safetensors")
    ]
    assert max(reads) < min(manifest), "the manifest is written once all was read back"
    ends = [call for call, _ in own[manifest[0] :]]
    assert [call for call in ends if call in ("write", "fsync", "rename")] == [
        "write",
        "fsync",
        "rename",
        "fsync",
    ]
    assert own[-1] == ("fsync", ""), "the names within are synced"
    after = calls[placed + 1 :]
    parent = target.rsplit("/", 1)[0]
    following = [call for call in after if call[1].rstrip("/") == parent and call[0] == "fsync"]
    assert following, "the folder above is synced"
    assert after.index(following[0]) <= min(
        (index for index, call in enumerate(after) if call[0] == "rename"), default=len(after)
    )
