"""The limits that end a run: what is reached, and what soon will be."""

from __future__ import annotations

from typing import NamedTuple

from engine.settings import LimitSettings

GIB = 2**30
WARN_AT_FRAC = (0.9, 0.8)
"""Shares of a limit at which it is told that it comes near, the later one first."""


class Standing(NamedTuple):
    """How a run stands to its limits; None: unknown, and then no limit is reached."""

    hours: float
    cost: float | None
    free_bytes: int | None


class LimitGuard:
    """Tells once that a limit comes near, and which one is reached."""

    def __init__(self, limits: LimitSettings, currency: str) -> None:
        self._limits = limits
        self._currency = currency
        self._told: dict[str, float] = {}

    def reached(self, standing: Standing) -> str | None:
        """Which limit is reached, in a sentence; None while none is."""
        for name, frac, text in self._shares(standing):
            if frac >= 1.0:
                return f"limits.{name} is reached: {text}."
        return None

    def warnings(self, standing: Standing) -> list[str]:
        """The limits that come near, a sentence each; each share of a limit is told once."""
        found = []
        for name, frac, text in self._shares(standing):
            passed = next((share for share in WARN_AT_FRAC if frac >= share), 0.0)
            if passed > self._told.get(name, 0.0) and frac < 1.0:
                self._told[name] = passed
                found.append(f"limits.{name} comes near: {text}. The run saves and stops there.")
        return found

    def _shares(self, standing: Standing) -> list[tuple[str, float, str]]:
        """Every limit that is set and known: its key, how much of it is used up, and that in words."""
        limits, found = self._limits, []
        if limits.max_hours:
            text = f"{standing.hours:.4g} h of {limits.max_hours:g} h"
            found.append(("max_hours", standing.hours / limits.max_hours, text))
        if limits.max_cost and standing.cost is not None:
            text = f"{standing.cost:.4g} of {limits.max_cost:g} {self._currency}"
            found.append(("max_cost", standing.cost / limits.max_cost, text))
        if limits.min_free_disk_gib and standing.free_bytes is not None:
            free_gib = standing.free_bytes / GIB
            text = f"{free_gib:.2f} GiB free, {limits.min_free_disk_gib:g} GiB are to stay free"
            # Down to just the limit is allowed; below it, it is reached.
            frac = min(limits.min_free_disk_gib / max(free_gib, 1e-9), 0.999)
            found.append(("min_free_disk_gib", 1.0 if free_gib < limits.min_free_disk_gib else frac, text))
        return found
