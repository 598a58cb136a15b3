"""What a run did day by day, out of its readings: the diary that the course asks for, kept by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from engine.bill import DayLine

MINUTE_S = 60
_DAY_S = 86_400


class MinuteSum(msgspec.Struct, frozen=True, kw_only=True):
    """The readings of one minute of the clock, summed; None where a sensor gave none."""

    minute: int
    """Whole minutes since 1970."""
    seconds: float
    """Time between the readings, gaps left out."""
    gpu_j: float | None
    machine_j: float | None
    gpu_celsius_mean: float | None
    gpu_celsius_max: float | None
    cpu_celsius_max: float | None
    gpu_watts_max: float | None
    machine_watts_max: float | None


class DayStep(msgspec.Struct, frozen=True, kw_only=True):
    """Where the training stood at the end of a day."""

    day: int
    """Whole days since 1970."""
    tokens: int
    loss: float


def day_lines(
    run_id: str,
    minutes: Iterable[MinuteSum],
    steps: Sequence[DayStep],
    checkpoints_at: Iterable[float],
    incidents: Iterable[tuple[float, str]],
    price_at: Callable[[float], float],
) -> list[DayLine]:
    """A line for every day with a reading, a step, a checkpoint or an incident; oldest first."""
    days: dict[int, _Day] = {}

    def on(day: int) -> _Day:
        return days.setdefault(day, _Day())

    for minute in minutes:
        on(minute.minute * MINUTE_S // _DAY_S).add(minute, price_at(minute.minute * MINUTE_S))
    before = 0
    for step in sorted(steps, key=lambda step: step.day):
        on(step.day).tokens, on(step.day).loss = max(0, step.tokens - before), step.loss
        before = step.tokens
    for at in checkpoints_at:
        on(int(at // _DAY_S)).num_checkpoints += 1
    for at, kind in incidents:
        kinds = on(int(at // _DAY_S)).incidents
        if kind not in kinds:
            kinds.append(kind)
    return [days[day].line(run_id, day) for day in sorted(days)]


class _Day:
    """The sums of one day."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.gpu_j: float | None = None
        self.machine_j: float | None = None
        self.machine_s = 0.0
        self.gpu_s = 0.0
        self.cost: float | None = None
        self.celsius_sum = 0.0
        self.num_celsius = 0
        self.most: dict[str, float] = {}
        self.tokens: int | None = None
        self.loss: float | None = None
        self.num_checkpoints = 0
        self.incidents: list[str] = []

    def add(self, minute: MinuteSum, price_per_kwh: float) -> None:
        self.seconds += minute.seconds
        if minute.gpu_j is not None:
            self.gpu_j = (self.gpu_j or 0.0) + minute.gpu_j
            self.gpu_s += minute.seconds
        if minute.machine_j is not None:
            self.machine_j = (self.machine_j or 0.0) + minute.machine_j
            self.machine_s += minute.seconds
            self.cost = (self.cost or 0.0) + minute.machine_j / 3.6e6 * price_per_kwh
        if minute.gpu_celsius_mean is not None:
            self.celsius_sum += minute.gpu_celsius_mean
            self.num_celsius += 1
        for name in ("gpu_celsius_max", "cpu_celsius_max", "gpu_watts_max", "machine_watts_max"):
            value = getattr(minute, name)
            if value is not None:
                self.most[name] = max(value, self.most.get(name, value))

    def line(self, run_id: str, day: int) -> DayLine:
        return DayLine(
            run_id=run_id,
            day=time.strftime("%Y-%m-%d", time.gmtime(day * _DAY_S)),
            hours=self.seconds / 3600,
            tokens=self.tokens,
            loss=self.loss,
            gpu_energy_j=self.gpu_j,
            machine_energy_j=self.machine_j,
            gpu_celsius_mean=self.celsius_sum / self.num_celsius if self.num_celsius else None,
            gpu_celsius_max=self.most.get("gpu_celsius_max"),
            cpu_celsius_max=self.most.get("cpu_celsius_max"),
            gpu_watts_mean=_mean(self.gpu_j, self.gpu_s),
            gpu_watts_max=self.most.get("gpu_watts_max"),
            machine_watts_mean=_mean(self.machine_j, self.machine_s),
            machine_watts_max=self.most.get("machine_watts_max"),
            cost=None if self.cost is None else round(self.cost, 6),
            num_checkpoints=self.num_checkpoints,
            incidents=tuple(self.incidents),
        )


def _mean(joules: float | None, seconds: float) -> float | None:
    return None if joules is None or not seconds else joules / seconds
