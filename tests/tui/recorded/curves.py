"""Losses that fall as those of a small model do, and sensors that waver within what the machine can read."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from msgspec.structs import replace

from engine.records import Bucket, Device, LossPoint, SensorRow, Series
from tests.tui.recorded.facts import NOW

NUM_BUCKETS = 120
HOTTEST_CELSIUS = 84.0
"""Of the GPU, for a while of its run."""
GAP_BUCKETS = (60, 63)
"""Of a GPU run, when its driver did not answer."""
LIMIT_WATTS = 35.0
_SCALE, _STEEP = 0.0033, {"tiny": (8.3, 0.172), "134m": (10.4, 0.23)}


def loss_at(share: float, preset: str = "tiny") -> float:
    """The loss after that share of a run."""
    first, steepness = _STEEP[preset]
    return first * (1 + share / _SCALE) ** -steepness


def losses(
    tokens: int,
    num_points: int = 300,
    noise: float = 0.05,
    took_s: float = 134.0,
    *,
    tokens_total: int | None = None,
    tokens_per_step: int = 4096,
    ends_at: float = NOW,
    preset: str = "tiny",
    above: float = 0.0,
    seed: int = 7,
) -> tuple[LossPoint, ...]:
    """A falling curve up to `tokens`, whose steps took `took_s`; `above`: how much worse it is than the usual."""
    chance = random.Random(seed)
    total = tokens_total or tokens
    points = []
    for index in range(num_points):
        share = (index + 1) / num_points
        done = tokens * (index + 1) // num_points
        step = done // tokens_per_step
        points.append(
            LossPoint(
                tokens=step * tokens_per_step if tokens_total else done,
                loss=loss_at(done / total, preset) + above + chance.gauss(0, noise),
                step=step,
                at=ends_at - took_s * (1 - share),
            )
        )
    return tuple(points)


def series(
    name: str,
    middle: float,
    swing: float,
    gap: tuple[int, int] = (0, 0),
    *,
    most: float = math.inf,
    spell: Callable[[int], float] = lambda index: 0.0,
) -> Series:
    """A wavy sensor, with a gap; nothing it reads is above `most`; a `spell` is added bucket by bucket."""
    chance = random.Random(name)
    buckets = []
    for i in range(NUM_BUCKETS):
        wave = swing * math.sin(i / 9) * min(1, i / 40) + chance.gauss(0, swing / 9)
        mean = min(middle + wave - 2 * swing / (1 + i / 3) + spell(i), most)
        if not gap[0] <= i < gap[1]:
            buckets.append(Bucket(index=i, low=mean * 0.97, mean=mean, high=min(mean * 1.03, most)))
    return Series(
        name=name,
        num_buckets=NUM_BUCKETS,
        buckets=tuple(buckets),
        now=buckets[-1].mean,
        low=min(bucket.low for bucket in buckets),
        mean=sum(bucket.mean for bucket in buckets) / len(buckets),
        high=max(bucket.high for bucket in buckets),
    )


def unknown(name: str) -> Series:
    """A sensor that this machine does not have."""
    return Series(name=name, num_buckets=NUM_BUCKETS, buckets=(), now=None, low=None, mean=None, high=None)


def _hot_spell(index: int) -> float:
    return 24.0 * math.exp(-(((index - 88) / 5) ** 2))


def sensors(device: Device, is_resting: bool = False) -> dict[str, Series]:
    """What such a machine reads; `is_resting`: it has just been paused."""
    load = series("cpu_load_frac", 0.9, 0.06, most=1.0)
    if device.kind == "cpu":
        found = [load, series("machine_watts", 64.5, 9), series("cpu_watts", 41, 6)]
    else:
        gap = GAP_BUCKETS
        found = [
            load,
            series("gpu_celsius", 66, 6, gap, most=HOTTEST_CELSIUS, spell=_hot_spell),
            series("gpu_watts", 33.5, 3, gap, most=LIMIT_WATTS + 0.3),
            series("gpu_util_frac", 0.96, 0.02, most=1.0),
            series("gpu_memory_used_bytes", 3.42e9, 4e6, most=3.42e9),
            series("cpu_celsius", 71, 8),
            series("cpu_watts", 14, 2),
            series("machine_watts", 64.5, 9, gap),
        ]
    known = {shown.name: _rested(shown) if is_resting else shown for shown in found}
    names = (*known, *(name for name in _NAMES if name not in known))
    return {name: known.get(name) or unknown(name) for name in names}


_NAMES = (
    "gpu_celsius",
    "gpu_watts",
    "gpu_util_frac",
    "cpu_celsius",
    "cpu_watts",
    "cpu_load_frac",
    "machine_watts",
    "memory_used_bytes",
    "gpu_memory_used_bytes",
)


def _rested(shown: Series) -> Series:
    """A sensor whose last stretch is that of a machine at rest."""
    *before, last = shown.buckets
    rest = {"cpu_load_frac": 0.05, "machine_watts": 0.45, "cpu_watts": 0.2}.get(shown.name, 1.0)
    value = rest if shown.name == "cpu_load_frac" else last.mean * rest
    last = replace(last, low=value, mean=value, high=value)
    return replace(shown, buckets=(*before, last), now=value, low=min(shown.low or value, value))


def reading(read: dict[str, Series], device: Device, elapsed_s: float, at: float = NOW) -> SensorRow:
    """The newest of what the sensors read, with where it comes from."""
    is_gpu = device.kind == "cuda"
    memory = read["gpu_memory_used_bytes"].now
    return SensorRow(
        at=at,
        elapsed_s=elapsed_s,
        gpu_celsius=read["gpu_celsius"].now,
        gpu_watts=read["gpu_watts"].now,
        gpu_limit_watts=LIMIT_WATTS if is_gpu else None,
        gpu_util_frac=read["gpu_util_frac"].now,
        gpu_memory_used_bytes=None if memory is None else round(memory),
        gpu_memory_total_bytes=device.total_bytes if is_gpu else None,
        cpu_celsius=read["cpu_celsius"].now,
        cpu_watts=read["cpu_watts"].now,
        cpu_load_frac=read["cpu_load_frac"].now,
        machine_watts=read["machine_watts"].now,
        gpu_watts_source="nvml" if is_gpu else None,
        cpu_watts_source="estimate",
        machine_watts_source="partly measured" if is_gpu else "estimate",
    )
