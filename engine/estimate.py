"""What a run would take, before it runs: memory, hours, kilowatt-hours, storage and money.

Measured by earlier runs on the same device where the workspace's ledger has one; else by formula. Every figure
says which in its `basis`, and is None where there is neither.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from engine.chips import find_chip, throughput
from engine.errors import StoreError
from engine.footprint import optimizer_bytes
from engine.ledger.book import LedgerBook
from engine.ledger.cloud import entry_flops_per_token, quotes
from engine.ledger.cost import J_PER_KWH, money_of
from engine.plan import make_plan
from engine.records import CloudQuote, Device, LedgerEntry, RunPlan
from engine.settings import EnergySettings, Settings

RECOMPUTE_FACTOR = 4 / 3
"""Arithmetic with recomputed activations: a second forward pass beside one forward and two backward."""
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


class ModelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """The model."""

    parameters: int


class MemoryEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it fits."""

    device: str
    """Raw text from outside."""
    budget_bytes: int | None
    """None where the device's free memory is unknown."""
    total_bytes: int
    parts: dict[str, int]
    micro_batch: int
    fits: bool | None
    """None where the budget is unknown."""


class TimeEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """How long it takes."""

    tokens: int
    tokens_per_second: float | None
    hours: float | None
    basis: str
    """Measured or by formula, and on what; raw text from outside may be in it."""


class EnergyEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole machine uses."""

    kwh: float | None
    average_watts: float | None
    basis: str


class StorageEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What it puts on the disk, at its peak."""

    corpus_bytes: int | None
    """Token shards; None where the corpus has not been looked at."""
    checkpoints_bytes: int
    """Those that are kept, and one more while it is written."""
    model_bytes: int
    """The finished model."""
    total_bytes: int
    """At least this: `corpus_bytes` is missing from it where it is None."""


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the electricity costs here."""

    currency: str
    local: float | None
    parts: dict[str, float]
    """What `local` is made of, by name; empty where it is unknown."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of `estimate --json`."""

    model: ModelEstimate
    memory: MemoryEstimate
    time: TimeEstimate
    energy: EnergyEstimate
    storage: StorageEstimate
    cost: CostEstimate
    cloud: tuple[CloudQuote, ...]


def estimate(
    settings: Settings,
    device: Device,
    workspace: Path,
    *,
    plan: RunPlan | None = None,
    corpus_tokens: int | None = None,
    gpu_limit_watts: float | None = None,
) -> Estimate:
    """Everything that can be told of a run before it starts.

    `plan` is made where it is None; `corpus_tokens` and `gpu_limit_watts` (the driver's power limit) are None
    where nobody asked. A ledger that cannot be read only costs the measured figures, and the basis says so.
    Raises: SettingsError.
    """
    plan = plan or make_plan(settings, device, corpus_tokens)
    entries, remark = _entries(workspace)
    time = _time(plan, entries, remark)
    watts, energy_basis = _watts(plan, settings.energy, entries, gpu_limit_watts)
    kwh = _kwh(sum(watts.values()) if watts else None, time.hours)
    return Estimate(
        model=ModelEstimate(parameters=plan.shape.parameters),
        memory=MemoryEstimate(
            device=device.name,
            budget_bytes=plan.memory_budget_bytes,
            total_bytes=plan.memory_total_bytes,
            parts=plan.memory_parts_bytes,
            micro_batch=plan.micro_batch,
            fits=plan.fits,
        ),
        time=time,
        energy=EnergyEstimate(
            kwh=kwh, average_watts=sum(watts.values()) if watts else None, basis=energy_basis
        ),
        storage=storage_estimate(plan, settings, corpus_tokens),
        cost=_cost(settings.energy, watts, time.hours),
        cloud=tuple(quotes(plan, settings.cloud.offers)),
    )


def _entries(workspace: Path) -> tuple[list[LedgerEntry], str]:
    try:
        return LedgerBook(workspace).entries(), ""
    except StoreError:
        return [], "; earlier runs could not be looked up, as the ledger cannot be read"


def _time(plan: RunPlan, entries: list[LedgerEntry], remark: str) -> TimeEstimate:
    rate, basis = _measured_rate(plan, entries)
    if rate is None:
        rate, basis = _formula_rate(plan)
        basis += remark
    hours = plan.tokens_total / rate / 3600 if rate else None
    return TimeEstimate(tokens=plan.tokens_total, tokens_per_second=rate, hours=hours, basis=basis)


