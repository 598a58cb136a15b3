"""The checks of a GPU by `llm-tui check --json`, with the stand-in driver and a torch that says it has CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import Workspace
from engine.preflight import kept
from engine.runs.lock import Lock, device_lock_path
from engine.telemetry.process import find_process
from tests import torch_standin
from tests.nvml_standin import REPOSITORY, UUID, Standin, build

Make = Callable[..., Workspace]
GIB = 2**30


def check(workspace: Workspace, standin: Standin, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdicts by id of a real `check --json`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    command = [
        sys.executable,
        "-m",
        "tui",
        "--workspace",
        str(workspace.folder),
        "check",
        "--json",
        *arguments,
    ]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**inherited, **standin.env, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout, done.stderr
    return done.returncode, {found["id"]: found for found in json.loads(done.stdout)["checks"]}


ONE = """
import sys, msgspec
from pathlib import Path
from engine.preflight import accelerator, rehearsal
from engine.preflight.context import Context
context = Context(Path({folder!r}), overrides={overrides!r})
print(msgspec.json.encode({call}).decode())
"""


def one(workspace: Workspace, standin: Standin, call: str, *overrides: str, **env: str) -> dict[str, Any]:
    """One verdict from a child process, without the seconds that torch takes to start."""
    found: dict[str, Any] = json.loads(
        standin.run(ONE.format(folder=str(workspace.folder), overrides=overrides, call=call), **env)
    )
    return found


def test_a_gpu_with_room_is_named_with_driver_capability_and_precision(
    tmp_path: Path, make_workspace: Make
) -> None:
    standin = build(tmp_path, memory_used_bytes=GIB // 4)
    exit_code, found = check(make_workspace(), standin, **torch_standin.build(tmp_path))
    assert exit_code == 0
    evidence = found["device"]["evidence"]
    for words in (
        "RTX 2050",
        "compute capability 8.6",
        "driver 580.65.06 for CUDA up to 13.0",
        "CUDA 12.8",
        "bf16",
    ):
        assert words in evidence
    assert (
        found["free-vram"]["status"] == "pass"
        and "llm-tui itself holds none" in found["free-vram"]["evidence"]
    )
    assert found["temperature"]["evidence"] == "The GPU is at 55 °C."
    assert "GPU power measured" in found["sensors"]["evidence"]
    assert all(verdict["at"] and verdict["seconds"] is not None for verdict in found.values())


def test_processes_that_hold_memory_are_named_and_a_full_card_blocks(
    tmp_path: Path, make_workspace: Make
) -> None:
    workspace, torch = make_workspace(), torch_standin.build(tmp_path)
    holder = subprocess.Popen(["sleep", "60"])
    try:
        standin = build(tmp_path, memory_used_bytes=GIB, compute=f"{holder.pid}:{3 * GIB}")
        before = "preflight.min_free_vram_gib=2.5"
        apps = one(workspace, standin, "accelerator.check_close_apps(context)", **torch)
        assert (apps["status"], apps["remedy_action"]) == ("warn", "close-apps")
        user = find_process(holder.pid).user  # type: ignore[union-attr]
        assert f"sleep (pid {holder.pid}, {user}, 3.00 GiB GPU memory, open for " in apps["evidence"]
        budget = "limits.vram_budget_gib=0.01"
        vram = one(workspace, standin, "accelerator.check_free_vram(context)", budget, **torch)
        assert (vram["status"], vram["is_waivable"]) == ("fail", False) and budget[:22] in vram["evidence"]
        first = kept.FirstLook(identity=UUID, free_bytes=3 * GIB, at=time.time() - 90)
        kept.keep(workspace.folder, kept.Kept(first_look=first))
        standin.set(memory_used_bytes=4 * GIB - 1000)
        exit_code, found = check(
            workspace, standin, f"--set={before}", '--set=preflight.close_apps=["sleep"]', **torch
        )
        assert exit_code == 3
        apps, vram = found["close-apps"], found["free-vram"]
        assert apps["blocking"] and vram["blocking"] and vram["remedy_action"] == "close-apps"
        (figure,) = vram["figures"]
        assert (figure["before"], figure["now"], figure["needed"]) == (3 * GIB, 1000, 2.5 * GIB)
        assert "(3.00 GiB 9" in vram["evidence"] and "s ago)" in vram["evidence"]
    finally:
        holder.kill()
        holder.wait()


def test_amounts_that_the_driver_does_not_tell_are_said_to_be_unknown(
    tmp_path: Path, make_workspace: Make
) -> None:
    standin = build(tmp_path, compute=f"{os.getpid()}:na", memory_used_bytes=0)
    workspace, call = make_workspace(), "accelerator.check_close_apps(context)"
    apps = one(workspace, standin, call)
    assert (
        "an unknown amount of GPU memory" in apps["evidence"] and "does not tell how much" in apps["evidence"]
    )
    # It is the parent of the check: named, and nothing to close.
    assert apps["status"] == "pass" and "to leave open" in apps["evidence"]
    standin.set(compute="err:3", graphics="err:3")
    assert "does not tell which programs" in one(workspace, standin, call)["evidence"]


def test_a_lost_gpu_and_a_driver_mismatch_block_unless_the_gpu_is_hidden(
    tmp_path: Path, make_workspace: Make
) -> None:
    workspace, standin = make_workspace(), build(tmp_path, lost=1)
    torch = torch_standin.build(tmp_path)
    exit_code, found = check(workspace, standin, **torch)
    assert exit_code == 3
    assert found["device"]["blocking"] and "lost" in found["device"]["evidence"]
    standin.set(lost=None, init=18)
    call = "accelerator.check_device(context)"
    device = one(workspace, standin, call, **torch)
    assert (
        device["status"] == "fail" and "restart the machine" in device["evidence"] and device["is_waivable"]
    )
    assert "CUDA_VISIBLE_DEVICES=" in device["remedy"]
    assert one(workspace, standin, call, **torch, CUDA_VISIBLE_DEVICES="")["status"] == "warn"
    exit_code, found = check(workspace, standin, "--waive=device=the CPU will do", **torch)
    assert exit_code == 0 and found["device"]["status"] == "waived"


def test_a_driver_that_torch_cannot_use_is_told_with_both_versions(
    tmp_path: Path, make_workspace: Make
) -> None:
    workspace, standin = make_workspace(), build(tmp_path, cuda=12040)
    call = "accelerator.check_device(context)"
    device = one(workspace, standin, call, **torch_standin.build(tmp_path, cuda="13.0"))
    assert device["status"] == "warn"
    assert "built for CUDA 13.0, the driver runs up to 12.4" in device["evidence"]
    standin.set(cuda=None)
    exit_code, found = check(
        workspace,
        standin,
        "--waive=device=never mind",
        **torch_standin.build(tmp_path / "b", is_available=False),
    )
    # torch finds no GPU although everything says it should: the trainer would refuse, so no waiver helps.
    assert exit_code == 3 and found["device"]["blocking"] and not found["device"]["is_waivable"]
    assert "driver 580.65.06" in found["device"]["evidence"] and "CUDA 12.8" in found["device"]["remedy"]


def test_a_run_on_the_gpu_is_told_by_its_lock(tmp_path: Path, make_workspace: Make) -> None:
    workspace, standin = make_workspace(), build(tmp_path)
    lock = Lock(device_lock_path(UUID))
    assert lock.acquire("/elsewhere/runs/1123-000000-tiny-abcd")
    torch = torch_standin.build(tmp_path)
    taken = one(workspace, standin, "accelerator.check_device_free(context)", **torch)
    assert taken["status"] == "fail"
    assert "llm-tui --workspace /elsewhere stop 1123-000000-tiny-abcd" in taken["remedy"]
    call, on = "rehearsal.check_rehearsal(context, has_blocking=False)", "preflight.rehearsal=true"
    skipped = one(workspace, standin, call, on, **torch)
    assert skipped["status"] == "skipped" and "Another run" in skipped["evidence"]
    lock.release()
    # Once it is free the rehearsal is made: here torch has no GPU to make it on, and that is told.
    failed = one(workspace, standin, call, on, **torch)
    assert failed["status"] == "fail" and "could not be trained" in failed["evidence"]
    assert not list((workspace.folder / "cache" / "rehearsals").iterdir())
