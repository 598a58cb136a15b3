"""Checks of what can be measured here, and of how warm the GPU is before it does anything."""

from __future__ import annotations

from engine.preflight.context import Context, Verdict, failed, passed, skipped, warned
from engine.records import Figure


def check_sensors(context: Context) -> Verdict:
    """Each sensor by its name: measured, estimated or absent."""
    row = context.reading.row
    told = [
        f"GPU temperature {_celsius(row.gpu_celsius)}",
        f"GPU power {_watts(row.gpu_watts, row.gpu_watts_source)}",
        f"CPU temperature {_celsius(row.cpu_celsius)}",
        f"CPU power {_watts(row.cpu_watts, row.cpu_watts_source)}",
        f"machine power {_watts(row.machine_watts, row.machine_watts_source)}",
    ]
    evidence = "; ".join(told) + "."
    if row.machine_watts is None:
        return warned(evidence, "The machine's energy and cost will be unknown.")
    if row.machine_watts_source == "estimate":
        return warned(
            evidence, "Set energy.cpu_rated_watts and energy.rest_of_machine_watts to your machine's."
        )
    return passed(evidence)


def _celsius(value: float | None) -> str:
    return "absent" if value is None else f"measured, {value:.0f} °C"


def _watts(value: float | None, source: str | None) -> str:
    if value is None:
        return "absent"
    if source in ("estimate", "partly measured"):
        return f"{'estimated' if source == 'estimate' else source}, {value:.0f} W"
    return f"measured by {source or 'an unknown sensor'}, {value:.0f} W"


def check_temperature(context: Context) -> Verdict:
    """Whether the GPU starts cool."""
    if context.device.kind == "cpu":
        return skipped("Trains on the CPU, whose governor guards it.")
    celsius, limits = context.reading.row.gpu_celsius, context.settings.limits
    if celsius is None:
        return warned(
            "The GPU does not tell its temperature: nothing will guard it.", "Look that its fan is free."
        )
    wanted = limits.resume_gpu_celsius if limits.max_gpu_celsius else None
    figure = Figure(label="GPU", unit="celsius", now=celsius, needed=wanted)
    if wanted is not None and celsius >= wanted:
        return failed(
            f"The GPU is at {celsius:.0f} °C before it does anything, {wanted:g} °C is the most.",
            "Let it cool down; look that its fan is free.",
            figure,
        )
    return passed(f"The GPU is at {celsius:.0f} °C.", figure)