def _measured_rate(plan: RunPlan, entries: list[LedgerEntry]) -> tuple[float | None, str]:
    """Tokens a second by the earlier run on this device that is most like this one; None where there is none."""
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
        return None, ""
    distance, _, entry = min(alike, key=lambda found: found[:2])
    rate = entry.tokens / entry.elapsed_s * entry_flops_per_token(entry) / wanted
    scaled = "" if distance < 1.001 else ", scaled by FLOP a token"
    return rate, f"measured: run {entry.run_id} on this device, with its preparation and pauses{scaled}"


def _formula_rate(plan: RunPlan) -> tuple[float | None, str]:
    speed = throughput(plan.device)
    if speed.flops is None:
        return None, speed.basis
    flop, basis = plan.shape.flops_per_token, speed.basis
    if plan.is_checkpointing_activations:
        flop *= RECOMPUTE_FACTOR
        basis += "; a third more for recomputed activations"
    if plan.precision == "fp32":
        flop *= FP32_FACTOR
        basis += "; twice as long for fp32"
    return speed.flops / flop, basis


def _watts(
    plan: RunPlan, energy: EnergySettings, entries: list[LedgerEntry], gpu_limit_watts: float | None
) -> tuple[dict[str, float], str]:
    """Average watts of the machine by part, and what they rest on; empty where they are unknown."""
    measured = [e for e in entries if e.device == plan.device.name and e.machine_watts_mean is not None]
    if measured:
        entry = max(measured, key=lambda e: e.at)
        machine = entry.machine_watts_mean or 0.0
        gpu = min(entry.gpu_watts_mean or 0.0, machine)
        parts = {"gpu": gpu, "machine_without_gpu": machine - gpu} if gpu else {"machine": machine}
        return (
            parts,
            f"the mean of run {entry.run_id} on this device ({entry.energy_source or 'unknown source'})",
        )
    parts = {"cpu": energy.cpu_rated_watts, "rest_of_machine": energy.rest_of_machine_watts}
    basis = f"estimate: energy.cpu_rated_watts ({energy.cpu_rated_watts:g} W)"
    if plan.device.kind == "cuda":
        chip = find_chip(plan.device.name)
        limit = gpu_limit_watts or (chip.board_watts if chip else None)
        if limit is None:
            return {}, "unknown: neither this GPU's power limit nor an earlier run is known"
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
    return parts, f"{basis}, energy.rest_of_machine_watts, over energy.psu_efficiency_frac"


def _kwh(watts: float | None, hours: float | None) -> float | None:
    return None if watts is None or hours is None else watts * hours / 1000


def storage_estimate(plan: RunPlan, settings: Settings, corpus_tokens: int | None) -> StorageEstimate:
    """What a run puts on the disk at its peak; `corpus_tokens` is None where the corpus was not looked at."""
    model_bytes = 4 * plan.shape.parameters
    checkpoint_bytes = model_bytes + optimizer_bytes(plan.shape, plan.optimizer)
    checkpoints_bytes = checkpoint_bytes * (settings.training.keep_checkpoints + 1)
    corpus_bytes = None
    if corpus_tokens is not None:
        corpus_bytes = corpus_tokens * (2 if plan.shape.vocab_size <= 2**16 else 4)
    return StorageEstimate(
        corpus_bytes=corpus_bytes,
        checkpoints_bytes=checkpoints_bytes,
        model_bytes=model_bytes,
        total_bytes=checkpoints_bytes + model_bytes + (corpus_bytes or 0),
    )


def _cost(energy: EnergySettings, watts: dict[str, float], hours: float | None) -> CostEstimate:
    if not watts or hours is None:
        return CostEstimate(currency=energy.currency, local=None, parts={})
    parts = {
        name: money_of(part_watts * hours / 1000 * J_PER_KWH, energy.price_per_kwh)
        for name, part_watts in watts.items()
    }
    return CostEstimate(
        currency=energy.currency,
        local=float(sum(parts.values(), Decimal(0))),
        parts={name: float(part) for name, part in parts.items()},
    )
