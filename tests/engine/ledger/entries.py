"""Ledger entries to test with."""

from __future__ import annotations

from typing import Any

from engine.records import LedgerEntry
from engine.shape import PRESETS


def ledger_entry(**changes: Any) -> LedgerEntry:
    """A finished tiny run with every figure known."""
    facts: dict[str, Any] = {
        "run_id": "run-1",
        "at": 1_760_000_600.5,
        "started_at": 1_760_000_000.25,
        "state": "finished",
        "preset": "tiny",
        "parameters": PRESETS["tiny"].parameters,
        "device": "Some GPU",
        "corpus": "builtin:python",
        "tokens": 2_002_944,
        "elapsed_s": 600.125,
        "restarts": 0,
        "loss": 3.25,
        "val_loss": 3.5,
        "val_bits_per_byte": 1.75,
        "gpu_energy_j": 18_000.0,
        "machine_energy_j": 36_000.0,
        "energy_source": "estimate",
        "gap_s": 0.0,
        "price_per_kwh": 0.17,
        "currency": "USD",
        "cost": 0.0017,
        "grams_co2": None,
        "storage_bytes": 123_456_789,
        "gpu_celsius_mean": 61.5,
        "gpu_celsius_max": 70.0,
        "gpu_watts_mean": 30.0,
        "gpu_watts_max": 41.5,
        "cpu_celsius_max": None,
        "machine_watts_mean": 60.0,
        "waivers": "{}",
    }
    return LedgerEntry(**{**facts, **changes})
