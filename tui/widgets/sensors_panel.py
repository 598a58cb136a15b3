"""Heat and power, now and over the run, each with where the number comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msgspec import structs

from engine.records import RunSnapshot, Series
from tui import format as fmt
from tui.widgets.lines import ESTIMATE, FAINT, HEAT, MUTED, POWER, STRONG, Line, length, ruled
from tui.widgets.panel import Panel
from tui.widgets.trend import trend

_MEASURED = {"nvml": "measured", "counter": "from its counter"}
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
    """Whether the run is over: then the mean stands where the newest reading does."""


def gauges(snapshot: RunSnapshot) -> list[Gauge]:
    """What is worth showing of this run's machine, the most important first."""
    if snapshot.status.state.is_over:
        return [replace(gauge, is_over=True) for gauge in _gauges(snapshot)]
    return _gauges(snapshot)


def _gauges(snapshot: RunSnapshot) -> list[Gauge]:
    sensors = snapshot.sensors
    newest = snapshot.sensor
    machine_source = (newest.machine_watts_source if newest else None) or snapshot.cost.machine_source
    machine = Gauge("machine", sensors.get("machine_watts"), "W", machine_source or "unknown", 10.0, POWER)
    gpu_source = newest.gpu_watts_source if newest else None
    cpu = Gauge("CPU", sensors.get("cpu_celsius"), "°C", "measured", 10.0, HEAT)
    load = Gauge("CPU load", _as_percent(sensors.get("cpu_load_frac")), "%", "measured", 20.0, POWER)
    if not any(_is_known(sensors.get(name)) for name in ("gpu_celsius", "gpu_watts")):
        return [cpu, machine, load]
    return [
        Gauge("GPU", sensors.get("gpu_celsius"), "°C", "measured", 10.0, HEAT),
        Gauge("GPU", sensors.get("gpu_watts"), "W", _MEASURED.get(gpu_source or "", "measured"), 10.0, POWER),
        machine,
        cpu,
    ]


def _is_known(series: Series | None) -> bool:
    return series is not None and bool(series.buckets)


def _as_percent(series: Series | None) -> Series | None:
    if series is None:
        return None

    def times_100(value: float | None) -> float | None:
        return None if value is None else value * 100

    buckets = tuple(
        structs.replace(b, low=b.low * 100, mean=b.mean * 100, high=b.high * 100) for b in series.buckets
    )
    return structs.replace(
        series,
        buckets=buckets,
        now=times_100(series.now),
        low=times_100(series.low),
        mean=times_100(series.mean),
        high=times_100(series.high),
    )


class SensorsPanel(Panel):
    """A gauge a pair of rows: its reading and range, and under it how it went."""

    HELP = (
        "Temperature and power, now and over the whole run. Measured comes from a sensor; an estimate is reckoned "
        "from load and rated power, and says so. Gaps in a line are times without a reading."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("Heat and power", id=id)
        self._gauges: list[Gauge] = []

    def show(self, shown: list[Gauge]) -> None:
        """Show other readings."""
        self._gauges = shown
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """As many gauges as there is room for, the rest of the height shared out to their trends."""
        shown, rows_left, num_trends = [], height, 0
        for gauge in self._gauges:
            needed = 2 if _is_known(gauge.series) and rows_left > 1 else 1
            if needed <= rows_left:
                shown.append(gauge)
                num_trends += needed - 1
                rows_left -= needed
        rows: list[Line] = []
        for gauge in shown:
            rows.append(_reading(gauge, width))
            if gauge.series is not None and gauge.series.buckets and len(rows) < height:
                trend_height = min(8, 1 + rows_left // num_trends)
                rows += [
                    [(row, gauge.style)] for row in trend(gauge.series, width, trend_height, gauge.least_span)
                ]
        return rows


def _reading(gauge: Gauge, width: int) -> Line:
    series = gauge.series
    if series is None or not series.buckets:
        return ruled(
            [(f"{gauge.label} ", MUTED), (f"{fmt.UNKNOWN} {gauge.unit}", STRONG)],
            [("no sensor", FAINT)],
            width,
        )
    left: Line = [(f"{gauge.label} ", MUTED)]
    if gauge.is_over:
        left += [("mean ", MUTED), (fmt.whole(series.mean, gauge.unit), STRONG)]
    else:
        left.append((fmt.whole(series.now, gauge.unit), STRONG))
    source = fmt.clean(gauge.source)
    if series.low is not None and series.high is not None:
        span = f"  {series.low:.0f} to {series.high:.0f}"
        if length(left) + len(span) + len(source) + 2 <= width:
            left.append((span, MUTED))
    return ruled(left, [(source, FAINT if source in ("measured", "battery") else ESTIMATE)], width)
