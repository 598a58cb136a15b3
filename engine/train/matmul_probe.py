"""The most FLOP a second that this very machine gives in a matrix product: what a run's speed is held against.

Measured and never looked up: a laptop's card runs at half of what its data sheet says, and a CPU has no such figure at
all. A few products of large matrices, in the run's format, are timed for a fraction of a second, and the fastest
counts; the result is kept for a month in the workspace, `cache/peak.json`, unless a training is faster than it.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from engine import atomic
from engine.records import MeasuredPeak, RunPlan
from engine.train.device import Accelerator
from engine.train.journal import Journal
from engine.train.peak import is_out_of_memory

KEPT_S = 30 * 24 * 3600.0
"""A driver, a BIOS or a fan full of dust changes what a machine gives: then it is measured anew."""
_DOUBTED_AT = 0.0
"""Instead of when it was measured: a training was faster than it."""
BUDGET_S = {"cpu": 0.25, "cuda": 0.5}
_SHAPES = {
    "cpu": ((1024, 768, 2048), (1024, 1024, 1024)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192)),
}
"""(M, K, N) of the products: those of a micro-step's size do best on a CPU, large squares on a GPU."""
_BURST = {"cpu": 1, "cuda": 4}
"""Products that are timed together, so that a GPU does not wait for its next one."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def keep_peak(journal: Journal, cache: Path, plan: RunPlan, accelerator: Accelerator) -> None:
    """Enter the peak of this device into the run, and tell it; without one, the run has no utilisation."""
    journal.heartbeat.phase = "measuring the device"
    peak = known_peak(cache, plan, accelerator)
    if peak is None:
        text = "There is no memory to measure the device's peak with: how much of it training uses stays unknown."
        journal.tell("warning", "peak-unknown", text)
        return
    journal.keep(peak=peak)
    text = f"The fastest matrix product here runs at {peak.flops / 1e12:,.3g} TFLOP/s in {peak.precision}."
    journal.tell("info", "peak", text, flops=peak.flops, precision=peak.precision, measured_at=peak.at)


def known_peak(cache: Path, plan: RunPlan, accelerator: Accelerator) -> MeasuredPeak | None:
    """The peak of this device in the run's format: kept from before, or measured now and kept.

    None where it cannot be measured, for want of memory. A cache that cannot be read or written is done without.
    """
    key = _key(plan, accelerator)
    found = _read(cache).get(key)
    if found is not None and 0 <= time.time() - found.at < KEPT_S:
        return found
    flops = measure(accelerator)
    if flops is None:
        return None
    if found is not None and found.at == _DOUBTED_AT:
        flops = max(flops, found.flops)
    found = MeasuredPeak(flops=flops, precision=plan.precision, at=time.time())
    _keep(cache, key, found)
    return found


def doubt_peak(cache: Path, plan: RunPlan, accelerator: Accelerator, tokens_per_s: float) -> None:
    """Have the peak measured anew at the next start, where a training was faster than it.

    Other programs were at work when it was measured. Of the two measurements the higher is kept then.
    """
    key = _key(plan, accelerator)
    found = _read(cache).get(key)
    if found is not None and tokens_per_s * plan.shape.flops_per_token > found.flops:
        _keep(cache, key, msgspec.structs.replace(found, at=_DOUBTED_AT))


def _key(plan: RunPlan, accelerator: Accelerator) -> str:
    return f"{plan.device.name} | torch {torch.__version__} | {accelerator.num_threads} threads | {plan.precision}"


def _keep(cache: Path, key: str, peak: MeasuredPeak) -> None:
    with contextlib.suppress(OSError):
        atomic.make_private(cache.parent)
        kept = {**_read(cache), key: peak}
        atomic.write_bytes(cache, msgspec.json.format(msgspec.json.encode(kept), indent=1))


def measure(accelerator: Accelerator) -> float | None:
    """FLOP a second of the fastest product; None where there is no memory for one."""
    kind = accelerator.device.type
    best = 0.0
    for shape in _SHAPES[kind]:
        try:
            best = max(best, _rate(accelerator, shape, BUDGET_S[kind] / len(_SHAPES[kind]), _BURST[kind]))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    if accelerator.is_cuda:
        torch.cuda.empty_cache()
    return best or None


def _rate(accelerator: Accelerator, shape: tuple[int, int, int], budget_s: float, burst: int) -> float:
    rows, inner, columns = shape
    dtype = _DTYPES[accelerator.precision]
    # Random, as in training: a GPU multiplies ones or zeros faster, for they take it less power.
    generator = torch.Generator(accelerator.device).manual_seed(0)
    a = torch.empty(rows, inner, dtype=dtype, device=accelerator.device).normal_(generator=generator)
    b = torch.empty(inner, columns, dtype=dtype, device=accelerator.device).normal_(generator=generator)
    out = torch.empty(rows, columns, dtype=dtype, device=accelerator.device)
    _seconds(accelerator, a, b, out, 1)  # the first one chooses its kernel
    fastest_s, until = math.inf, time.monotonic() + budget_s
    while not math.isfinite(fastest_s) or time.monotonic() < until:
        fastest_s = min(fastest_s, _seconds(accelerator, a, b, out, burst))
    return 2.0 * rows * inner * columns * burst / fastest_s


def _seconds(accelerator: Accelerator, a: Tensor, b: Tensor, out: Tensor, number: int) -> float:
    started = time.perf_counter()
    for _ in range(number):
        torch.mm(a, b, out=out)
    if accelerator.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _read(cache: Path) -> dict[str, MeasuredPeak]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, MeasuredPeak])
    except (OSError, msgspec.MsgspecError):
        return {}
