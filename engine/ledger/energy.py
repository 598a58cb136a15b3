"""Energy out of readings: the GPU's counter where it is plausible, else its power integrated; the machine's beside it.

Durations come from the monotonic clock alone. What was not measured is a gap, and left out of the sums. Counter and
integral are kept side by side; a counter that goes backwards, stands still under load or leaps is not believed for that
stretch, and the integral of the same stretch counts in its place.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.records import EnergyRow
from engine.telemetry.power import weakest_source
from engine.telemetry.reading import GpuPower, Reading, ceiling_watts, is_believable

_GAP_INTERVALS = 5
"""An interval longer than this many nominal ones is a gap."""
_FROZEN_INTERVALS = 10
_FROZEN_LEAST_J = 5.0
_COUNTER_LAG_INTERVALS = 0.5
"""A counter that is read a little late holds this many intervals more than it should."""
_DISTRUST_INTERVALS = 60
"""For so long the integral counts after a counter leapt."""
_COUNTER_SHARE_FRAC = 0.99
_QUIET_S = 600.0
"""A fault that comes and goes is told again only after it was absent for so long."""
_SUSPEND_LEAST_S = 0.5


class Integral:
    """Watts over time, with what is missing.

    Power of a moment is integrated trapezoid by trapezoid, a mean power counts for the interval it is the mean of; so
    does the first reading after a gap.
    """

    def __init__(self, interval_s: float) -> None:
        self._longest_s = _GAP_INTERVALS * interval_s
        self.joules = 0.0
        self.covered_s = 0.0
        """Seconds that `joules` took."""
        self._gap_s = 0.0
        self._pending_s = 0.0
        self._last_watts: float | None = None

    @property
    def gap_s(self) -> float:
        """Seconds that are in no sum, those included that a next good reading may still bridge."""
        return self._gap_s + self._pending_s

    def add(
        self, took_s: float, watts: float | None, is_mean: bool = False, is_rejected: bool = False
    ) -> float:
        """The joules that the reading at the end of `took_s` adds.

        A rejected reading counts as not taken: the next good one bridges it, unless that is too far off.
        """
        if took_s > self._longest_s or (watts is None and not is_rejected):
            self._start_gap(took_s)
            self._last_watts = None if is_rejected else watts
            return 0.0
        if is_rejected or watts is None:
            self._pending_s += took_s
            if self._pending_s > self._longest_s:
                self._start_gap(0.0)
            return 0.0
        between_watts = watts if self._last_watts is None else (watts + self._last_watts) / 2
        joules, span_s = took_s * (watts if is_mean else between_watts), took_s
        if self._last_watts is not None and took_s + self._pending_s <= self._longest_s:
            joules += self._pending_s * between_watts
            span_s += self._pending_s
            self._pending_s = 0.0
        self._start_gap(0.0)
        self._last_watts = watts
        self.joules += joules
        self.covered_s += span_s
        return joules

    def begin(self, watts: float | None) -> None:
        """The first reading: there is no interval before it."""
        self._last_watts = watts

    def _start_gap(self, took_s: float) -> None:
        self._gap_s += self._pending_s + took_s
        self._pending_s = 0.0
        self._last_watts = None


class _Fault(NamedTuple):
    """A sensor's failure: its kind, for telling it once, and what the person reads."""

    kind: str
    text: str


