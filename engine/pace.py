"""How fast a run would go and what it would draw: measured where it can be, by formula where not, said which."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from engine import rehearsal
from engine.chips import find_chip, throughput
from engine.ledger.cloud import entry_flops_per_token
from engine.records import LedgerEntry, RunPlan
from engine.settings import EnergySettings

FP32_FACTOR = 2.0
"""How much longer fp32 takes than bf16, about: 1.8 to 2.0 measured on a CPU."""
GPU_POWER_FRAC = 0.9
"""Share of a board's limit that training draws on average."""
CPU_BESIDE_GPU_FRAC = 0.3
"""Share of the CPU's rated power while a GPU trains: one busy core, and the corpus."""
_LEAST_MEASURED_S = 30.0
"""A run shorter than this was mostly its own start."""
_MOST_SCALING = 8.0
"""Most that a measured run's FLOP a token may differ: a small model reaches less of the same device."""
_BESIDE_STEPS_FRAC = 0.10
"""Share of a run that validations, samples and checkpoints may take beside the steps of a rehearsal."""


class Pace(NamedTuple):
    """Tokens a second, with their range."""

    tokens_per_s: float | None
    """None where neither a measurement nor a formula knows it; then all of them are."""
    low: float | None
    high: float | None
    basis: str
    """Raw text from outside may be in it."""
    source: Literal["rehearsal", "earlier run", "formula", "unknown"]


def pace_of(plan: RunPlan, entries: list[LedgerEntry], workspace: Path, remark: str = "") -> Pace:
    """The pace of a plan: by this machine's newest measurement of it, else by what comes near, else by formula.

    `remark` is added to the basis of a formula.
    """
    measured, distance, at = _earlier_run(plan, entries)
    rehearsed = rehearsal.newest_for(workspace, plan)
    if rehearsed is not None and (measured is None or distance > 1.001 or rehearsed.at > at):
        return Pace(
            rehearsed.tokens_per_s,
            rehearsed.tokens_per_s_low * (1 - _BESIDE_STEPS_FRAC),
            rehearsed.tokens_per_s_high,
            f"measured: a rehearsal of {rehearsed.steps} steps on this device; up to {_BESIDE_STEPS_FRAC:.0%} more for "
            "validations and checkpoints",
            "rehearsal",
        )
    return measured or _by_formula(plan, remark)


def _earlier_run(plan: RunPlan, entries: list[LedgerEntry]) -> tuple[Pace | None, float, float]:
    """By the earlier run on this device that is most like this one; with how unlike, and when it was."""
    wanted = plan.shape.flops_per_token
    alike: list[tuple[float, float, LedgerEntry]] = []
    for entry in entries:
        ratio = entry_flops_per_token(entry) / wanted
        distance = max(ratio, 1 / ratio) if ratio > 0 else _MOST_SCALING
        is_usable = (
            entry.device == plan.device.name and entry.tokens > 0 and entry.elapsed_s >= _LEAST_MEASURED_S
        )
        if is_usable and distance < _MOST_SCALING:
            alike.append((distance, -entry.at, entry))
    if not alike:
        return None, _MOST_SCALING, 0.0
    distance, _, entry = min(alike, key=lambda found: found[:2])
    scale = entry_flops_per_token(entry) / wanted
    whole = entry.tokens / entry.elapsed_s * scale
    steps_alone = (entry.training_tokens_per_s or entry.tokens / entry.elapsed_s) * scale
    scaled = "" if distance < 1.001 else ", scaled by FLOP a token"
    # A scaled figure is as uncertain as the share of the device that another size of model reaches.
    low, high = (whole, steps_alone) if not scaled else (whole / distance**0.5, steps_alone * distance**0.5)
    basis = f"measured: run {entry.run_id} on this device, with its preparation and pauses{scaled}"
    return Pace(whole, min(low, high), max(low, high), basis, "earlier run"), distance, entry.at


def _by_formula(plan: RunPlan, remark: str) -> Pace:
    speed = throughput(plan.device)
    if speed.flops is None or speed.low_flops is None or speed.high_flops is None:
        return Pace(None, None, None, f"{speed.basis}{remark}", "unknown")
    flop, basis = plan.shape.flops_per_token, speed.basis
    if plan.num_recomputed_blocks:
        extra = plan.num_recomputed_blocks * plan.shape.block_forward_flops_per_token
        recomputed = f"{extra / flop:.0%} more for recomputed activations"
        basis = f"{basis}; {recomputed}"
        flop += extra
    if plan.precision == "fp32":
        flop *= FP32_FACTOR
        slower = "twice as long for fp32"
        basis = f"{basis}; {slower}"
    low, high = speed.low_flops / flop, speed.high_flops / flop
    return Pace(speed.flops / flop, low, high, f"{basis}{remark}", "formula")


class Power(NamedTuple):
    """Average watts of the machine by part; empty where they are unknown."""

    parts: dict[str, float]
    basis: str

    @property
    def machine_watts(self) -> float | None:
        """The sum; None where it is unknown."""
        return sum(self.parts.values()) if self.parts else None

    @property
    def gpu_watts(self) -> float | None:
        """The GPU's share; None where it is unknown or there is none."""
        return self.parts.get("gpu")


def power_of(
    plan: RunPlan, energy: EnergySettings, entries: list[LedgerEntry], gpu_limit_watts: float | None
) -> Power:
    """What the machine would draw: the mean of the newest run on this device, else by ratings."""
    measured = [e for e in entries if e.device == plan.device.name and e.machine_watts_mean is not None]
    if measured:
        entry = max(measured, key=lambda e: e.at)
        machine = entry.machine_watts_mean or 0.0
        gpu = min(entry.gpu_watts_mean or 0.0, machine)
        parts = {"gpu": gpu, "machine_without_gpu": machine - gpu} if gpu else {"machine": machine}
        source = entry.energy_source or "unknown source"
        return Power(parts, f"the mean of run {entry.run_id} on this device ({source})")
    parts = {"cpu": energy.cpu_rated_watts, "rest_of_machine": energy.rest_of_machine_watts}
    basis = f"estimate: energy.cpu_rated_watts ({energy.cpu_rated_watts:g} W)"
    if plan.device.kind == "cuda":
        chip = find_chip(plan.device.name)
        limit = gpu_limit_watts or (chip.board_watts if chip else None)
        if limit is None:
            return Power({}, "unknown: neither this GPU's power limit nor an earlier run is known")
        parts = {
            "gpu": GPU_POWER_FRAC * limit,
            "cpu": CPU_BESIDE_GPU_FRAC * energy.cpu_rated_watts,
            "rest_of_machine": energy.rest_of_machine_watts,
        }
        whose = "the driver's limit" if gpu_limit_watts else "the board's rating"
        basis = (
            f"estimate: {GPU_POWER_FRAC:.0%} of {limit:g} W ({whose}), {CPU_BESIDE_GPU_FRAC:.0%} of the CPU's"
        )
    parts["power_supply"] = sum(parts.values()) * (1 / energy.psu_efficiency_frac - 1)
    return Power(parts, f"{basis}, energy.rest_of_machine_watts, over energy.psu_efficiency_frac")
