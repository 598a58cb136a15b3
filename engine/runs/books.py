"""Closing the books of a run: its entry in the ledger and the generated part of TRAINING.md."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from engine.errors import EngineError
from engine.ledger.book import LedgerBook
from engine.ledger.cost import total_energy
from engine.ledger.training_md import render, update
from engine.records import EnergyRow, LedgerEntry, RunPlan, RunState
from engine.runs.folder import RunFolder
from engine.runs.store import RunStore
from engine.runs.view import describe_source, read_status

J_PER_KWH = 3.6e6


def ledger_entry(folder: RunFolder, store: RunStore, state: RunState) -> LedgerEntry:
    """What a run cost up to now, from its own store."""
    plan, settings, status = store.meta("plan", RunPlan), folder.settings(), read_status(folder)
    gpu_celsius, gpu_watts = store.series("gpu_celsius", 1), store.series("gpu_watts", 1)
    co2, energy_j = settings.energy.grams_co2_per_kwh, status.machine_energy_j
    return LedgerEntry(
        run_id=folder.id,
        at=time.time(),
        started_at=store.meta("created_at", float),
        state=state.value,
        preset=plan.preset,
        parameters=plan.shape.parameters,
        device=plan.device.name,
        corpus=describe_source(settings),
        tokens=status.tokens or 0,
        elapsed_s=status.elapsed_s or 0.0,
        restarts=status.restarts,
        loss=status.loss,
        val_loss=status.val_loss,
        val_bits_per_byte=status.val_bits_per_byte,
        gpu_energy_j=status.gpu_energy_j,
        machine_energy_j=energy_j,
        energy_source=status.energy_source,
        gap_s=total_energy(store.rows(EnergyRow)).gap_s,
        price_per_kwh=settings.energy.price_per_kwh,
        currency=settings.energy.currency,
        cost=status.cost,
        grams_co2=energy_j / J_PER_KWH * co2 if co2 and energy_j is not None else None,
        storage_bytes=folder.storage_bytes(),
        gpu_celsius_mean=gpu_celsius.mean,
        gpu_celsius_max=gpu_celsius.high,
        gpu_watts_mean=gpu_watts.mean,
        gpu_watts_max=gpu_watts.high,
        cpu_celsius_max=store.series("cpu_celsius", 1).high,
        machine_watts_mean=store.series("machine_watts", 1).mean,
        waivers=msgspec.json.encode(store.meta("waivers", dict[str, str])).decode(),
    )


def close_books(folder: RunFolder, store: RunStore, state: RunState) -> list[str]:
    """Enter the run in the ledger and in TRAINING.md; what could not be written, in sentences."""
    problems = []
    try:
        LedgerBook(folder.workspace).record(ledger_entry(folder, store, state))
    except EngineError as error:
        problems.append(str(error))
    try:
        report(folder.workspace)
    except EngineError as error:
        problems.append(str(error))
    return problems


def report(workspace: Path) -> Path:
    """Rewrite the generated part of the workspace's TRAINING.md from the ledger.

    Raises: EngineError where the markers are damaged or the ledger cannot be read; nothing is written then.
    """
    path = workspace / "TRAINING.md"
    update(path, render(LedgerBook(workspace).entries()))
    return path
