"""Battery and mains from /sys/class/power_supply.

Source: Linux Documentation/ABI/testing/sysfs-class-power; µWh, µAh, µW, µA and µV become SI here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.telemetry.sysfs import folders, read_int, read_text


class Battery(msgspec.Struct, frozen=True, kw_only=True):
    """The machine's batteries together, and its mains; None is unknown or absent."""

    fraction: float | None = None
    """0 to 1; None: no battery."""
    discharge_watts: float | None = None
    """What the batteries give; None while they do not discharge, or do not tell."""
    is_on_ac: bool | None = None
    """None: neither a battery nor a mains adapter shows itself (most desktops and servers)."""


def read_battery(root: Path = Path("/")) -> Battery:
    """The batteries and the mains now; a mouse's or a headset's battery does not count."""
    supplies = folders(root / "sys/class/power_supply", "*")
    batteries = [
        supply
        for supply in supplies
        if read_text(supply / "type") == "Battery" and read_text(supply / "scope") != "Device"
    ]
    adapters = [supply for supply in supplies if read_text(supply / "type") in ("Mains", "USB", "Wireless")]
    states = [read_text(battery / "status") for battery in batteries]
    is_discharging = "Discharging" in states
    online = [value for value in (read_int(adapter / "online") for adapter in adapters) if value is not None]
    is_on_ac: bool | None = any(online) if online else None
    if is_on_ac is None and batteries:
        is_on_ac = not is_discharging if any(states) else None
    watts = [
        _discharge_watts(battery)
        for battery, state in zip(batteries, states, strict=True)
        if state == "Discharging"
    ]
    known = [value for value in watts if value is not None]
    return Battery(
        fraction=_fraction(batteries),
        discharge_watts=sum(known) if known and len(known) == len(watts) else None,
        is_on_ac=is_on_ac,
    )


def _fraction(batteries: list[Path]) -> float | None:
    for unit in ("energy", "charge"):
        now = [read_int(battery / f"{unit}_now") for battery in batteries]
        full = [read_int(battery / f"{unit}_full") for battery in batteries]
        if batteries and None not in now and None not in full and sum(value or 0 for value in full) > 0:
            return min(1.0, sum(value or 0 for value in now) / sum(value or 0 for value in full))
    percent = [
        value for value in (read_int(battery / "capacity") for battery in batteries) if value is not None
    ]
    return sum(percent) / len(percent) / 100 if percent else None


def _discharge_watts(battery: Path) -> float | None:
    """A battery's power; 0 and unreadable both mean that it does not tell. Some drivers give it a minus."""
    microwatts = read_int(battery / "power_now")
    if microwatts:
        return abs(microwatts) / 1e6
    microamperes, microvolts = read_int(battery / "current_now"), read_int(battery / "voltage_now")
    if microamperes and microvolts:
        return abs(microamperes) * microvolts / 1e12
    return None
