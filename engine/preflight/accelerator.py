"""Checks of the device: torch and driver together, who holds its memory, how much is free, who else trains on it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import msgspec

from engine.preflight import kept
from engine.preflight.context import (
    GIB,
    Context,
    Verdict,
    age,
    amount,
    failed,
    last_words,
    passed,
    skipped,
    warned,
)
from engine.preflight.processes import is_own_program, open_processes
from engine.process import module_argv
from engine.records import Figure, OpenProcess
from engine.runs.lock import REHEARSING, device_lock_path, holder
from engine.telemetry.nvml import Gpu
from engine.telemetry.process import find_process

PROBE_PATIENCE_S = 60.0
_MOST_TOLD = 8


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
    """Whether device, driver and torch fit together."""
    device, plan, seen = context.device, context.plan, context.seen
    if device.kind == "cpu" and not seen.gpus and seen.has_unreadable_gpu and not _hides_gpus():
        return failed(
            f"There is an NVIDIA GPU here, and it cannot be used: {seen.reason} The run would train on the CPU.",
            "Mend that first. To train on the CPU all the same, hide the GPU: CUDA_VISIBLE_DEVICES= llm-tui",
        )
    try:
        found = context.ask(module_argv("engine.train", "probe"), PROBE_PATIENCE_S)
        probe = msgspec.json.decode(found.stdout, type=TorchProbe)
    except (subprocess.SubprocessError, OSError, msgspec.DecodeError) as error:
        told = str(error) if isinstance(error, msgspec.DecodeError) else last_words(error)
        return failed(f"torch does not start: {told}", "Install llm-tui anew.", is_waivable=False)
    build = (
        f"torch {probe.torch} built {f'for CUDA {probe.cuda_build}' if probe.cuda_build else 'without CUDA'}"
    )
    gpu = next((reading.gpu for reading in seen.gpus if reading.gpu.uuid == device.identity), None)
    evidence = f"{device.name}, {_about(gpu)}{build}, trains in {plan.precision}"
    if device.kind == "cpu":
        evidence += f" on {probe.num_threads} threads"
    if device.kind == "cuda" and not probe.cuda_available:
        return failed(
            f"{evidence}: torch cannot use it.",
            f"The driver must run CUDA {probe.cuda_build or 'at all'}: update it, or install a torch that is built for "
            "what it runs. Look too that CUDA_VISIBLE_DEVICES names the right GPU.",
            is_waivable=False,
        )
    if device.note:
        return warned(f"{evidence}. {device.note}", "Training works, on the CPU and slowly.")
    if seen.has_unreadable_gpu:
        return warned(f"{evidence}. Another GPU cannot be read: {seen.reason}", "nvidia-smi tells which.")
    return passed(f"{evidence}.")


def _hides_gpus() -> bool:
    """Whether CUDA_VISIBLE_DEVICES says that no GPU is to be used."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def _about(gpu: Gpu | None) -> str:
    if gpu is None:
        return ""
    told = []
    if gpu.capability:
        told.append(f"compute capability {gpu.capability[0]}.{gpu.capability[1]}")
    if gpu.driver_version:
        runs = f" for CUDA up to {gpu.driver_cuda[0]}.{gpu.driver_cuda[1]}" if gpu.driver_cuda else ""
        told.append(f"driver {gpu.driver_version}{runs}")
    return "".join(f"{part}, " for part in told)


def check_close_apps(context: Context) -> Verdict:
    """Which programs hold GPU memory, and which of those that should be closed are running."""
    found = open_processes(context.settings.preflight, context.seen)
    note = f" {found.note}" if found.note else ""
    # What draws the desktop or belongs to another is named, and is nothing that a person is asked to close.
    closable = [process for process in found.processes if process.may_close]
    others = [process for process in found.processes if not process.may_close]
    if not found.processes:
        return passed(
            f"No other program holds GPU memory, and none of preflight.close_apps is running.{note}"
        )
    parts = [f"{len(closable)} to close: {_list(closable)}"] if closable else ["None to close"]
    parts += [f"{len(others)} to leave open: {_list(others)}"] if others else []
    evidence = f"{'; '.join(parts)}.{note}"
    held = sum(process.gpu_bytes or 0 for process in found.processes)
    figures = (
        Figure(label="programs to close", unit="count", now=len(closable), needed=0),
        Figure(label="VRAM held by programs", unit="bytes", now=held),
    )
    if not closable:
        return passed(evidence, *figures)
    remedy = "Close them, so that they neither hold memory nor draw power for days: llm-tui close"
    is_in_the_way = any(process.is_unwanted and process.gpu_bytes != 0 for process in closable)
    if context.device.kind == "cuda" and is_in_the_way:
        return failed(evidence, remedy, *figures, action="close-apps")
    return warned(evidence, remedy, *figures, action="close-apps")


