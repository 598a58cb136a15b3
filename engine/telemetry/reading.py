"""One reading of every sensor, and what makes a GPU's power reading believable."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine.chips import find_chip
from engine.records import SensorRow

GIB = 2**30

# What a board of a memory size draws at most where neither the driver nor the table of chips knows it; source:
# NVIDIA's data sheets of Turing (2018) and later, desktop boards and laptops (GTX 1650 SUPER 100 W, RTX 2060
# 175 W, RTX 3070 Ti 290 W, GB200 1200 W).
_BOARD_WATTS_BY_MEMORY = ((4.5, 100.0), (6.5, 175.0), (8.5, 300.0))
_BOARD_WATTS_MOST = 1200.0


class GpuPower(NamedTuple):
    """What one GPU draws, as one reading has it; None is unknown."""

    watts: float | None
    """Power, see `Reading.is_mean`; None: no sensor, the GPU lost, or nothing believable."""
    counter_j: float | None
    """The board's energy counter, J since the driver was loaded; None: the board has none, or is lost."""
    limit_watts: float | None
    """The enforced power limit; None where the driver does not tell."""
    ceiling_watts: float | None = None
    """More than this is no power of this board; None: to be had from the limit."""
    rejected_watts: float | None = None
    """The last power above the ceiling, or of a sensor that stands still, since the reading before; None: none."""
    at_s: float | None = None
    """When the sample was taken, monotonic, which is a little before the reading; None: with it."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of every sensor."""

    at: float
    """Wall clock, UTC; for the record alone."""
    monotonic_s: float
    """The clock that durations are taken on; it stands still in suspend."""
    row: SensorRow
    gpus: dict[str, GpuPower]
    """By UUID: every GPU that answers or has answered before; empty: no GPU known."""
    is_mean: bool = False
    """Whether every power is the mean since the reading before, as the sampler's are, or that of a moment."""
    suspended_s: float = 0.0
    """Seconds that the machine has been suspended since it booted; only the growth means something."""
    reasons: dict[str, str] = {}
    """Why a sensor is unknown, in a sentence each: "gpu", "cpu_watts", "machine_watts"; empty: nothing to say."""


def ceiling_watts(limit_watts: float | None, memory_bytes: int | None = None, name: str = "") -> float:
    """The highest power that a reading of this board can mean.

    Boards overshoot their limit for milliseconds only, so half as much again plus 10 W is generous; broken drivers
    tell 588 W for a 35 W board. Without a limit (many laptops tell none) the board's rating stands in, by its name
    or else by its memory. Source: github.com/NVIDIA/open-gpu-kernel-modules issue 1236 (a frozen 588 W).
    """
    board_watts = limit_watts or _board_watts(memory_bytes, name)
    return 1.5 * board_watts + 10.0


def _board_watts(memory_bytes: int | None, name: str) -> float:
    chip = find_chip(name)
    if chip is not None:
        return chip.board_watts
    if memory_bytes:
        for most_gib, watts in _BOARD_WATTS_BY_MEMORY:
            if memory_bytes <= most_gib * GIB:
                return watts
    return _BOARD_WATTS_MOST


def is_believable(watts: float, ceiling: float) -> bool:
    """Whether a power reading can be true of a board with this ceiling."""
    return 0.0 <= watts <= ceiling
