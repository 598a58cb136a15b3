"""Heat and power, now and over the run, each with where the number comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msgspec import structs

from engine.records import RunSnapshot, Series
from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import (
    BAD,
    DOUBTFUL,
    ESTIMATE,
    FAINT,
    HEAT,
    MUTED,
    POWER,
    STRONG,
    TEXT,
    Line,
    length,
    ruled,
)
from tui.widgets.panel import Panel
from tui.widgets.trend import limited, trend

_ROOMY_HEIGHT = 8
"""Rows from which limits are drawn in."""
_HIGHEST_TREND = 8
_SHORT_SOURCES = {"partly measured": mark("partly")}
_MEASURED = {"nvml": mark("measured"), "counter": mark("from its counter")}
"""How a source of GPU power is told."""


@dataclass(frozen=True)
class Gauge:
    """One sensor as it is shown."""

    label: str
    series: Series | None
    unit: str
    source: str
    """Where it comes from; "no sensor" stands there where there is nothing."""
    least_span: float
    style: str
    is_over: bool = False
    """Whether the run is over: then there is no newest reading to show."""
    limit: float | None = None
    """What it is held against, in its unit; None: nothing."""


def gauges(snapshot: RunSnapshot) -> list[Gauge]:
    """What is worth showing of this run's machine, the most important first."""
    if snapshot.status.state.is_over:
        return [replace(gauge, is_over=True) for gauge in _gauges(snapshot)]
    return _gauges(snapshot)


def _gauges(snapshot: RunSnapshot) -> list[Gauge]:
    sensors = snapshot.sensors
    newest = snapshot.sensor
    machine_source = (newest.machine_watts_source if newest else None) or snapshot.cost.machine_source
    machine = Gauge(
        tr("machine"), sensors.get("machine_watts"), "W", machine_source or mark("unknown"), 10.0, POWER
    )
    gpu_source = newest.gpu_watts_source if newest else None
    cpu = Gauge("CPU", sensors.get("cpu_celsius"), "°C", mark("measured"), 10.0, HEAT)
    load = Gauge(
        tr("CPU load"), _scaled(sensors.get("cpu_load_frac"), 100.0), "%", mark("measured"), 20.0, POWER
    )
    if not any(_is_known(sensors.get(name)) for name in ("gpu_celsius", "gpu_watts")):
        ram = Gauge(
            "RAM", _scaled(sensors.get("memory_used_bytes"), 2**-30), "GiB", mark("measured"), 1.0, POWER
        )
        return [cpu, machine, load, *([ram] if _is_known(ram.series) else [])]
    limits, source = snapshot.limits, _MEASURED.get(gpu_source or "", "measured")
    total = newest.gpu_memory_total_bytes if newest else None
    more = [
        Gauge(
            "VRAM",
            _scaled(sensors.get("gpu_memory_used_bytes"), 2**-30),
            "GiB",
            mark("measured"),
            1.0,
            POWER,
            limit=None if total is None else total / 2**30,
        ),
        Gauge(
            tr("GPU load"), _scaled(sensors.get("gpu_util_frac"), 100.0), "%", mark("measured"), 20.0, POWER
        ),
    ]
    return [
        Gauge(
            "GPU",
            sensors.get("gpu_celsius"),
            "°C",
            mark("measured"),
            10.0,
            HEAT,
            limit=limits.max_gpu_celsius,
        ),
        Gauge("GPU", sensors.get("gpu_watts"), "W", source, 10.0, POWER, limit=limits.gpu_watts),
        machine,
        cpu,
        *(gauge for gauge in more if _is_known(gauge.series)),
    ]


def _is_known(series: Series | None) -> bool:
    return series is not None and bool(series.buckets)


def _scaled(series: Series | None, factor: float) -> Series | None:
    """A series in another unit."""
    if series is None:
        return None

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    buckets = tuple(
        structs.replace(b, low=b.low * factor, mean=b.mean * factor, high=b.high * factor)
        for b in series.buckets
    )
    return structs.replace(
        series,
        buckets=buckets,
        now=scaled(series.now),
        low=scaled(series.low),
        mean=scaled(series.mean),
        high=scaled(series.high),
    )


