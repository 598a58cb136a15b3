"""The supervisor's eye: sensors and energy once a second into the store, and the limits that act.

A command that a limit gives goes the same way as one that a person gives, so that the history shows who did what.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import msgspec

from engine.errors import DamagedStoreError, StoreError
from engine.ledger.cost import total_energy
from engine.ledger.energy import EnergyMeter
from engine.ledger.limits import LimitGuard, Standing
from engine.ledger.tariff import TariffMeter, cost_so_far
from engine.records import EnergyRow, HeartbeatRow, LogMarkRow, SensorRow, TariffRow, ThermalRow
from engine.runs.books import Scribe
from engine.runs.events import event as event
from engine.runs.folder import RunFolder
from engine.runs.mains import PowerGuard
from engine.runs.store import RunStore
from engine.runs.thermal import ThermalGuard
from engine.settings import Settings
from engine.sqlite import BusyError, log_bytes
from engine.telemetry.host import disk_free_bytes
from engine.telemetry.sampler import Sampler

MAX_UNREADABLE_S = 30.0
"""A run whose store cannot be read for longer has no guard any more: the watch ends, and the run with it."""
LARGE_LOG_BYTES, MOST_LOG_BYTES = 64 << 20, 256 << 20
"""From when a store's log that cannot be folded in is told of, and is no longer put up with."""
MIND_LOG_EVERY_S = 60.0
MARK_EVERY_S = 5.0
"""How often at most the length of the log is noted."""


class Watch:
    """Reads the sensors on its own beat, whatever the trainer does."""

    def __init__(self, store: RunStore, settings: Settings, folder: Path, pid: int) -> None:
        self._store = store
        self._settings = settings
        self._folder = folder
        self._pid = pid
        self.phase = "starting"
        """What the run is doing, for the heartbeat."""
        self.guards = False
        """Whether the limits act: while a trainer is at work."""
        self._former = store.rows(EnergyRow)
        newest = store.newest(SensorRow, "elapsed_s")
        self._former_s = newest.elapsed_s if newest else 0.0
        self._began_s = time.monotonic()
        self._minute = -1
        # One more than any that is left: of a store that was made anew some may be lost.
        kept = [
            row.segment
            for rows in (self._former, store.rows(TariffRow), store.rows(ThermalRow))
            for row in rows
        ]
        segment, interval_s = 1 + max(kept, default=0), settings.telemetry.interval_s
        self._meter = EnergyMeter(segment, interval_s=interval_s)
        self._sampler = Sampler(settings.energy, interval_s=settings.telemetry.interval_s)
        self._thermal = ThermalGuard(store, settings.limits, segment, longest_s=max(5.0, 5 * interval_s))
        self._power = PowerGuard(store, settings.limits)
        self._has_asked_to_stop = False
        self._tariff = TariffMeter(settings.energy, store.rows(TariffRow), segment)
        self._limits = LimitGuard(settings.limits, settings.energy.currency)
        self._has_told_of_log, self._minded_s = False, time.monotonic()
        self._marked_bytes = 0
        self._marked_s = float("-inf")
        self._scribe = Scribe(RunFolder(folder), lambda text: store.tell(event("warning", "books", text)))

    async def run(self) -> None:
        """Sample until cancelled; the last reading is written on the way out."""
        interval_s = self._settings.telemetry.interval_s
        next_at = time.monotonic()
        unreadable_since_s: float | None = None
        try:
            while True:
                # Rows that could not be written wait in the queue; a limit that could not act does so at the next beat.
                try:
                    with contextlib.suppress(BusyError):
                        self.sample()
                    unreadable_since_s = None
                    if damage := self._store.damage:
                        raise DamagedStoreError(damage)
                except DamagedStoreError:
                    raise
                except StoreError:
                    unreadable_since_s = unreadable_since_s or time.monotonic()
                    if time.monotonic() - unreadable_since_s > MAX_UNREADABLE_S:
                        raise
                next_at = max(next_at + interval_s, time.monotonic())
                await asyncio.sleep(next_at - time.monotonic())
        finally:
            with contextlib.suppress(BusyError, StoreError):
                self.sample()
            self._sampler.close()
            self._scribe.close()

    def sample(self) -> None:
        """One reading of everything: sensors, energy so far, a heartbeat, and the limits."""
        reading = self._sampler.read()
        self._meter.add(reading)
        elapsed_s = self._former_s + time.monotonic() - self._began_s
        energy = self._meter.row(reading.at)
        self._store.queue(
            msgspec.structs.replace(reading.row, elapsed_s=elapsed_s),
            energy,
            *self._tariff.add(energy),
            HeartbeatRow(role="supervisor", pid=self._pid, at=time.time(), phase=self.phase),
        )
        self._mark_log(reading.at)
        for fault in self._meter.faults():
            self._store.queue(event("warning", "sensor-fault", fault))
        if not self._store.flush():
            return
        if elapsed_s // 60 > self._minute:
            self._minute = int(elapsed_s // 60)
            self._store.roll_up()
        self._mind_log()
        if self.guards:
            self._thermal.watch(reading.row, reading.monotonic_s)
            self._power.watch(reading.row, reading.monotonic_s, reading.suspended_s)
            self._guard_budget(reading.at)
        else:
            self._thermal.rest()
        self._scribe.look(self._store.newest_checkpoint())

    def _mind_log(self) -> None:
        """Whoever reads on and on lets the store's log grow: that is told, and ended before it fills the disk.

        Raises: DamagedStoreError where the store has to be made anew for it.
        """
        if time.monotonic() - self._minded_s < MIND_LOG_EVERY_S:
            return
        self._minded_s = time.monotonic()
        num_bytes = log_bytes(self._store.path)
        if num_bytes > MOST_LOG_BYTES:
            raise DamagedStoreError(
                f"a program held it open, so that its log grew to {num_bytes >> 20:,} MiB"
            )
        if num_bytes > LARGE_LOG_BYTES and not self._has_told_of_log:
            self._has_told_of_log = True
            text = (
                f"run.db-wal has grown to {num_bytes >> 20:,} MiB, because a program holds run.db open for reading, "
                "perhaps one that was stopped with Ctrl-Z: end it, or run.db is made anew."
            )
            self._store.tell(event("warning", "store-held", text))

    def _mark_log(self, at: float) -> None:
        """Note how long the log is, where it has grown."""
        now_s = time.monotonic()
        try:
            num_bytes = RunFolder(self._folder).log_path.stat().st_size
        except OSError:  # then its lines have no time
            return
        if num_bytes != self._marked_bytes and now_s - self._marked_s >= MARK_EVERY_S:
            self._marked_bytes, self._marked_s = num_bytes, now_s
            self._store.queue(LogMarkRow(offset=num_bytes, at=at))

    def _guard_budget(self, at: float) -> None:
        if self._has_asked_to_stop:
            return
        standing = self._standing(at)
        for warning in self._limits.warnings(standing):
            self._store.put(event("warning", "limit-near", warning))
        reason = self._limits.reached(standing)
        if reason:
            self._has_asked_to_stop = True
            self._store.put(event("warning", "limit", reason))
            self._store.post_command("stop", f"supervisor: {reason}")

    def _standing(self, at: float) -> Standing:
        """How the run stands to its limits, over all lives of its supervisor."""
        rows = [*self._former, self._meter.row(at)]
        return Standing(
            hours=sum(row.elapsed_s for row in rows) / 3600,
            cost=cost_so_far(total_energy(rows).machine_j, self._tariff.rows, self._settings.energy),
            free_bytes=disk_free_bytes(self._folder),
        )
