"""The GPUs' process: reads NVML on its own beat and writes what it finds to its output, a line of JSON at a time.

A driver that hangs or takes its process down does so here, beside the supervisor and not in it. The process ends
when its input ends, which it does however its parent ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import msgspec

from engine.telemetry.nvml import GpuReading, Nvml
from engine.telemetry.power import FreezeWatch, PowerSum, beat_s
from engine.telemetry.reading import ceiling_watts

_QUICK_PERIOD_S = 0.1
_BLIND_PERIOD_S = 0.04
"""Where no counter tells the energy: each edge of the load is seen only to the time between two samples."""
_LINES_AN_INTERVAL = 4
_QUICK_CPU_FRAC = 0.004
"""Share of a core that the quick samples may take."""


class GpuState(msgspec.Struct, frozen=True):
    """One GPU as its process left it."""

    reading: GpuReading
    counter_j: float | None
    counter_at_s: float
    """Monotonic; the clock is the machine's, so that other processes may compare it."""
    watts: float | None
    joules: float
    seconds: float
    num_rejected: int
    rejected_watts: float | None
    ceiling_watts: float


class Gpus(msgspec.Struct, frozen=True):
    """All GPUs as their process left them."""

    states: dict[str, GpuState] = {}
    reason: str = ""
    has_unreadable: bool = False


class GpuLoop:
    """Reads NVML: everything once an interval, the power in between."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._line_due_s = 0.0
        self._nvml = Nvml()
        self._readings: dict[str, GpuReading] = {}
        self._sums: dict[str, PowerSum] = {}
        self._freezes: dict[str, FreezeWatch] = {}
        self._frozen: dict[str, bool] = {}
        self._full_due_s = 0.0
        self._period_s = min(_QUICK_PERIOD_S, interval_s)
        self._cost_s = 0.0
        self._first_s = time.monotonic()
        self._count = 0

    def step(self) -> tuple[Gpus | None, float]:
        """One sample of each GPU's power, and of everything where that is due; and the seconds until the next.

        None instead of the GPUs: there is no need to tell them yet.
        """
        now_s, cpu_s = time.monotonic(), time.thread_time()
        is_full = now_s >= self._full_due_s
        is_told = is_full or now_s >= self._line_due_s
        if is_full:
            self._full_due_s = now_s + self._interval_s
            self._readings = {reading.gpu.uuid: reading for reading in self._nvml.read()}
        states = {uuid: self._sample(uuid, is_full, is_told) for uuid in self._readings}
        gpus = None
        if is_told:
            self._line_due_s = now_s + self._interval_s / _LINES_AN_INTERVAL - self._period_s / 2
            gpus = Gpus(states, self._nvml.reason, self._nvml.has_unreadable_gpu)
        elif not is_full:
            self._adapt(time.thread_time() - cpu_s)
        return gpus, self._pause_s(time.monotonic())

    def _sample(self, uuid: str, is_full: bool, is_told: bool) -> GpuState:
        reading = self._readings[uuid]
        has_counter = is_told and reading.counter_j is not None
        watts, counter_j = (
            (reading.watts, reading.counter_j) if is_full else self._nvml.power(uuid, has_counter=has_counter)
        )
        now_s = time.monotonic()
        ceiling = ceiling_watts(reading.limit_watts, reading.memory_total_bytes, reading.gpu.name)
        power = self._sums.setdefault(uuid, PowerSum())
        if is_full:
            freeze = self._freezes.setdefault(uuid, FreezeWatch())
            self._frozen[uuid] = freeze.is_frozen(reading.watts, reading.util_frac)
        longest_s = max(1.0, 3 * self._period_s)
        power.add(now_s, watts, ceiling, longest_s, is_frozen=self._frozen[uuid])
        return GpuState(
            reading,
            counter_j,
            now_s,
            power.watts,
            power.joules,
            power.seconds,
            power.num_rejected,
            power.rejected_watts,
            ceiling,
        )

    def _adapt(self, cost_s: float) -> None:
        """Sample less often where a sample is dear, more often again where it is not."""
        self._cost_s += 0.1 * (cost_s - self._cost_s)
        is_blind = any(reading.counter_j is None for reading in self._readings.values())
        quick_s = _BLIND_PERIOD_S if is_blind else _QUICK_PERIOD_S
        wanted_s = min(max(quick_s, self._cost_s / _QUICK_CPU_FRAC), self._interval_s)
        if not 0.7 < wanted_s / self._period_s < 1.4:  # seldom: each change starts the beat anew
            self._period_s = wanted_s
            self._first_s, self._count = time.monotonic(), 0

    def _pause_s(self, now_s: float) -> float:
        if not any(not reading.is_lost for reading in self._readings.values()):
            return self._interval_s
        self._count = max(self._count + 1, int((now_s - self._first_s) / self._period_s))
        return self._first_s + beat_s(self._count, self._period_s) - now_s


def _end_with_parent() -> None:
    """Wait for the end of the input, in a thread: a call that hangs in the main one is ended too."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def stream(interval_s: float) -> None:
    """Write `Gpus` as JSON, a line for each sample, until the input ends or the output is closed."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    loop, encoder, output = GpuLoop(interval_s), msgspec.json.Encoder(), sys.stdout.buffer
    try:
        while True:
            gpus, pause_s = loop.step()
            if gpus is not None:
                output.write(encoder.encode(gpus) + b"\n")
                output.flush()
            time.sleep(max(0.0, pause_s))
    except BrokenPipeError:
        os._exit(0)
