"""The check that a start would work: the smallest batch, one step, one evaluation, one save and one load, for real."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.atomic import make_private
from engine.preflight import kept
from engine.preflight.context import Context, Verdict, amount, failed, last_words, passed, skipped
from engine.process import module_argv
from engine.records import Figure
from engine.rehearsal import Proof
from engine.runs.lock import REHEARSING, Lock, device_lock_path, holder

MOST_S = 120.0
"""A rehearsal that takes longer is ended: something hangs."""
FOLDER, PREFIX = "rehearsals", "start-"


def rehearsal_key(context: Context) -> str:
    """What a rehearsal proves: these settings and this plan on this device, whatever is free right now."""
    settings = msgspec.structs.replace(
        context.settings, model=msgspec.structs.replace(context.settings.model, preset=context.plan.preset)
    )
    device = msgspec.structs.replace(context.device, total_bytes=None, free_bytes=None)
    plan = msgspec.structs.replace(
        context.plan, device=device, memory_budget_bytes=None, memory_parts_bytes={}, memory_total_bytes=0
    )
    return hashlib.sha256(msgspec.json.encode((settings, plan), order="sorted")).hexdigest()


def check_rehearsal(context: Context, has_blocking: bool) -> Verdict:
    """Whether the smallest batch can be trained, measured, saved and loaded here, and how long each takes.

    `has_blocking`: whether a check before this one blocks the start.
    """
    if not context.settings.preflight.rehearsal:
        return skipped("preflight.rehearsal is switched off.")
    if has_blocking:
        return skipped("Made once nothing else blocks the start.")
    known = kept.fresh(context.kept, "rehearsal", rehearsal_key(context))
    if known is not None:
        evidence = known.check.evidence
        return passed(f"{evidence} Taken over from {time.time() - known.at:.0f} s ago.", *known.check.figures)
    with _device(context) as is_held:
        if not is_held:
            return skipped("Another run is on this device: it would be disturbed, and both measured.")
        return _rehearse(context)


@contextmanager
def _device(context: Context) -> Iterator[bool]:
    """Hold the device meanwhile; a run that starts holds it already."""
    path = device_lock_path(context.device.identity)
    if context.run_folder is not None:
        yield holder(path) == str(context.run_folder)
        return
    lock = Lock(path)
    is_held = lock.acquire(REHEARSING, timeout_s=0.2)
    try:
        yield is_held
    finally:
        lock.release()


def _rehearse(context: Context) -> Verdict:
    parent = context.workspace / "cache" / FOLDER
    try:
        make_private(parent)
        _sweep(parent)
        scratch = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        return failed(f"The workspace cannot be written: {error}", "Make it writable.", is_waivable=False)
    context.scratch.append(scratch)
    plan_path = scratch / "plan.json"
    began_s = time.monotonic()
    try:
        plan_path.write_bytes(msgspec.json.encode(context.plan))
        found = context.ask(module_argv("engine.train", "prove", str(plan_path), str(scratch)), MOST_S)
        return _proven(context, msgspec.json.decode(found.stdout, type=Proof), time.monotonic() - began_s)
    except subprocess.TimeoutExpired:
        return failed(
            f"The rehearsal was not through after {MOST_S:.0f} s.",
            "Look whether another program keeps the device or the disk busy; a smaller model.preset is quicker.",
        )
    except (subprocess.SubprocessError, OSError, msgspec.DecodeError) as error:
        told = (
            f"what it printed cannot be read: {error}"
            if isinstance(error, msgspec.DecodeError)
            else last_words(error)
        )
        return failed(
            f"The smallest batch could not be trained here: {told}",
            "Close what holds the device's memory (llm-tui close), or choose a smaller model.preset.",
            action="close-apps" if context.device.kind == "cuda" else "",
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Delete what a rehearsal that was killed has left."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > 2 * MOST_S:
                shutil.rmtree(folder, ignore_errors=True)


def _proven(context: Context, proof: Proof, seconds: float) -> Verdict:
    where = "GPU memory" if context.device.kind == "cuda" else "RAM"
    figures = (
        Figure(label="step", unit="s", now=proof.step_s),
        Figure(label="validation of a batch", unit="s", now=proof.evaluate_s),
        Figure(label="save", unit="s", now=proof.save_s),
        Figure(label="load", unit="s", now=proof.load_s),
        Figure(label=where, unit="bytes", now=proof.memory_bytes, needed=proof.budget_bytes),
        Figure(label="speed", unit="tokens_per_s", now=proof.tokens_per_s),
    )
    evidence = (
        f"In {seconds:.1f} s, with micro-batch {proof.micro_batch}: a step would take {proof.step_s:.3g} s "
        f"({proof.tokens_per_s:,.0f} tokens/s), the validation of a batch took {proof.evaluate_s:.3g} s, a save of "
        f"{proof.checkpoint_bytes / 1e6:,.0f} MB {proof.save_s:.3g} s, a load {proof.load_s:.3g} s; at most "
        f"{amount(proof.memory_bytes)} of {where}."
    )
    if proof.budget_bytes is not None and proof.memory_bytes > proof.budget_bytes:
        return failed(
            f"{evidence} No more than {amount(proof.budget_bytes)} may be taken.",
            "Choose a smaller model.preset, or close what holds the memory.",
            *figures,
            action="close-apps" if context.device.kind == "cuda" else "",
            is_waivable=not context.settings.limits.vram_budget_gib,
        )
    return passed(evidence, *figures)