class GpuMeter:
    """The energy of one GPU.

    Since the counter's last believed value (`_base`) the integral runs on as a provisional figure; the next believed
    value replaces it, a value that cannot be believed makes it final.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self.integral = Integral(interval_s)
        self.counter_j: float | None = None
        """The sum of all believed growth of the counter; None: there was none."""
        self._settled_by_counter_j = 0.0
        self._settled_by_integral_j = 0.0
        self._settled_gap_s = 0.0
        self._provisional_j = 0.0
        self._gap_at_base_s = 0.0
        self._base: tuple[float, float] | None = None
        self._distrusted_until_s = float("-inf")
        self._shortfall_j = 0.0
        self._doubt_j = 0.0
        self.faults: list[_Fault] = []

    @property
    def joules(self) -> float | None:
        """The figure that counts; None: never known."""
        if self.counter_j is None and not self.integral.covered_s:
            return None
        return self._settled_by_counter_j + self._settled_by_integral_j + self._provisional_j + self._doubt_j

    @property
    def source(self) -> str | None:
        """ "counter" where it gave 99 % or more of the joules, else "integrated"; None: never known."""
        if self.joules is None:
            return None
        is_counter = self.counter_j is not None and (
            self._settled_by_counter_j >= _COUNTER_SHARE_FRAC * self.joules
        )
        return "counter" if is_counter else "integrated"

    @property
    def gap_s(self) -> float:
        """Seconds in neither the counter's nor the integral's part."""
        return self._settled_gap_s + self.integral.gap_s - self._gap_at_base_s

    def add(self, now_s: float, took_s: float | None, power: GpuPower, is_mean: bool = False) -> None:
        """Take a reading; `took_s` is None for the first."""
        ceiling = power.ceiling_watts or ceiling_watts(power.limit_watts)
        is_rejected = power.watts is not None and not is_believable(power.watts, ceiling)
        told_watts = power.watts if is_rejected else power.rejected_watts
        if told_watts is not None:
            if is_believable(told_watts, ceiling):
                text = f"told {told_watts:.1f} W all the time while its load changed: left out"
            else:
                text = f"told {told_watts:.0f} W, more than a board of its limit can draw ({ceiling:.0f} W): left out"
            self.faults.append(_Fault("power", text))
        # A reading without believable watts beside a rejected sample is a rejected reading, no silent sensor.
        is_rejected = is_rejected or (power.watts is None and power.rejected_watts is not None)
        if took_s is None:
            self.integral.begin(None if is_rejected else power.watts)
        else:
            self._provisional_j += self.integral.add(took_s, power.watts, is_mean, is_rejected)
        if power.counter_j is not None:
            self._take_counter(now_s, power.counter_j, ceiling)

    def _take_counter(self, now_s: float, counter_j: float, ceiling: float) -> None:
        if self._base is None or now_s < self._distrusted_until_s:
            self._settle_by_integral(now_s, counter_j)
            return
        took_s, grown_j = now_s - self._base[0], counter_j - self._base[1]
        is_long = took_s >= _FROZEN_INTERVALS * self._interval_s
        lag_s = _COUNTER_LAG_INTERVALS * self._interval_s
        if grown_j == 0.0:
            # It may be slow, or stand still: the integral counts until it moves. If it stands, it stopped within the
            # stretch before, of which it then missed a part.
            if self._provisional_j > _FROZEN_LEAST_J:
                self._doubt_j = self._shortfall_j
            if is_long and self._provisional_j > _FROZEN_LEAST_J:
                self.faults.append(
                    _Fault("counter-still", "has an energy counter that stands still under load")
                )
        elif grown_j < 0.0:
            self.faults.append(_Fault("counter-reset", "has an energy counter that started anew"))
            self._settle_by_integral(now_s, counter_j)
        elif grown_j > ceiling * (took_s + lag_s):
            self.faults.append(_Fault("counter-leap", f"has an energy counter that leapt by {grown_j:.0f} J"))
            self._distrusted_until_s = now_s + _DISTRUST_INTERVALS * self._interval_s
            self._settle_by_integral(now_s, counter_j)
        elif is_long and self._provisional_j > _FROZEN_LEAST_J and grown_j < self._provisional_j / 2:
            self._settle_by_integral(now_s, counter_j)  # it stood still, and did not catch up
        else:
            self.counter_j = (self.counter_j or 0.0) + grown_j
            self._settled_by_counter_j += grown_j
            self._doubt_j, self._shortfall_j = 0.0, max(0.0, self._provisional_j - grown_j)
            self._rebase(now_s, counter_j)

    def _settle_by_integral(self, now_s: float, counter_j: float) -> None:
        self._settled_by_integral_j += self._provisional_j + self._doubt_j
        self._doubt_j = self._shortfall_j = 0.0
        self._settled_gap_s += self.integral.gap_s - self._gap_at_base_s
        self._rebase(now_s, counter_j)

    def _rebase(self, now_s: float, counter_j: float) -> None:
        self._provisional_j = 0.0
        self._gap_at_base_s = self.integral.gap_s
        self._base = (now_s, counter_j)


class EnergyMeter:
    """The energy that one life of the supervisor has measured."""

    def __init__(self, segment: int, interval_s: float = 1.0) -> None:
        self._segment = segment
        self._interval_s = interval_s
        self._gpus: dict[str, GpuMeter] = {}
        self._gpu_at_s: dict[str, float] = {}
        self._machine = Integral(interval_s)
        self._machine_source: str | None = None
        self._first_s: float | None = None
        self._last: Reading | None = None
        self._suspended_s = 0.0
        self._faults: list[str] = []
        self._fault_seen_s: dict[tuple[str, str], float] = {}

    def add(self, reading: Reading) -> None:
        """Take the next reading; one that is not later than the last is passed over."""
        took_s = None if self._last is None else reading.monotonic_s - self._last.monotonic_s
        if took_s is not None and took_s <= 0:
            return
        watts = reading.row.machine_watts
        if took_s is None:
            self._first_s = reading.monotonic_s
            self._machine.begin(watts)
        else:
            self._machine.add(took_s, watts, reading.is_mean)
        if watts is not None:
            self._machine_source = weakest_source(self._machine_source, reading.row.machine_watts_source)
        self._count_suspend(reading)
        silent = {uuid: GpuPower(None, None, None) for uuid in self._gpus}
        for uuid, power in (silent | reading.gpus).items():
            self._add_gpu(uuid, power, reading)
        self._last = reading

    def row(self, at: float) -> EnergyRow:
        """What was measured so far."""
        gpus = list(self._gpus.values())
        gpu_j = _sum([gpu.joules for gpu in gpus])
        sources = {gpu.source for gpu in gpus}
        elapsed_s = 0.0
        if self._last is not None and self._first_s is not None:
            elapsed_s = self._last.monotonic_s - self._first_s
        return EnergyRow(
            segment=self._segment,
            at=at,
            elapsed_s=elapsed_s,
            covered_s=self._machine.covered_s,
            gpu_j=gpu_j,
            gpu_counter_j=_sum([gpu.counter_j for gpu in gpus]),
            gpu_integrated_j=_sum([gpu.integral.joules if gpu.integral.covered_s else None for gpu in gpus]),
            gpu_source=None if gpu_j is None else ("counter" if sources == {"counter"} else "integrated"),
            machine_j=self._machine.joules if self._machine.covered_s else None,
            machine_source=self._machine_source if self._machine.covered_s else None,
            gap_s=self._suspended_s + max([self._machine.gap_s, *(gpu.gap_s for gpu in gpus)]),
        )

    def faults(self) -> list[str]:
        """The sensors' faults that are new since the last call, a sentence each; empty: none."""
        faults, self._faults = self._faults, []
        return faults

    def _add_gpu(self, uuid: str, power: GpuPower, reading: Reading) -> None:
        # The sample's own time: it was taken up to a quarter of an interval before the reading.
        now_s = reading.monotonic_s if power.at_s is None else power.at_s
        took_s = None
        if uuid in self._gpus:
            took_s = now_s - self._gpu_at_s[uuid]
            if took_s <= 0.0:  # no sample since: the next one covers this time too
                return
        else:  # one that turns up later has no interval before it either
            self._gpus[uuid] = GpuMeter(self._interval_s)
        self._gpu_at_s[uuid] = now_s
        gpu = self._gpus[uuid]
        gpu.add(now_s, took_s, power, reading.is_mean)
        for fault in gpu.faults:
            seen_s = self._fault_seen_s.get((uuid, fault.kind))
            if seen_s is None or now_s - seen_s > _QUIET_S:
                self._faults.append(f"The GPU {uuid} {fault.text}.")
            self._fault_seen_s[uuid, fault.kind] = now_s
        gpu.faults.clear()

    def _count_suspend(self, reading: Reading) -> None:
        if self._last is not None:
            slept_s = reading.suspended_s - self._last.suspended_s
            if slept_s > _SUSPEND_LEAST_S:
                self._suspended_s += slept_s


def _sum(values: list[float | None]) -> float | None:
    """The sum; None where there is nothing to add or one part was never known."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
