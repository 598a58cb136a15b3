"""The records of what training costs, for the windows and the ledger alike: days, storage, here against the cloud."""

from __future__ import annotations

import msgspec

from engine.records import CloudQuote


class DayLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did on one day."""

    run_id: str
    day: str
    """ISO date, UTC."""
    hours: float
    """Hours with readings on that day."""
    tokens: int | None = None
    """Trained on during that day; None: no step ended on it."""
    loss: float | None = None
    """Of the day's last step."""
    gpu_energy_j: float | None = None
    machine_energy_j: float | None = None
    """Watts of the readings over time; the run's own figure may rest on a counter instead."""
    gpu_celsius_mean: float | None = None
    gpu_celsius_max: float | None = None
    cpu_celsius_max: float | None = None
    gpu_watts_mean: float | None = None
    gpu_watts_max: float | None = None
    machine_watts_mean: float | None = None
    machine_watts_max: float | None = None
    cost: float | None = None
    num_checkpoints: int = 0
    incidents: tuple[str, ...] = ()
    """Kinds of the day's warnings and errors, in order, each once."""


class BookedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What was used in one window of the tariff, as an entry of the ledger keeps it."""

    window: str
    """Its hours and days in words; "always" for a flat price, "else" for the price outside of all windows."""
    price_micro: int
    """Of a kilowatt-hour, in millionths of the currency's unit."""
    machine_j: float
    cost_micro: int


class CheckpointSize(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of the checkpoints."""

    name: str
    """Name of its folder."""
    num_bytes: int


class StorageBook(msgspec.Struct, frozen=True, kw_only=True):
    """What one run keeps on the disk."""

    corpus_bytes: int | None
    """UTF-8 bytes of the text it learns from; None before it was read."""
    shards_bytes: int | None
    """Token shards, which runs on the same text share; None before they were made."""
    checkpoints: tuple[CheckpointSize, ...]
    """Oldest first."""
    model_bytes: int
    """The finished model; 0 while there is none."""
    database_bytes: int
    """run.db with its log of writes."""
    other_bytes: int
    """Settings, tokenizer and log of the run."""
    forecast_bytes: int | None
    """What the run's own folder will hold at its end; None where that cannot be told yet."""
    peak_bytes: int | None
    """The most it will hold on the way: a checkpoint more, while one is written."""
    retention_bytes: int
    """What could be deleted now without losing the run."""
    retention_basis: str
    """Which files those are."""
    cloud_usd_per_month: float | None
    """What shards and run would cost a month in the cloud; None where no price is set."""
    cloud_basis: str

    @property
    def checkpoints_bytes(self) -> int:
        """All generations together."""
        return sum(checkpoint.num_bytes for checkpoint in self.checkpoints)

    @property
    def run_bytes(self) -> int:
        """Everything in the run's own folder."""
        return self.checkpoints_bytes + self.model_bytes + self.database_bytes + self.other_bytes


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """One cloud offer against this machine's electricity; None: unknown."""

    provider: str
    gpu: str
    kind: str
    currency: str
    local: float | None
    cloud: float | None
    """In `currency`."""
    is_local_cheaper: bool | None
    price_per_kwh: float | None
    """The tariff at which both cost the same: below it this machine is the cheaper one."""
    local_hours: float | None
    """Hours that this machine may take before its electricity costs as much as the offer."""
    cloud_hours: float | None
    """Hours that the offer may take before it costs as much as the electricity here."""
    hours: float | None = None
    """What the work takes with the offer."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is going: finish it here, or move the rest of it now."""

    run_id: str
    currency: str
    spent: float | None
    """Money that is gone either way; not part of the comparison, like the next two."""
    spent_hours: float | None
    spent_kwh: float | None
    rest_tokens: int
    rest_hours: float | None
    rest_kwh: float | None
    rest_cost: float | None
    """To finish here."""
    cloud: tuple[CloudQuote, ...]
    """The rest of the run elsewhere."""
    break_even: tuple[BreakEven, ...]
    basis: str


class EntryDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What is worked out of an entry of the ledger when a person looks at it."""

    storage: StorageBook | None
    """None where the run's folder is gone, or cannot be read."""
    break_even: tuple[BreakEven, ...]
    """What the run has done, in the cloud."""
