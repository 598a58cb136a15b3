"""What a run would take, before it runs: memory, hours, kilowatt-hours, storage and money.

Measured by a rehearsal or by earlier runs on the same device where the workspace has one; else by formula. Every
figure says which in its `basis`, and is None where there is neither.
"""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from engine.bill import BreakEven, Move
from engine.errors import StoreError
from engine.footprint import optimizer_bytes
from engine.ledger.book import LedgerBook
from engine.ledger.breakeven import break_evens, per_usd
from engine.ledger.cloud import own_share, quotes
from engine.ledger.storage import GIB, month_basis
from engine.ledger.tariff import J_PER_KWH, describe, mean_price, money_of
from engine.pace import Pace, Power, pace_of, power_of
from engine.plan import make_plan
from engine.records import CloudQuote, Device, LedgerEntry, Prediction, RunPlan
from engine.settings import EnergySettings, Settings

DATABASE_BYTES_PER_S = 100.0
"""What a run's database grows by with a reading a second, by runs of 10 min to a week."""


class ModelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """The model."""

    parameters: int


class MemoryEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it fits."""

    device: str
    """Raw text from outside."""
    budget_bytes: int | None
    """What the plan may use of it; None where the device's free memory is unknown."""
    total_bytes: int
    parts: dict[str, int]
    micro_batch: int
    fits: bool | None
    """None where the budget is unknown."""
    free_bytes: int | None = None
    device_bytes: int | None = None
    """All of the device's memory; None where unknown, as `free_bytes`."""
    num_recomputed_blocks: int = 0
    num_blocks: int = 0

    @property
    def recomputed_text(self) -> str:
        """Which blocks are computed twice, in words; empty where none is."""
        if not self.num_recomputed_blocks:
            return ""
        return f"recomputes {self.num_recomputed_blocks} of {self.num_blocks} blocks"


class TimeEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """How long it takes."""

    tokens: int
    tokens_per_second: float | None
    hours: float | None
    basis: str
    """Measured or by formula, and on what; raw text from outside may be in it."""
    source: Literal["rehearsal", "earlier run", "formula", "unknown"] = "unknown"
    hours_low: float | None = None
    hours_high: float | None = None
    """The range; None where `hours` is."""


class EnergyEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole machine uses."""

    kwh: float | None
    average_watts: float | None
    basis: str
    gpu_kwh: float | None = None
    """Of that, the GPU's; None: unknown, or there is none."""
    gpu_watts: float | None = None
    kwh_low: float | None = None
    kwh_high: float | None = None
    """By the range of the hours, at the same power."""


class StorageEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What it puts on the disk, at its peak."""

    corpus_bytes: int | None
    """Token shards; None where the corpus has not been looked at."""
    checkpoints_bytes: int
    """Those that are kept, and one more while it is written."""
    model_bytes: int
    """The finished model."""
    total_bytes: int
    """At its peak, while a checkpoint is written beside those that are kept; at least this: what is None is
    missing from it."""
    end_bytes: int = 0
    """When the run is over."""
    database_bytes: int | None = None
    """run.db: the readings of every second; None where the hours are unknown."""
    usd_per_month: float | None = None
    """What `end_bytes` would cost a month in the cloud; None where no price is set."""
    basis: str = ""


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the electricity costs here."""

    currency: str
    local: float | None
    parts: dict[str, float]
    """What `local` is made of, by name; empty where it is unknown."""
    local_low: float | None = None
    local_high: float | None = None
    gpu: float | None = None
    """The GPU's part of `local`."""
    price_per_kwh: float | None = None
    """The mean price over the hours of the run, if it began now."""
    tariff: str = ""
    """The tariff in words."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of `estimate --json`."""

    model: ModelEstimate
    memory: MemoryEstimate
    time: TimeEstimate
    energy: EnergyEstimate
    storage: StorageEstimate
    cost: CostEstimate
    cloud: tuple[CloudQuote, ...]
    break_even: tuple[BreakEven, ...] = ()
    """Where local and cloud swap places, for the offers that matter."""
    move: Move | None = None
    """For the run that is going: finish here, or move; None where none is."""
    cloud_problem: str = ""
    """Why there is no cloud table, with the remedy; empty where there is one."""


