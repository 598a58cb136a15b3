"""Heat and power, now and over the run, each with where the number comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msgspec import structs

from engine.records import RunSnapshot, Series
from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.lines import DOUBTFUL, FAINT, HEAT, POWER, Line
from tui.widgets.panel import Panel
from tui.widgets.readings import Reading, digits_of, readings
from tui.widgets.trend import limited, trend

_ROOMY_HEIGHT = 8
"""Rows from which limits are drawn in."""
_HIGHEST_TREND = 12
_COLD_CELSIUS, _HOT_CELSIUS = 30.0, 100.0
"""Between these a temperature is drawn that is held against nothing."""
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
    style: str
    is_over: bool = False
    """Whether the run is over: then there is no newest reading to show."""
    limit: float | None = None
    """What it is held against, in its unit; None: nothing."""
    low: float = 0.0
    """The lower end of its scale."""
    high: float = 0.0
    """The upper end of its scale, where nothing was read that is higher."""

    @property
    def is_known(self) -> bool:
        """Whether it was ever read."""
        return _is_known(self.series)

    @property
    def ends(self) -> tuple[float, float]:
        """The scale it is drawn on: its own, or as far as it was read."""
        series = self.series
        read = [end for end in (series.low, series.high) if end is not None] if series else []
        return min([self.low, *read]), max([self.limit or 0.0, self.high, *read])


def gauges(snapshot: RunSnapshot) -> list[Gauge]:
    """What is worth showing of this run's machine, the most important first, what was never read last."""
    found = sorted(_gauges(snapshot), key=lambda gauge: not gauge.is_known)
    if snapshot.status.state.is_over:
        return [replace(gauge, is_over=True) for gauge in found]
    return found


def _gauges(snapshot: RunSnapshot) -> list[Gauge]:
    sensors = snapshot.sensors
    newest = snapshot.sensor
    measured = mark("measured")
    machine_source = (newest.machine_watts_source if newest else None) or snapshot.cost.machine_source
    machine = Gauge(
        tr("machine"), sensors.get("machine_watts"), "W", machine_source or mark("unknown"), POWER
    )
    gpu_source = newest.gpu_watts_source if newest else None
    cpu = Gauge("CPU", sensors.get("cpu_celsius"), "°C", measured, HEAT, low=_COLD_CELSIUS, high=_HOT_CELSIUS)
    load = Gauge(
        tr("CPU load"), _scaled(sensors.get("cpu_load_frac"), 100.0), "%", measured, POWER, high=100.0
    )
    if not any(_is_known(sensors.get(name)) for name in ("gpu_celsius", "gpu_watts")):
        memory = _scaled(sensors.get("memory_used_bytes"), 2**-30)
        ram = Gauge("RAM", memory, "GiB", measured, POWER, high=_ram_gib(snapshot))
        return [cpu, machine, load, *([ram] if ram.is_known else [])]
    limits, source = snapshot.limits, _MEASURED.get(gpu_source or "", "measured")
    total = newest.gpu_memory_total_bytes if newest else None
    vram = _scaled(sensors.get("gpu_memory_used_bytes"), 2**-30)
    hot = limits.max_gpu_celsius
    more = [
        Gauge("VRAM", vram, "GiB", measured, POWER, limit=None if total is None else total / 2**30),
        Gauge(tr("GPU load"), _scaled(sensors.get("gpu_util_frac"), 100.0), "%", measured, POWER, high=100.0),
    ]
    return [
        Gauge(
            "GPU",
            sensors.get("gpu_celsius"),
            "°C",
            measured,
            HEAT,
            limit=hot,
            low=_COLD_CELSIUS,
            high=_HOT_CELSIUS if hot is None else 0.0,
        ),
        Gauge("GPU", sensors.get("gpu_watts"), "W", source, POWER, limit=limits.gpu_watts),
        machine,
        cpu,
        *(gauge for gauge in more if gauge.is_known),
    ]


def _ram_gib(snapshot: RunSnapshot) -> float:
    """All memory of a machine that trains on its CPU; 0 where it is not known."""
    device = snapshot.plan.device
    return (device.total_bytes or 0) / 2**30 if device.kind == "cpu" else 0.0


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
        """As many gauges as there is room for, the rest of the height shared out to their trends, the first first."""
        shown: list[Gauge] = []
        heights: list[int] = []
        rows_left = height
        for gauge in self._gauges:
            # A limit is drawn into a trend of two rows and more.
            least = (2 if gauge.limit is not None and height >= _ROOMY_HEIGHT else 1) * gauge.is_known
            if rows_left > 0:
                shown.append(gauge)
                heights.append(min(least, rows_left - 1))
                rows_left -= 1 + heights[-1]
        while rows_left and any(0 < rows < _HIGHEST_TREND for rows in heights):
            for index, rows in enumerate(heights):
                if rows_left and 0 < rows < _HIGHEST_TREND:
                    heights[index] += 1
                    rows_left -= 1
        told = readings([_reading(gauge) for gauge in shown], width)
        gutter = max((len(end) for gauge in shown for end in _ends_told(gauge)), default=0) + 1
        gutter = gutter if max(heights, default=0) > 1 else 0
        lines: list[Line] = []
        for gauge, line, rows in zip(shown, told, heights, strict=True):
            lines += [line, *(_trend(gauge, width, rows, gutter) if rows else [])]
        return lines


def _trend(gauge: Gauge, width: int, num_rows: int, gutter: int) -> list[Line]:
    """How it went, with the ends of its scale behind it where that has rows of its own."""
    assert gauge.series is not None
    limit = gauge.limit if num_rows > 1 else None
    drawn = limited(trend(gauge.series, width - gutter, num_rows, *gauge.ends, limit), gauge.style, DOUBTFUL)
    if num_rows > 1:
        low, high = _ends_told(gauge)
        drawn[0] = [*drawn[0], (high.rjust(gutter), FAINT)]
        drawn[-1] = [*drawn[-1], (low.rjust(gutter), FAINT)]
    return drawn


def _ends_told(gauge: Gauge) -> tuple[str, str]:
    low, high = (fmt.number(end, digits_of(gauge.unit) if end else 0) for end in gauge.ends)
    return low, high


def _reading(gauge: Gauge) -> Reading:
    series = gauge.series if gauge.is_known else None
    return Reading(
        label=gauge.label,
        unit=gauge.unit,
        source=fmt.clean(gauge.source) if series else mark("no sensor"),
        now=series.now if series else None,
        mean=series.mean if series else None,
        high=series.high if series else None,
        limit=gauge.limit,
        is_known=series is not None,
        is_over=gauge.is_over,
    )
