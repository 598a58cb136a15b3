"""Several runs beside each other: their curves, and in which settings they differ."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.records import RunPlan
from engine.runs.folder import RunFolder
from engine.runs.view import read_curves
from engine.shelf import Comparison, Difference


def compare(folders: Sequence[RunFolder], num_points: int) -> Comparison:
    """Runs in the order given. Raises: StoreError, SettingsError where one cannot be read."""
    runs = tuple(read_curves(folder, num_points) for folder in folders)
    facts = [_facts(folder) for folder in folders]
    keys = list(dict.fromkeys(key for found in facts for key in found))
    differences = []
    for key in keys:
        values = tuple(found.get(key, "") for found in facts)
        if len(set(values)) > 1:
            differences.append(Difference(key=key, values=values))
    return Comparison(runs=runs, differences=tuple(differences))


def _facts(folder: RunFolder) -> dict[str, str]:
    """The frozen settings by their dotted keys, and what `auto` came to."""
    with contextlib.closing(folder.open()) as store:
        plan = store.meta("plan", RunPlan)
    resolved = {
        "plan.device": plan.device.name,
        "plan.parameters": f"{plan.shape.parameters}",
        "plan.micro_batch": f"{plan.micro_batch} x {plan.grad_accum}",
        "plan.precision": plan.precision,
        "plan.optimizer": plan.optimizer,
        "plan.learning_rate": f"{plan.learning_rate:g}",
    }
    return resolved | _flat(msgspec.to_builtins(folder.settings()))


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        elif value is not None:
            is_plain = isinstance(value, (str, bool, int, float))
            text = str(value) if is_plain else msgspec.json.encode(value).decode()
            found[f"{before}{key}"] = text.lower() if isinstance(value, bool) else text
    return found