def estimate(
    settings: Settings,
    device: Device,
    workspace: Path,
    *,
    plan: RunPlan | None = None,
    corpus_tokens: int | None = None,
    gpu_limit_watts: float | None = None,
    now: float | None = None,
) -> Estimate:
    """Everything that can be told of a run before it starts.

    `plan` is made where it is None; `corpus_tokens` and `gpu_limit_watts` (the driver's power limit) are None
    where nobody asked; a tariff is taken from `now` on, None: this moment. A ledger that cannot be read only costs
    the measured figures, and the basis says so; a broken table of cloud prices only costs the table.
    Raises: SettingsError.
    """
    plan = plan or make_plan(settings, device, corpus_tokens)
    entries, remark = _entries(workspace)
    pace = pace_of(plan, entries, workspace, remark)
    power = power_of(plan, settings.energy, entries, gpu_limit_watts)
    hours = _time(plan, pace)
    num_processes = settings.scale.processes * settings.scale.nodes
    if num_processes > 1:
        remark = f"{hours.basis}; for one process: what the {num_processes} of [scale] gain is not known"
        hours = msgspec.structs.replace(hours, basis=remark)
    energy = _energy(power, hours)
    cost = _cost(settings.energy, power, hours, time.time() if now is None else now)
    share = own_share(plan, pace.tokens_per_s if pace.source in ("rehearsal", "earlier run") else None)
    cloud, cloud_problem = _cloud(plan, settings, share)
    return Estimate(
        model=ModelEstimate(parameters=plan.shape.parameters),
        memory=_memory(plan),
        time=hours,
        energy=energy,
        storage=storage_estimate(plan, settings, corpus_tokens, hours.hours),
        cost=cost,
        cloud=cloud,
        break_even=break_evens(
            cloud,
            local=cost.local,
            kwh=energy.kwh,
            hours=hours.hours,
            currency=cost.currency,
            rate=per_usd(settings.cloud, cost.currency),
        ),
        cloud_problem=cloud_problem,
    )


def predict(settings: Settings, plan: RunPlan, workspace: Path) -> Prediction:
    """What the plan promises, to be kept with the run. Raises: as `estimate`."""
    found = estimate(settings, plan.device, workspace, plan=plan)
    context_bytes = plan.memory_parts_bytes.get("workspace", 0) if plan.device.kind == "cuda" else 0
    return Prediction(
        memory_bytes=plan.memory_total_bytes - context_bytes,
        hours=found.time.hours,
        hours_low=found.time.hours_low,
        hours_high=found.time.hours_high,
        gpu_kwh=found.energy.gpu_kwh,
        machine_kwh=found.energy.kwh,
        cost=found.cost.local,
        basis=found.time.basis,
    )


def _entries(workspace: Path) -> tuple[list[LedgerEntry], str]:
    try:
        return LedgerBook(workspace).entries(), ""
    except StoreError:
        return [], "; earlier runs could not be looked up, as the ledger cannot be read"


def _cloud(plan: RunPlan, settings: Settings, share: float | None) -> tuple[tuple[CloudQuote, ...], str]:
    try:
        return tuple(quotes(plan, settings.cloud.offers, share=share)), ""
    except StoreError as error:
        return (), str(error)


def _memory(plan: RunPlan) -> MemoryEstimate:
    return MemoryEstimate(
        device=plan.device.name,
        budget_bytes=plan.memory_budget_bytes,
        total_bytes=plan.memory_total_bytes,
        parts=plan.memory_parts_bytes,
        micro_batch=plan.micro_batch,
        fits=plan.fits,
        free_bytes=plan.device.free_bytes,
        device_bytes=plan.device.total_bytes,
        num_recomputed_blocks=plan.num_recomputed_blocks,
        num_blocks=plan.shape.n_layer,
    )


