"""A sensor's history, put together from the readings themselves and from the minutes they were reduced to."""

from __future__ import annotations

from typing import Any

from engine.records import Bucket, Series


def merged_series(name: str, num_buckets: int, parts: list[tuple[Any, ...]], now: float | None) -> Series:
    """Put parts (bucket, low, sum, high, count) together; a bucket may have two."""
    merged: dict[int, tuple[float, float, float, int]] = {}
    for index, low, total, high, number in parts:
        a, b, c, d = merged.get(index, (low, 0.0, high, 0))
        merged[index] = (min(a, low), b + total, max(c, high), d + number)
    buckets = tuple(
        Bucket(index=index, low=low, mean=total / number, high=high)
        for index, (low, total, high, number) in sorted(merged.items())
    )
    num_readings = sum(number for _, _, _, number in merged.values())
    return Series(
        name=name,
        num_buckets=num_buckets,
        buckets=buckets,
        now=now,
        low=min((bucket.low for bucket in buckets), default=None),
        mean=sum(total for _, total, _, _ in merged.values()) / num_readings if num_readings else None,
        high=max((bucket.high for bucket in buckets), default=None),
    )
