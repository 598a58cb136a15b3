"""Checks of the device: torch and driver together, who holds its memory, how much is free, who else trains on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from engine.preflight.context import GIB, Context, Verdict, failed, gib, passed, skipped, warned
from engine.process import module_argv
from engine.runs.lock import device_lock_path, holder
from engine.telemetry.gpus import snapshot
from engine.telemetry.process import find_process, find_processes

PROBE_PATIENCE_S = 60.0


class TorchDevice(msgspec.Struct, frozen=True):
    """One GPU as torch sees it."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    has_bf16: bool


class TorchProbe(msgspec.Struct, frozen=True):
    """What `python -m engine.train probe` prints."""

    torch: str
    cuda_build: str | None
    cuda_available: bool
    devices: list[TorchDevice]
    num_threads: int


def check_device(context: Context) -> Verdict:
    """Whether torch starts and can use the device that the plan is for."""
    try:
        found = subprocess.run(
            module_argv("engine.train", "probe"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_PATIENCE_S,
            check=True,
        )
        probe = msgspec.json.decode(found.stdout, type=TorchProbe)
    except (subprocess.SubprocessError, msgspec.DecodeError) as error:
        output = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip().splitlines()
        return failed(f"torch does not start: {output[-1] if output else error}", "Install llm-tui anew.")
    device, plan = context.device, context.plan
    if device.kind == "cuda" and not probe.cuda_available:
        return failed(
            f"{device.name} is there, but torch {probe.torch} cannot use it.",
            "The driver may be too old for this torch, or CUDA_VISIBLE_DEVICES hides it. nvidia-smi tells the driver.",
        )
    evidence = f"{device.name}, torch {probe.torch}, {plan.precision}"
    if device.capability:
        evidence += f", compute capability {device.capability[0]}.{device.capability[1]}"
    if device.kind == "cpu":
        evidence += f", {probe.num_threads} threads"
    if device.note:
        return warned(f"{evidence}. {device.note}", "Training works, on the CPU and slowly.")
    return passed(f"{evidence}.")


def check_close_apps(context: Context) -> Verdict:
    """Which programs hold GPU memory, and which of those that should be closed are running."""
    wanted = context.settings.preflight.close_apps
    held_bytes = _held_bytes()
    names = {pid: _name(pid) for pid in held_bytes}
    unwanted = {process.pid: process.name for process in find_processes(wanted)}
    told = [_tell(names[pid], pid, used) for pid, used in held_bytes.items()]
    told += [f"{name} (pid {pid}, no GPU memory)" for pid, name in unwanted.items() if pid not in held_bytes]
    if not told:
        return passed("No other program holds GPU memory, and none of preflight.close_apps is running.")
    evidence = f"{len(told)} to look at: {'; '.join(told[:8])}{'; …' if len(told) > 8 else ''}."
    remedy = "Close them, so that they neither hold memory nor draw power for days."
    if context.device.kind == "cuda" and unwanted.keys() & held_bytes.keys():
        return failed(evidence, remedy)
    return warned(evidence, remedy)


def _held_bytes() -> dict[int, int | None]:
    """GPU memory of every other program by its pid, over all GPUs; None: the driver does not tell how much."""
    found: dict[int, int | None] = {}
    for process in snapshot().processes or ():
        before = found.get(process.pid, 0)
        is_known = before is not None and process.used_bytes is not None
        found[process.pid] = (before or 0) + (process.used_bytes or 0) if is_known else None
    found.pop(os.getpid(), None)
    return found


def _name(pid: int) -> str:
    process = find_process(pid)
    return process.name if process else "a process that cannot be seen from here"


def _tell(name: str, pid: int, used_bytes: int | None) -> str:
    held = "an amount that the driver does not tell" if used_bytes is None else gib(used_bytes)
    return f"{name} (pid {pid}) holds {held}"


def check_free_vram(context: Context) -> Verdict:
    """Whether the GPU has room for the plan."""
    device, plan = context.device, context.plan
    if device.kind == "cpu":
        return skipped("Trains on the CPU: see Memory.")
    if device.free_bytes is None:
        return warned("The driver does not tell how much is free.", "Look with nvidia-smi.")
    wanted = max(plan.memory_total_bytes, round(context.settings.preflight.min_free_vram_gib * GIB))
    evidence = (
        f"{gib(device.free_bytes)} of {gib(device.total_bytes or 0)} free, the run needs {gib(wanted)}."
    )
    if device.free_bytes < wanted:
        return failed(
            evidence, "Close what holds it, or choose a smaller model.preset or training.micro_batch."
        )
    return passed(evidence)


def check_device_free(context: Context) -> Verdict:
    """Whether another run is on this device, told by the lock that a run holds."""
    text = holder(device_lock_path(context.device.identity))
    if text is None:
        return passed("No run holds this device.")
    run = Path(text.strip())
    if context.run_folder is not None and run == context.run_folder:
        return passed("This run holds the device.")
    return failed(
        f"Run {run.name or 'unknown'} in {run.parent.parent} is on this device.",
        f"Wait for it, or stop it: llm-tui --workspace {run.parent.parent} stop {run.name}",
    )