def _time(plan: RunPlan, pace: Pace) -> TimeEstimate:
    def hours(tokens_per_s: float | None) -> float | None:
        return plan.tokens_total / tokens_per_s / 3600 if tokens_per_s else None

    return TimeEstimate(
        tokens=plan.tokens_total,
        tokens_per_second=pace.tokens_per_s,
        hours=hours(pace.tokens_per_s),
        basis=pace.basis,
        source=pace.source,
        hours_low=hours(pace.high),
        hours_high=hours(pace.low),
    )


def _energy(power: Power, hours: TimeEstimate) -> EnergyEstimate:
    return EnergyEstimate(
        kwh=_kwh(power.machine_watts, hours.hours),
        average_watts=power.machine_watts,
        basis=power.basis,
        gpu_kwh=_kwh(power.gpu_watts, hours.hours),
        gpu_watts=power.gpu_watts,
        kwh_low=_kwh(power.machine_watts, hours.hours_low),
        kwh_high=_kwh(power.machine_watts, hours.hours_high),
    )


def _kwh(watts: float | None, hours: float | None) -> float | None:
    return None if watts is None or hours is None else watts * hours / 1000


def checkpoint_bytes(plan: RunPlan) -> int:
    """What one checkpoint takes: the weights, and the optimizer's state."""
    return 4 * plan.shape.parameters + optimizer_bytes(plan.shape, plan.optimizer)


def storage_estimate(
    plan: RunPlan, settings: Settings, corpus_tokens: int | None, hours: float | None = None
) -> StorageEstimate:
    """What a run puts on the disk, at its end and at its peak.

    `corpus_tokens` is None where the corpus was not looked at, `hours` where they are unknown.
    """
    model_bytes, one_bytes = 4 * plan.shape.parameters, checkpoint_bytes(plan)
    keep = settings.training.keep_checkpoints
    checkpoints_bytes = one_bytes * (keep + 1)
    corpus_bytes = None
    if corpus_tokens is not None:
        corpus_bytes = corpus_tokens * (2 if plan.shape.vocab_size <= 2**16 else 4)
    database_bytes = None
    if hours is not None:
        database_bytes = round(hours * 3600 * DATABASE_BYTES_PER_S / settings.telemetry.interval_s)
    rest_bytes = model_bytes + (corpus_bytes or 0) + (database_bytes or 0)
    end_bytes, price = one_bytes * keep + rest_bytes, settings.cloud.usd_per_gib_month
    return StorageEstimate(
        corpus_bytes=corpus_bytes,
        checkpoints_bytes=checkpoints_bytes,
        model_bytes=model_bytes,
        total_bytes=checkpoints_bytes + rest_bytes,
        end_bytes=end_bytes,
        database_bytes=database_bytes,
        usd_per_month=None if price is None else end_bytes / GIB * price,
        basis=month_basis(price),
    )


def _cost(energy: EnergySettings, power: Power, hours: TimeEstimate, now: float) -> CostEstimate:
    """Money of the electricity; the range by that of the hours, each at the mean price of its own length."""
    empty = CostEstimate(currency=energy.currency, local=None, parts={}, tariff=describe(energy))
    if not power.parts or hours.hours is None:
        return empty

    def parts(of_hours: float) -> dict[str, Decimal]:
        price = mean_price(energy, now, of_hours * 3600)
        return {
            name: money_of(watts * of_hours / 1000 * J_PER_KWH, price) for name, watts in power.parts.items()
        }

    def total(of_hours: float | None) -> float | None:
        return None if of_hours is None else float(sum(parts(of_hours).values(), Decimal(0)))

    middle = {name: float(part) for name, part in parts(hours.hours).items()}
    return msgspec.structs.replace(
        empty,
        local=total(hours.hours),
        parts=middle,
        local_low=total(hours.hours_low),
        local_high=total(hours.hours_high),
        gpu=middle.get("gpu"),
        price_per_kwh=mean_price(energy, now, hours.hours * 3600),
    )
