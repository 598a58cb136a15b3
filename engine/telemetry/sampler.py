"""All sensors behind one call that never waits.

A process of its own reads the GPUs, a thread the rest of the machine, and each leaves its newest answer in a slot;
`read` puts the slots together. The GPUs' power is sampled ten times a second, so that a reading carries the mean of
its whole interval; where the driver's calls are dear they are made less often, to stay below 1 % of a core.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from engine.records import SensorRow
from engine.settings import EnergySettings
from engine.telemetry.gpu_loop import Gpus, GpuState
from engine.telemetry.gpus import GpuFeed
from engine.telemetry.host import Battery, Host, HostReading
from engine.telemetry.power import cpu_power, machine_power
from engine.telemetry.reading import GpuPower, Reading, is_believable
from engine.telemetry.worker import Worker

_FRESH_INTERVALS = 3
_CLOSE_S = 0.5
_UNKNOWN_HOST = HostReading(
    cpu_load_frac=None,
    cpu_celsius=None,
    rapl_watts=None,
    rapl_reason="",
    battery=Battery(),
    memory_used_bytes=None,
)


class _HostWorker(Worker[HostReading]):
    """Reads the rest of the machine; a laptop's battery alone may take 50 ms to answer."""

    def __init__(self, interval_s: float, root: Path) -> None:
        super().__init__("host sensors")
        self._interval_s = interval_s
        self._root = root
        self._host: Host | None = None

    def step(self) -> tuple[HostReading, float]:
        """One reading of everything; the first covers a quarter of a second."""
        if self._host is None:
            self._host = Host(self._root)
            time.sleep(min(0.25, self._interval_s))
        return self._host.read(), self._interval_s