class SensorsPanel(Panel):
    """A gauge a pair of rows: its reading and range, and under it how it went."""

    HELP = (
        "Temperature and power: now, and mean and maximum of the time that the frame names; after the slash the limit, "
        "which is also drawn in where there is room. Of the GPU's temperature it is limits.max_gpu_celsius, of its "
        "power the driver's own. Measured comes from a sensor; an estimate is reckoned from load and rated power, and "
        "says so. Gaps in a line are times without a reading."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Heat and power"), id=id)
        self._gauges: list[Gauge] = []

    def show(self, shown: list[Gauge]) -> None:
        """Show other readings."""
        self._gauges = shown
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """As many gauges as there is room for, the rest of the height shared out to their trends."""
        shown: list[tuple[Gauge, int]] = []
        rows_left = height
        for gauge in self._gauges:
            # A limit is drawn into a trend of two rows and more.
            least = (2 if gauge.limit is not None and height >= _ROOMY_HEIGHT else 1) * _is_known(
                gauge.series
            )
            trend_height = min(least, rows_left - 1)
            if rows_left > 0:
                shown.append((gauge, trend_height))
                rows_left -= 1 + trend_height
        rows: list[Line] = []
        more = rows_left // max(1, sum(least > 0 for _, least in shown))
        for gauge, least in shown:
            rows.append(_reading(gauge, width))
            if gauge.series is not None and least:
                trend_height = min(_HIGHEST_TREND, least + more)
                limit = gauge.limit if trend_height > 1 else None
                drawn = trend(gauge.series, width, trend_height, gauge.least_span, limit)
                rows += limited(drawn, gauge.style, DOUBTFUL)
        return rows


def _reading(gauge: Gauge, width: int) -> Line:
    series = gauge.series
    if series is None or not series.buckets:
        return ruled(
            [(f"{gauge.label} ", MUTED), (f"{fmt.UNKNOWN} {gauge.unit}", STRONG)],
            [(tr("no sensor"), FAINT)],
            width,
        )
    source = fmt.clean(gauge.source)
    style = FAINT if source in ("measured", "battery") else ESTIMATE
    # That a figure is measured may be left out; that it is not, never.
    rights: list[Line] = [[(tr(source), style)], [(tr(_SHORT_SOURCES.get(source, source)), style)]]
    if source == "measured":
        rights[1] = []
    told = _told(gauge, series)
    fitting = (
        ruled(left, right, width)
        for left in told
        for right in rights
        if length(left) + length(right) + 1 <= width
    )
    return next(fitting, ruled(told[-1], rights[-1], width))


def _told(gauge: Gauge, series: Series) -> list[Line]:
    """Now, mean, maximum and limit, the longest way of telling them first."""
    digits = 1 if gauge.unit == "GiB" else 0

    def value(number: float | None) -> str:
        return fmt.UNKNOWN if number is None else fmt.number(number, digits)

    is_above = gauge.limit is not None and series.high is not None and series.high > gauge.limit
    limit = f"/{fmt.number(gauge.limit, digits)}" if gauge.limit is not None else ""
    now: Line = [(f"{gauge.label} ", MUTED)]
    if not gauge.is_over:
        now += [(value(series.now), STRONG), (f"{limit} {gauge.unit}", MUTED if limit else STRONG)]
    elif limit:
        now += [(tr("limit {limit} {unit} ", limit=limit[1:], unit=gauge.unit), MUTED)]
    unit = f" {gauge.unit}" if gauge.is_over and not limit else ""
    gap = "" if gauge.is_over else "  "
    mean: Line = [(gap + tr("mean "), MUTED), (value(series.mean), TEXT)]
    high: Line = [(tr("  max "), MUTED), (value(series.high) + unit, BAD if is_above else TEXT)]
    short: Line = [(gap + tr("avg "), MUTED), (value(series.mean), TEXT), (tr(" max "), MUTED), high[1]]
    return [[*now, *mean, *high], [*now, *short], now]
