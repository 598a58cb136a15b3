"""The power guard: saves and warns when the mains go, pauses before the battery is empty, goes on with the mains.

A battery whose charge is unknown may be empty soon. A charger too weak for the load drains the battery at the mains:
then the run waits until there is a reserve again. A machine that shows neither battery nor mains is let be.
"""

from __future__ import annotations

from engine.records import SensorRow
from engine.runs.events import event
from engine.runs.hold import Hold
from engine.runs.store import RunStore
from engine.settings import LimitSettings

WHO = "supervisor: battery"
"""Who gives the guard's commands."""
TELL_EVERY_S = 60.0
"""A plug that is loose is told, and saved for, so often at most."""
SLEPT_S = 5.0
"""A suspend that is longer is told."""
RESERVE_FRAC = 0.1
"""How much more than the limit the battery must hold before a run goes on that paused at the mains."""

_FALL_FRAC = 0.01
"""A charge that falls by so much at the mains is no jitter of its gauge."""


class PowerGuard:
    """Watches mains and battery while a trainer is at work."""

    def __init__(self, store: RunStore, limits: LimitSettings) -> None:
        self._store = store
        self._limit_frac = limits.min_battery_frac
        self._hold = Hold(store, WHO)
        self._was_on_ac: bool | None = None
        self._most_frac: float | None = None
        self._needed_frac = 0.0
        self._told_s = float("-inf")
        self._suspended_s: float | None = None

    def watch(self, row: SensorRow, now_s: float, suspended_s: float) -> None:
        """Take a reading at a monotonic instant; what it changes is put in the store's queue.

        `suspended_s` are the seconds that the machine slept since it booted.
        """
        self._tell_sleep(suspended_s)
        if row.is_on_ac is None:
            return
        if self._was_on_ac and not row.is_on_ac:
            self._tell_unplugged(row, now_s)
        if row.is_on_ac != self._was_on_ac:
            self._most_frac = row.battery_frac
        self._was_on_ac = row.is_on_ac
        if self._limit_frac and self._is_low(row):
            self._save_and_wait(row, now_s)
        elif self._hold.is_on and row.is_on_ac and (row.battery_frac or 1.0) >= self._needed_frac:
            self._go_on(row)

    def _is_low(self, row: SensorRow) -> bool:
        if row.battery_frac is None:
            return not row.is_on_ac
        self._most_frac = max(self._most_frac or 0.0, row.battery_frac)
        is_falling = not row.is_on_ac or self._most_frac - row.battery_frac >= _FALL_FRAC
        return is_falling and row.battery_frac <= self._limit_frac

    def _tell_unplugged(self, row: SensorRow, now_s: float) -> None:
        if now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now_s
        when = f"it pauses at {self._limit_frac:.0%}" if self._limit_frac else "nothing pauses it"
        text = f"The mains are gone: on battery{_charge(row)}. The run is saved and goes on; {when}."
        self._store.queue(event("warning", "on-battery", text, battery_frac=row.battery_frac))
        self._store.post_command("checkpoint", WHO)

    def _save_and_wait(self, row: SensorRow, now_s: float) -> None:
        if not self._hold.take(now_s):
            return
        self._needed_frac = round(self._limit_frac + RESERVE_FRAC, 3) if row.is_on_ac else 0.0
        until = f"its charge is {self._needed_frac:.0%}" if row.is_on_ac else "the mains are back"
        where = "The charger is too weak for this load" if row.is_on_ac else "On battery"
        text = f"{where}{_charge(row)}: saved and paused until {until}."
        self._store.queue(event("warning", "battery-low", text, battery_frac=row.battery_frac))
        self._hold.ask()

    def _go_on(self, row: SensorRow) -> None:
        is_ours = self._hold.let_go()
        what = "going on" if is_ours else "someone else's pause stays"
        text = f"The mains are there{_charge(row)}: {what}."
        self._store.queue(event("info", "on-mains", text, battery_frac=row.battery_frac))
        if is_ours:
            self._hold.resume()

    def _tell_sleep(self, suspended_s: float) -> None:
        before_s, self._suspended_s = self._suspended_s, suspended_s
        if before_s is not None and suspended_s - before_s > SLEPT_S:
            slept_s = suspended_s - before_s
            text = f"The machine slept for {slept_s / 60:.0f} min: the run stood still, and goes on."
            self._store.queue(event("warning", "slept", text, slept_s=slept_s))


def _charge(row: SensorRow) -> str:
    return ", its charge unknown" if row.battery_frac is None else f" at {row.battery_frac:.0%}"