def _list(processes: list[OpenProcess]) -> str:
    told = [_tell(process) for process in processes[:_MOST_TOLD]]
    return ", ".join(told) + (
        f" and {len(processes) - _MOST_TOLD} more" if len(processes) > _MOST_TOLD else ""
    )


def _tell(process: OpenProcess) -> str:
    held = "no" if process.gpu_bytes == 0 else amount(process.gpu_bytes)
    facts = [f"pid {process.pid}", *([process.user] if process.user else [])]
    facts.append(f"{held}{' of' if process.gpu_bytes is None else ''} GPU memory")
    if process.age_s is not None:
        facts.append(f"open for {age(process.age_s)}")
    return f"{process.name} ({', '.join(facts)})"


def check_free_vram(context: Context) -> Verdict:
    """Whether the GPU has room for the plan, and what it had at first."""
    device, plan = context.device, context.plan
    if device.kind == "cpu":
        return skipped("Trains on the CPU: see Memory.")
    if device.free_bytes is None:
        return warned("The driver does not tell how much is free.", "Look with nvidia-smi.")
    before = kept.first_look(context.kept, device.identity, device.free_bytes)
    if before is not context.kept.first_look:
        # At once: a person who sees what is taken closes it before the other checks are through.
        context.kept = msgspec.structs.replace(context.kept, first_look=before)
        kept.keep(context.workspace, context.kept)
    wanted = max(plan.memory_total_bytes, round(context.settings.preflight.min_free_vram_gib * GIB))
    age_s = time.time() - before.at
    first = f" ({amount(before.free_bytes)} {age(age_s)} ago)" if age_s > 1 else ""
    evidence = (
        f"{amount(device.free_bytes)} of {amount(device.total_bytes)} free{first}, the run needs {amount(wanted)}. "
        f"{_own_share(context)}"
    )
    figure = Figure(
        label="VRAM free", unit="bytes", now=device.free_bytes, before=before.free_bytes, needed=wanted
    )
    limit_gib = context.settings.limits.vram_budget_gib
    if limit_gib and plan.fits is False:
        return failed(
            f"{evidence} limits.vram_budget_gib allows {limit_gib:g} GiB.",
            "Raise it, or choose a smaller model.preset or training.micro_batch.",
            figure,
            is_waivable=False,
        )
    if device.free_bytes < wanted:
        return failed(
            evidence,
            "Close what holds it (llm-tui close), or choose a smaller model.preset or training.micro_batch.",
            figure,
            action="close-apps",
        )
    return passed(evidence, figure)


def _own_share(context: Context) -> str:
    """What llm-tui's own processes still hold: nothing but a run's trainer or a rehearsal ever does."""
    mine = [
        held
        for held in context.seen.processes or ()
        if (info := find_process(held.pid)) and is_own_program(info)
    ]
    if context.seen.processes is None:
        return "Whether llm-tui itself holds any the driver does not tell."
    if not mine:
        return "llm-tui itself holds none."
    amounts = [held.used_bytes for held in mine]
    known = amount(None if None in amounts else sum(num_bytes or 0 for num_bytes in amounts))
    return f"llm-tui's own processes hold {known}: {', '.join(f'pid {held.pid}' for held in mine)}."


def check_device_free(context: Context) -> Verdict:
    """Whether another run is on this device, told by the lock that a run holds."""
    text = holder(device_lock_path(context.device.identity))
    if text is None:
        return passed("No run holds this device.")
    if text.strip() == REHEARSING:
        return failed("A rehearsal is on this device.", "Wait until it is through.")
    run = Path(text.strip())
    if context.run_folder is not None and run == context.run_folder:
        return passed("This run holds the device.")
    return failed(
        f"Run {run.name or 'unknown'} in {run.parent.parent} is on this device.",
        f"Wait for it, or stop it: llm-tui --workspace {run.parent.parent} stop {run.name}",
    )
