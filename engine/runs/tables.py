"""What tables a run's store has, and how finely its readings are kept."""

from __future__ import annotations

import msgspec

from engine.records import (
    AcknowledgementRow,
    AttemptRow,
    CheckpointRow,
    CommandRow,
    EnergyRow,
    EvaluationRow,
    EventRow,
    FurtherSampleRow,
    HeartbeatRow,
    LogMarkRow,
    MinuteRow,
    ProgressRow,
    RampRow,
    SensorRow,
    StateRow,
    StepRow,
    TariffRow,
    TextSampleRow,
    ThermalRow,
)
from engine.sqlite import Table

CHARTED_SENSORS = (
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
"""Fields of `SensorRow` that have a history on screen."""
READING_PER_UNIT = {
    "at": 1000,
    "elapsed_s": 1000,
    "gpu_celsius": 10,
    "gpu_watts": 100,
    "gpu_limit_watts": 10,
    "gpu_util_frac": 1000,
    "gpu_memory_used_bytes": 2.0**-20,
    "gpu_memory_total_bytes": 2.0**-20,
    "cpu_celsius": 10,
    "cpu_watts": 100,
    "cpu_load_frac": 1000,
    "machine_watts": 100,
    "memory_used_bytes": 2.0**-20,
    "battery_frac": 1000,
    "gpu_clock_mhz": 1,
    "gpu_fan_frac": 100,
}
"""How finely a reading is kept: no coarser than its sensor tells, so that a week at 1 Hz takes some 40 MB."""
_READING_WORDS = frozenset(("gpu_watts_source", "cpu_watts_source", "machine_watts_source", "gpu_throttle"))


class MetaRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about the run, as JSON."""

    key: str
    value: str


TABLES = (
    Table("meta", MetaRow, "key"),
    Table("state", StateRow),
    Table("heartbeat", HeartbeatRow, "role"),
    Table("progress", ProgressRow, "kind"),
    Table("ramp", RampRow, "number"),
    Table("attempt", AttemptRow, "attempt"),
    Table("step", StepRow, "step"),
    Table("evaluation", EvaluationRow, "step"),
    Table("text_sample", TextSampleRow, "step"),
    Table("further_sample", FurtherSampleRow, "key"),
    Table("checkpoint", CheckpointRow, "step"),
    Table("event", EventRow),
    Table("log_mark", LogMarkRow, "offset"),
    Table("reading", SensorRow, "elapsed_s", READING_PER_UNIT, _READING_WORDS),
    Table("reading_minute", MinuteRow, "key"),
    Table("energy", EnergyRow, "segment"),
    Table("tariff", TariffRow, "key"),
    Table("thermal", ThermalRow, "segment"),
    Table("command", CommandRow, "id"),
    Table("acknowledgement", AcknowledgementRow, "command_id"),
)
