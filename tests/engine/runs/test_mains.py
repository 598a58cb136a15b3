"""The power guard, on a real store with commands as the trainer would answer them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.records import CommandRow, EventRow, RunState, SensorRow
from engine.runs.mains import PowerGuard
from engine.runs.store import RunStore
from engine.settings import LimitSettings


class Rig:
    """A guard, and a trainer that does as it is told."""

    def __init__(self, path: Path, limit_frac: float = 0.2) -> None:
        self.store = RunStore(path)
        self.store.set_state(RunState.RUNNING)
        self.guard = PowerGuard(self.store, LimitSettings(min_battery_frac=limit_frac))
        self.now_s = 100.0
        self.slept_s = 0.0

    def second(self, charge_frac: float | None, is_on_ac: bool | None) -> None:
        self.now_s += 1.0
        row = SensorRow(at=0.0, battery_frac=charge_frac, is_on_ac=is_on_ac)
        self.guard.watch(row, self.now_s, self.slept_s)
        self.store.flush()
        for command in self.store.open_commands():
            if command.verb in ("pause", "resume"):
                self.store.set_state(RunState.PAUSED if command.verb == "pause" else RunState.RUNNING)
            self.store.acknowledge(command.id, "done")

    @property
    def is_paused(self) -> bool:
        state = self.store.state()
        return state is not None and state.state == "paused"

    @property
    def verbs(self) -> list[str]:
        return [row.verb for row in self.store.rows(CommandRow, "ORDER BY id")]

    @property
    def kinds(self) -> list[str]:
        return [row.kind for row in self.store.rows(EventRow)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "run.db")


def test_unplugged_it_saves_and_goes_on_until_the_battery_is_low_and_again_with_the_mains(rig: Rig) -> None:
    rig.second(0.9, True)
    rig.second(0.9, False)
    assert (rig.verbs, rig.kinds, rig.is_paused) == (["checkpoint"], ["on-battery"], False)
    for charge_frac in (0.5, 0.21, 0.05, 0.04):
        rig.second(charge_frac, False)
    assert rig.verbs == ["checkpoint", "checkpoint", "pause"]
    assert rig.is_paused
    rig.second(None, None)
    assert rig.is_paused  # a sensor that is gone is not the mains
    rig.second(0.04, True)
    assert not rig.is_paused
    assert rig.kinds == ["on-battery", "battery-low", "on-mains"]


def test_a_loose_plug_is_told_once_a_minute(rig: Rig) -> None:
    for _ in range(20):
        rig.second(0.9, True)
        rig.second(0.9, False)
    assert rig.kinds == ["on-battery"]
    assert rig.verbs == ["checkpoint"]


def test_an_unknown_charge_is_not_full_and_no_battery_is_no_matter(rig: Rig) -> None:
    rig.second(None, None)
    rig.second(None, True)
    assert rig.verbs == []
    rig.second(None, False)
    assert rig.is_paused
    rig.second(None, True)
    assert not rig.is_paused


def test_a_charger_too_weak_is_waited_for_until_there_is_a_reserve(rig: Rig) -> None:
    rig.second(0.05, True)  # plugged in with an empty battery: no reason to wait
    rig.second(0.22, True)
    assert not rig.is_paused
    rig.second(0.20, True)
    assert rig.is_paused
    rig.second(0.25, True)
    assert rig.is_paused
    rig.second(0.30, True)
    assert not rig.is_paused


def test_a_persons_pause_is_theirs_and_the_limit_may_be_none(rig: Rig, tmp_path: Path) -> None:
    rig.store.post_command("pause", "ana@home")
    rig.second(0.9, True)
    rig.second(0.1, False)
    rig.second(0.1, True)
    assert rig.is_paused
    assert rig.verbs == ["pause", "checkpoint"]
    free = Rig(tmp_path / "free.db", limit_frac=0.0)
    free.second(0.9, True)
    free.second(0.01, False)
    assert not free.is_paused
    assert "nothing pauses it" in free.store.rows(EventRow)[0].text


def test_a_sleep_is_told(rig: Rig) -> None:
    rig.slept_s = 5000.0
    rig.second(0.9, True)
    rig.slept_s += 600.0
    rig.second(0.9, True)
    assert rig.kinds == ["slept"]
    assert "10 min" in rig.store.rows(EventRow)[0].text
