"""The ledger's entries, what is worked out of them, and plans."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from engine.bill import CheckpointSize, DayLine, EntryDetail, StorageBook
from engine.estimate import Estimate, estimate
from engine.ledger.breakeven import break_evens, move_of
from engine.ledger.cloud import entry_flop, quotes_for, run_flop
from engine.records import Device, LedgerEntry, RunSnapshot
from engine.settings import CloudOffer, CloudSettings, Settings
from engine.shape import PRESETS
from tests.tui.recorded.curves import LIMIT_WATTS
from tests.tui.recorded.events import CHECKPOINT_BYTES
from tests.tui.recorded.facts import GPU, NOW
from tests.tui.recorded.run import snapshot

_CORPUS_BYTES, _SHARDS_BYTES = 12_900_000, 7_800_000
_DATABASE_BYTES, _OTHER_BYTES = 200_000, 600_000
_DAY_S = 86_400


def entry(run_id: str, ago_s: float, **changes: Any) -> LedgerEntry:
    """A line of the ledger, of a run that ended so long ago."""
    model_bytes, checkpoints_bytes = 4 * PRESETS["tiny"].parameters, 2 * CHECKPOINT_BYTES["tiny"]
    base = LedgerEntry(
        run_id=run_id,
        at=NOW - ago_s,
        started_at=NOW - ago_s - 402,
        state="finished",
        preset="tiny",
        parameters=PRESETS["tiny"].parameters,
        device="AMD Ryzen 5 5600H",
        corpus="builtin:python",
        tokens=2_002_944,
        elapsed_s=402.0,
        restarts=0,
        loss=2.91,
        val_loss=3.01,
        val_bits_per_byte=1.313,
        gpu_energy_j=None,
        machine_energy_j=24_900.0,
        energy_source="estimate",
        gap_s=0.0,
        price_per_kwh=0.17,
        currency="USD",
        cost=0.00118,
        grams_co2=None,
        storage_bytes=checkpoints_bytes + model_bytes + _DATABASE_BYTES + _OTHER_BYTES,
        gpu_celsius_mean=None,
        gpu_celsius_max=None,
        gpu_watts_mean=None,
        gpu_watts_max=None,
        cpu_celsius_max=83.0,
        machine_watts_mean=62.0,
        waivers="{}",
        training_tokens_per_s=5_240.0,
        tokens_total=2_002_944,
        memory_bytes=734 * 2**20,
        predicted_memory_bytes=812 * 2**20,
        predicted_hours=0.09,
        predicted_machine_kwh=0.0061,
        predicted_cost=0.00104,
        predicted_basis="formula: 6 cores of 15 to 45 GFLOP/s each (AVX2); not measured on this machine",
        corpus_bytes=_CORPUS_BYTES,
        shards_bytes=_SHARDS_BYTES,
        checkpoints_bytes=checkpoints_bytes,
        model_bytes=model_bytes,
        database_bytes=_DATABASE_BYTES,
    )
    known = replace(base, **changes)
    if "days" in changes or known.cost is None:
        return known
    return replace(known, days=_shared_out(known.started_at, known.at, known.cost))


def booked(shot: RunSnapshot, **changes: Any) -> LedgerEntry:
    """The entry of a run that is over, or that goes on and was booked as it was stopped before."""
    status, is_gpu = shot.status, shot.plan.device.kind == "cuda"
    ended_at = shot.span.until_at if shot.span and shot.span.until_at else NOW
    celsius, watts = shot.sensors["gpu_celsius"], shot.sensors["gpu_watts"]
    rate = status.tokens_per_second or 0.0
    checkpoints_bytes = 2 * CHECKPOINT_BYTES[shot.plan.preset]
    model_bytes = 4 * shot.plan.shape.parameters if status.state == "finished" else 0
    known: dict[str, Any] = {
        "started_at": ended_at - (status.elapsed_s or 0.0),
        "state": str(status.state),
        "preset": shot.plan.preset,
        "parameters": shot.plan.shape.parameters,
        "device": shot.plan.device.name,
        "corpus": shot.corpus,
        "tokens": status.tokens or 0,
        "elapsed_s": status.elapsed_s or 0.0,
        "restarts": status.restarts,
        "loss": status.loss,
        "val_loss": status.val_loss,
        "val_bits_per_byte": status.val_bits_per_byte,
        "gpu_energy_j": status.gpu_energy_j,
        "machine_energy_j": status.machine_energy_j,
        "energy_source": status.energy_source,
        "gap_s": shot.cost.gap_s,
        "cost": status.cost,
        "gpu_celsius_mean": celsius.mean,
        "gpu_celsius_max": celsius.high,
        "gpu_watts_mean": watts.mean,
        "gpu_watts_max": watts.high,
        "cpu_celsius_max": shot.sensors["cpu_celsius"].high,
        "machine_watts_mean": shot.sensors["machine_watts"].mean,
        "training_tokens_per_s": rate,
        "tokens_total": status.tokens_total,
        "memory_bytes": shot.memory_bytes,
        "predicted_memory_bytes": shot.plan.memory_total_bytes,
        "predicted_hours": status.tokens_total / (0.9 * rate) / 3600,
        "predicted_machine_kwh": status.tokens_total / (0.9 * rate) / 3.6e6 * 68.2,
        "predicted_cost": status.tokens_total / (0.9 * rate) / 3.6e6 * 68.2 * 0.17,
        "checkpoints_bytes": checkpoints_bytes,
        "model_bytes": model_bytes,
        "storage_bytes": checkpoints_bytes + model_bytes + _DATABASE_BYTES + _OTHER_BYTES,
    }
    if is_gpu:
        known |= {
            "predicted_basis": f"estimate: 90% of {LIMIT_WATTS:g} W (the driver's limit)",
            "corpus_bytes": 1_240_000_000,
            "shards_bytes": 626_262_000,
        }
    return entry(status.id, NOW - ended_at, **(known | changes))


def days(ago_s: float, costs: tuple[float, ...] = (0.0004, 0.00078)) -> str:
    """The days of a run that ended so long ago, the last of `costs` on its last day."""
    first = NOW - ago_s - _DAY_S * (len(costs) - 1)
    lines = [
        DayLine(
            run_id="x",
            day=time.strftime("%Y-%m-%d", time.gmtime(first + _DAY_S * n)),
            hours=1.0,
            cost=cost,
        )
        for n, cost in enumerate(costs)
    ]
    return msgspec.json.encode(lines).decode()


def _shared_out(began_at: float, ended_at: float, cost: float) -> str:
    """The days of a run that has cost the same every hour."""
    lines, at = [], began_at
    while at < ended_at:
        until = min(ended_at, (at // _DAY_S + 1) * _DAY_S)
        share = (until - at) / (ended_at - began_at)
        day = time.strftime("%Y-%m-%d", time.gmtime(at))
        lines.append(DayLine(run_id="x", day=day, hours=(until - at) / 3600, cost=cost * share))
        at = until
    return msgspec.json.encode(lines).decode()


def detailed(known: LedgerEntry) -> EntryDetail:
    """What is worked out of an entry while its run's folder is there."""
    is_finished = known.state == "finished"
    one_bytes = CHECKPOINT_BYTES.get(known.preset, CHECKPOINT_BYTES["tiny"])
    per_step = 4096 if known.preset == "tiny" else 262_144
    last = max(2, known.tokens // per_step)
    every = 50 if known.preset == "tiny" else 11
    newest = last - last % every or last
    steps = (newest, last) if known.state != "failed" and newest < last else (newest - every, newest)
    model_bytes = (known.model_bytes or 0) if is_finished else 0
    run_bytes = 2 * one_bytes + model_bytes + _DATABASE_BYTES + _OTHER_BYTES
    storage = StorageBook(
        corpus_bytes=known.corpus_bytes,
        shards_bytes=known.shards_bytes,
        checkpoints=tuple(CheckpointSize(name=f"step-{step}", num_bytes=one_bytes) for step in steps),
        model_bytes=model_bytes,
        database_bytes=_DATABASE_BYTES,
        other_bytes=_OTHER_BYTES,
        forecast_bytes=run_bytes,
        peak_bytes=None,
        retention_bytes=2 * one_bytes if is_finished else one_bytes,
        retention_basis="every checkpoint: the finished model stands"
        if is_finished
        else "all but the newest checkpoint",
        cloud_usd_per_month=None,
        cloud_basis="unknown: set cloud.usd_per_gib_month",
    )
    return EntryDetail(
        storage=storage,
        break_even=break_evens(
            quotes_for(entry_flop(known)),
            local=known.cost,
            kwh=None if known.machine_energy_j is None else known.machine_energy_j / 3.6e6,
            hours=known.elapsed_s / 3600,
            currency=known.currency,
            rate=1.0 if known.currency == "USD" else None,
        ),
    )


def estimated(device: Device = GPU, move: bool = False) -> Estimate:
    """A plan as the engine makes it on a machine without a ledger; with `move`, while a run is going."""
    settings = Settings(
        cloud=CloudSettings(offers=[CloudOffer(name="a friend", gpu="NVIDIA T4", usd_per_hour=0.1)])
    )
    found = estimate(settings, device, Path("/nonexistent"), corpus_tokens=1_000_000_000, now=1_790_000_000.0)
    if not move:
        return found
    shot = snapshot(device=device)
    left_frac = 1 - (shot.status.tokens or 0) / shot.status.tokens_total
    quotes = quotes_for(run_flop(shot.plan) * left_frac, settings.cloud.offers, left_frac=left_frac)
    return replace(found, move=move_of(shot.status, shot.cost, quotes, settings.cloud))
