"""The machine, its two plans, the time, and how the runs on it are named."""

from __future__ import annotations

import time

from engine.footprint import memory_parts
from engine.records import Device, RunPlan
from engine.shape import DEFAULTS, PRESETS

NOW = time.time()
"""When all of this is looked at."""
CPU = Device(
    kind="cpu",
    name="AMD Ryzen 5 5600H",
    identity="cpu",
    total_bytes=16 * 2**30,
    free_bytes=11 * 2**30,
    num_cores=6,
)
GPU = Device(
    kind="cuda",
    name="NVIDIA GeForce RTX 2050",
    identity="GPU-0d1e",
    total_bytes=4 * 2**30,
    free_bytes=3600 * 2**20,
    capability=(8, 6),
)
LARGE_TOKENS = 1_000_079_360
"""What `auto` makes of a billion tokens in steps of 262,144."""


def run_id(began_at: float, preset: str = "tiny", end: str = "ab12") -> str:
    """The name that a run gets which begins then."""
    return f"{time.strftime('%m%d-%H%M%S', time.localtime(began_at))}-{preset}-{end}"


def plan(device: Device = CPU, preset: str = "tiny", tokens_total: int = 2_002_944) -> RunPlan:
    """A plan as `auto` makes it, but that the tiny model takes two micro-steps."""
    shape = PRESETS[preset]
    is_large = preset == "134m"
    tokens_per_step = DEFAULTS[preset].tokens_per_step if is_large else 4096
    recomputed = 11 if is_large else 0
    parts = memory_parts(
        shape,
        device_kind=device.kind,
        precision="bf16",
        optimizer="muon",
        micro_batch=8,
        num_recomputed_blocks=recomputed,
    )
    return RunPlan(
        preset=preset,
        shape=shape,
        device=device,
        precision="bf16",
        optimizer="muon",
        learning_rate=DEFAULTS[preset].learning_rate,
        tokens_total=tokens_total,
        tokens_per_step=tokens_per_step,
        micro_batch=8,
        grad_accum=tokens_per_step // (8 * shape.context),
        steps=tokens_total // tokens_per_step,
        is_compiled=is_large,
        num_recomputed_blocks=recomputed,
        memory_parts_bytes=parts,
        memory_total_bytes=sum(parts.values()),
        memory_budget_bytes=round((device.free_bytes or 0) * (0.95 if device.kind == "cuda" else 0.8)),
    )
