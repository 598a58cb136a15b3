"""Power out of many quick samples: when to take them, what they add up to, and what the machine draws in all."""

from __future__ import annotations

from typing import NamedTuple

from engine.settings import EnergySettings
from engine.telemetry.battery import Battery
from engine.telemetry.reading import is_believable

CPU_IDLE_FRAC = 0.15
"""What a package draws at rest, as a share of its rating: an assumption, between a laptop's 5 % and a server's 30 %."""

_GOLDEN_FRAC = 0.6180339887498949


def beat_s(count: int, period_s: float) -> float:
    """When sample number `count` is due, in s after the first: one in each period, never at the same place in it.

    Training is periodic. Evenly spaced samples of a square wave of 0.7 s at 10 Hz see 4 parts of 7 instead of a
    half and are 9 % off for good; steps of the golden ratio within the period meet no period of the load.
    """
    return (count + count * _GOLDEN_FRAC % 1.0) * period_s


class PowerSum:
    """Energy of one GPU from quick samples, trapezoid by trapezoid.

    What is not believable, and what is too far apart, is left out.
    """

    def __init__(self) -> None:
        self.joules = 0.0
        self.seconds = 0.0
        """How long `joules` took; less than the time that passed where samples are missing."""
        self.num_rejected = 0
        self.rejected_watts: float | None = None
        """The last sample that was not believable; None: there was none."""
        self.watts: float | None = None
        """The newest sample; None where it is unknown or not believable."""
        self._last: tuple[float, float] | None = None

    def add(
        self,
        now_s: float,
        watts: float | None,
        ceiling: float,
        longest_s: float = 1.0,
        *,
        is_frozen: bool = False,
    ) -> None:
        """Take a sample; an unbelievable one is passed over, an unknown one is the start of a gap."""
        self.watts = None
        if watts is None:
            self._last = None
        elif is_frozen:
            self._last = None
            self.num_rejected += 1
            self.rejected_watts = watts
        elif not is_believable(watts, ceiling):
            self.num_rejected += 1
            self.rejected_watts = watts
        else:
            self.watts = watts
            if self._last is not None and 0.0 < now_s - self._last[0] <= longest_s:
                took_s = now_s - self._last[0]
                self.joules += took_s * (watts + self._last[1]) / 2
                self.seconds += took_s
            self._last = (now_s, watts)


class FreezeWatch:
    """Tells a power sensor that stands still while the load changes; a real one is never twice the same for long."""

    LEAST_READINGS = 10
    LEAST_SWING_FRAC = 0.3
    _SAME_WATTS = 0.005

    def __init__(self) -> None:
        self._watts: float | None = None
        self._num_same = 0
        self._loads: tuple[float, float] | None = None

    def is_frozen(self, watts: float | None, load_frac: float | None) -> bool:
        """Take a reading of power and load; True while the power has been the same over a swing of the load."""
        if watts is None or self._watts is None or abs(watts - self._watts) > self._SAME_WATTS:
            self._watts, self._num_same, self._loads = watts, 0, None
        self._num_same += 1
        if load_frac is not None:
            low, high = self._loads or (load_frac, load_frac)
            self._loads = (min(low, load_frac), max(high, load_frac))
        swing_frac = self._loads[1] - self._loads[0] if self._loads else 0.0
        return self._num_same >= self.LEAST_READINGS and swing_frac >= self.LEAST_SWING_FRAC


class CpuPower(NamedTuple):
    """What the CPU draws, and how that is known."""

    watts: float | None
    source: str | None
    """"rapl", "estimate"; None where unknown."""


def cpu_power(rapl_watts: float | None, load_frac: float | None, settings: EnergySettings) -> CpuPower:
    """The counter's figure where it can be read, else the rating times (idle share + (1 - idle share) x load)."""
    if rapl_watts is not None:
        return CpuPower(rapl_watts, "rapl")
    if load_frac is None:
        return CpuPower(None, None)
    return CpuPower(settings.cpu_rated_watts * (CPU_IDLE_FRAC + (1 - CPU_IDLE_FRAC) * load_frac), "estimate")


class MachinePower(NamedTuple):
    """What the whole machine draws, how that is known, and why it is not."""

    watts: float | None
    source: str | None
    """"battery", "partly measured", "estimate"; None where unknown."""
    reason: str
    """Empty where it is known."""


def machine_power(
    gpu_watts: float | None, has_gpu: bool, cpu: CpuPower, battery: Battery, settings: EnergySettings
) -> MachinePower:
    """The battery's figure where it feeds the machine, else the sum of the parts at the wall.

    A GPU whose power is unknown makes the sum unknown: it may be most of it.
    """
    if battery.is_on_ac is False and battery.discharge_watts is not None:
        return MachinePower(battery.discharge_watts, "battery", "")
    if has_gpu and gpu_watts is None:
        return MachinePower(None, None, "The power of a GPU is unknown, and the machine's with it.")
    if cpu.watts is None:
        return MachinePower(None, None, "The CPU's load is not known yet.")
    parts_watts = (gpu_watts or 0.0) + cpu.watts + settings.rest_of_machine_watts
    source = "partly measured" if has_gpu or cpu.source == "rapl" else "estimate"
    return MachinePower(parts_watts / settings.psu_efficiency_frac, source, "")


def weakest_source(first: str | None, second: str | None) -> str | None:
    """Of two ways to know the machine's power the one to trust less; None gives way to the other."""
    order = ("battery", "partly measured", "estimate")
    known = [source for source in (first, second) if source is not None]
    return max(known, key=lambda source: order.index(source) if source in order else len(order), default=None)