class Sampler:
    """The sensors of this machine."""

    def __init__(self, energy: EnergySettings, interval_s: float = 1.0, root: Path = Path("/")) -> None:
        self._energy = energy
        self._fresh_s = max(1.0, _FRESH_INTERVALS * interval_s)
        self._made_s = time.monotonic()
        self._before: dict[str, GpuState] = {}
        self._mean_watts: dict[str, float] = {}
        self._gpu_feed = GpuFeed(interval_s)
        self._host_worker = _HostWorker(interval_s, root)
        self._gpu_feed.start()
        self._host_worker.start()

    def wait_ready(self, timeout_s: float = 2.0) -> bool:
        """Wait until every sensor was asked once; False where one does not answer in time."""
        deadline_s = time.monotonic() + timeout_s
        is_gpu_ready = self._gpu_feed.wait_first(timeout_s)
        return self._host_worker.wait_first(max(0.0, deadline_s - time.monotonic())) and is_gpu_ready

    def read(self) -> Reading:
        """Everything as it is now; what has not answered for three intervals (at least 1 s) is unknown."""
        at, now_s = time.time(), time.monotonic()
        reasons: dict[str, str] = {}
        slot = self._gpu_feed.slot
        is_fresh = slot is not None and now_s - slot[0] <= self._fresh_s
        gpus = slot[1] if slot is not None else Gpus()
        powers = {uuid: self._power(uuid, state, is_fresh) for uuid, state in gpus.states.items()}
        gpu_watts, gpu_source = self._gpu_watts(gpus, powers, is_fresh)
        self._before = gpus.states
        if not is_fresh:
            silent_s = now_s - (slot[0] if slot is not None else self._made_s)
            reasons["gpu"] = (
                self._gpu_feed.error or f"The NVIDIA driver has not answered for {silent_s:.0f} s."
            )
        elif gpus.reason:
            reasons["gpu"] = gpus.reason
        host = self._host_now(now_s)
        cpu = cpu_power(host.rapl_watts, host.cpu_load_frac, self._energy)
        if cpu.source != "rapl" and host.rapl_reason:
            reasons["cpu_watts"] = host.rapl_reason
        has_gpu = bool(gpus.states) or gpus.has_unreadable or not is_fresh
        machine = machine_power(gpu_watts, has_gpu, cpu, host.battery, self._energy)
        if machine.reason:
            reasons["machine_watts"] = machine.reason
        seen = [state.reading for state in gpus.states.values()] if is_fresh else []
        row = SensorRow(
            at=at,
            gpu_celsius=max((gpu.celsius for gpu in seen if gpu.celsius is not None), default=None),
            gpu_watts=gpu_watts,
            gpu_limit_watts=_sum_known(power.limit_watts for power in powers.values()),
            gpu_util_frac=_mean_known([gpu.util_frac for gpu in seen]),
            gpu_memory_used_bytes=_sum_bytes([gpu.memory_used_bytes for gpu in seen]),
            gpu_memory_total_bytes=_sum_bytes([gpu.memory_total_bytes for gpu in seen]),
            cpu_celsius=host.cpu_celsius,
            cpu_watts=cpu.watts,
            cpu_load_frac=host.cpu_load_frac,
            machine_watts=machine.watts,
            gpu_watts_source=gpu_source,
            cpu_watts_source=cpu.source,
            machine_watts_source=machine.source,
            gpu_throttle=_throttle([gpu.throttles for gpu in seen]),
            gpu_clock_mhz=_mean_known([gpu.clock_mhz for gpu in seen]),
            gpu_fan_frac=max((gpu.fan_frac for gpu in seen if gpu.fan_frac is not None), default=None),
            memory_used_bytes=host.memory_used_bytes,
            battery_frac=host.battery.fraction,
            is_on_ac=host.battery.is_on_ac,
        )
        return Reading(
            at=at,
            monotonic_s=now_s,
            row=row,
            gpus=powers,
            is_mean=True,
            suspended_s=_suspended_s(),
            reasons=reasons,
        )

    def close(self) -> None:
        """Stop reading; a driver call that hangs is left behind and ends with the process."""
        self._gpu_feed.close(_CLOSE_S)
        self._host_worker.close(_CLOSE_S)

    @property
    def reader_pid(self) -> int | None:
        """The process that reads the GPUs; None: there is none, as where no NVIDIA driver is installed."""
        return self._gpu_feed.reader_pid

    def _host_now(self, now_s: float) -> HostReading:
        slot = self._host_worker.slot
        return slot[1] if slot is not None and now_s - slot[0] <= self._fresh_s else _UNKNOWN_HOST

    def _power(self, uuid: str, state: GpuState, is_fresh: bool) -> GpuPower:
        """What one GPU drew since the reading before.

        The mean of the samples where they cover half the time; the mean before where the driver is merely slow.
        """
        if not is_fresh or state.reading.is_lost:
            self._mean_watts.pop(uuid, None)
            return GpuPower(None, None, None, state.ceiling_watts)
        before = self._before.get(uuid)
        if before is not None and before.seconds > state.seconds:  # another reader: it adds up from 0
            before = None
        has_rejected = before is not None and state.num_rejected > before.num_rejected
        seconds = state.seconds - before.seconds if before is not None else 0.0
        passed_s = state.counter_at_s - before.counter_at_s if before is not None else 0.0
        watts: float | None = state.watts
        if before is not None and seconds > 0 and seconds >= passed_s / 2:
            watts = (state.joules - before.joules) / seconds
        elif (
            before is not None and passed_s == 0
        ):  # no step of the thread since: slow, or asked again at once
            watts = self._mean_watts.get(uuid, state.watts)
        if watts is None:
            self._mean_watts.pop(uuid, None)
        else:
            self._mean_watts[uuid] = watts
        return GpuPower(
            watts,
            state.counter_j,
            state.reading.limit_watts,
            state.ceiling_watts,
            state.rejected_watts if has_rejected or (before is None and state.num_rejected) else None,
            state.counter_at_s,
        )

    def _gpu_watts(
        self, gpus: Gpus, powers: dict[str, GpuPower], is_fresh: bool
    ) -> tuple[float | None, str | None]:
        """All GPUs' power and its source; a counter stands in for a power sensor that fails."""
        if not is_fresh or gpus.has_unreadable:
            return None, None
        source: str | None = "nvml"
        watts: list[float | None] = []
        for uuid, power in powers.items():
            own_watts = power.watts
            if own_watts is None:
                own_watts = _counter_watts(self._before.get(uuid), gpus.states[uuid])
                source = "counter"
            watts.append(own_watts)
        total = _sum_known(watts)
        return total, source if total is not None else None


def _counter_watts(before: GpuState | None, now: GpuState) -> float | None:
    """Mean power between two states by the energy counter; None where it stands still or leaps."""
    if before is None or before.counter_j is None or now.counter_j is None:
        return None
    used_j, took_s = now.counter_j - before.counter_j, now.counter_at_s - before.counter_at_s
    if used_j <= 0 or took_s <= 0 or not is_believable(used_j / took_s, now.ceiling_watts):
        return None
    return used_j / took_s


def _sum_known(values: Iterable[float | None]) -> float | None:
    """The sum; None where there is nothing to add or one part is unknown."""
    total: float | None = None
    for value in values:
        if value is None:
            return None
        total = value if total is None else total + value
    return total


def _throttle(told: list[tuple[str, ...] | None]) -> str | None:
    """What holds any GPU's clocks down, in words; empty: nothing; None: a GPU does not tell."""
    known = [words for words in told if words is not None]
    if not known or len(known) < len(told):
        return None
    return ", ".join(dict.fromkeys(word for words in known for word in words))


def _sum_bytes(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _mean_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _suspended_s() -> float:
    """Seconds of suspend since boot: what the one clock counts and the other does not (clock_gettime(2))."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC))
