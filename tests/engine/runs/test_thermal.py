"""The thermal governor: on a real store with commands as the trainer would answer them, and through a whole run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Workspace
from engine.records import CommandRow, EventRow, RunState, SensorRow, StepRow
from engine.runs.store import RunStore
from engine.runs.thermal import WHO, ThermalGuard
from engine.settings import LimitSettings
from tests.conftest import wait_for
from tests.nvml_standin import Standin, build

LIMITS = LimitSettings(max_gpu_celsius=87.0, resume_gpu_celsius=70.0)


class Rig:
    """A governor, and a trainer that does as it is told."""

    def __init__(self, path: Path) -> None:
        self.store = RunStore(path)
        self.store.set_state(RunState.RUNNING)
        self.guard = ThermalGuard(self.store, LIMITS, segment=1, longest_s=5.0)
        self.now_s = 100.0
        self.step = 0

    def second(self, celsius: float | None, throttle: str = "", tokens_per_s: float = 1000.0) -> None:
        """A second of supervision, then the trainer's answer, and a step where it is not paused."""
        self.now_s += 1.0
        self.guard.watch(SensorRow(at=0.0, gpu_celsius=celsius, gpu_throttle=throttle), self.now_s)
        self.store.flush()
        for command in self.store.open_commands():
            if command.verb in ("pause", "resume"):
                self.store.set_state(RunState.PAUSED if command.verb == "pause" else RunState.RUNNING)
            self.store.acknowledge(command.id, "done")
        if not self.is_paused:
            self.step += 1
            self.store.put(step(self.step, tokens_per_s))

    @property
    def is_paused(self) -> bool:
        state = self.store.state()
        return state is not None and state.state == "paused"

    def verbs(self) -> list[str]:
        return [row.verb for row in self.store.rows(CommandRow, "ORDER BY id")]

    def kinds(self) -> list[str]:
        return [row.kind for row in self.store.rows(EventRow)]


def step(number: int, tokens_per_s: float) -> StepRow:
    return StepRow(
        step=number,
        at=0.0,
        tokens=number * 1000,
        loss=1.0,
        learning_rate=1e-3,
        tokens_per_s=tokens_per_s,
        micro_batch=1,
        grad_accum=1,
    )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "run.db")


def test_it_saves_and_pauses_at_the_limit_and_goes_on_when_cool(rig: Rig) -> None:
    for celsius in (60, 86, 87, 88, 80, 71, 70, 60):
        rig.second(float(celsius))
    assert rig.verbs() == ["checkpoint", "pause", "resume"]
    assert rig.kinds() == ["too-hot", "cooled-down"]
    assert not rig.is_paused


def test_a_missing_sensor_is_not_cool_and_that_is_told_once(rig: Rig) -> None:
    rig.second(90.0)
    for _ in range(200):
        rig.second(None)
    assert rig.is_paused
    assert rig.kinds().count("too-hot-blind") == 1
    rig.second(65.0)
    assert not rig.is_paused


def test_a_persons_pause_is_theirs(rig: Rig) -> None:
    rig.store.post_command("pause", "ana@home")
    rig.second(60.0)
    rig.second(90.0)
    rig.second(60.0)
    assert rig.is_paused
    assert rig.verbs() == ["pause"]


def test_a_person_who_pauses_while_it_cools_keeps_the_pause(rig: Rig) -> None:
    rig.second(90.0)
    rig.store.post_command("pause", "ana@home")
    rig.second(80.0)
    rig.second(60.0)
    assert rig.is_paused
    assert "resume" not in rig.verbs()


def test_a_pause_of_a_former_life_holds_nothing(rig: Rig) -> None:
    rig.store.post_command("pause", "ana@home")
    rig.second(60.0)
    rig.store.set_state(RunState.STOPPED)
    rig.store.set_state(RunState.RUNNING)
    rig.guard = ThermalGuard(rig.store, LIMITS, segment=2, longest_s=5.0)
    rig.second(90.0)
    assert rig.verbs() == ["pause", "checkpoint", "pause"]
    assert rig.is_paused
    rig.second(60.0)
    assert not rig.is_paused


def test_a_person_may_go_on_and_the_limit_still_holds(rig: Rig) -> None:
    rig.second(90.0)
    rig.store.post_command("resume", "ana@home")
    rig.second(80.0)
    assert not rig.is_paused
    rig.second(88.0)
    assert rig.is_paused


def test_another_life_of_the_supervisor_goes_on_with_the_pause_of_the_one_before(rig: Rig) -> None:
    rig.second(90.0)
    rig.guard = ThermalGuard(rig.store, LIMITS, segment=2, longest_s=5.0)
    rig.second(80.0)
    assert rig.is_paused
    rig.second(69.0)
    assert not rig.is_paused


def test_what_heat_costs_is_counted_in_seconds_and_tokens(rig: Rig) -> None:
    for _ in range(10):
        rig.second(80.0)
    for _ in range(20):
        rig.second(86.0, throttle="power limit, thermal slowdown", tokens_per_s=400.0)
    assert rig.guard.row.throttled_s == 20.0
    assert rig.guard.row.throttled_tokens == pytest.approx(20 * 600, rel=0.06)
    rig.second(90.0)
    for _ in range(30):
        rig.second(75.0)
    assert rig.guard.row.paused_s == 30.0
    assert rig.guard.row.paused_tokens == pytest.approx(30_000)
    assert rig.guard.row.throttled_s == 20.0


def test_a_board_at_its_power_limit_loses_nothing_and_a_gap_is_no_loss(rig: Rig) -> None:
    for _ in range(5):
        rig.second(80.0, throttle="power limit")
    rig.now_s += 3600.0
    rig.second(80.0, throttle="thermal slowdown")
    assert (rig.guard.row.throttled_s, rig.guard.row.paused_s) == (0.0, 0.0)


# --- through the whole program ------------------------------------------------------------------------------------


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """A GPU that the sensors see and torch does not."""
    driver = build(tmp_path, celsius=60, power_mw=20_000, counter_mj="err:3")
    for name, value in driver.env.items():
        monkeypatch.setenv(name, value)
    return driver


def test_a_hot_gpu_pauses_a_real_run_until_it_is_cool_and_its_watts_are_on_the_bill(
    make_workspace: Callable[..., Workspace], standin: Standin
) -> None:
    workspace = make_workspace(10**9)
    run_id = workspace.start()
    wait_for(lambda: (workspace.status(run_id).step or 0) >= 3, what="three steps")
    status = workspace.status(run_id)
    assert (status.gpu_celsius, status.gpu_watts) == (60.0, 20.0)
    standin.set(celsius=88)
    wait_for(lambda: workspace.status(run_id).state is RunState.PAUSED, 20, "the pause")
    paused_at = workspace.status(run_id).step
    snapshot = workspace.snapshot(run_id)
    assert snapshot.checkpoint is not None
    assert snapshot.checkpoint.step <= (paused_at or 0)
    standin.set(celsius="err:3")
    wait_for(lambda: workspace.status(run_id).gpu_celsius is None, 30, "the sensor to be gone")
    assert workspace.status(run_id).state is RunState.PAUSED
    standin.set(celsius=65)
    wait_for(lambda: (workspace.status(run_id).step or 0) > (paused_at or 0), 20, "a step after the pause")
    thermal = workspace.snapshot(run_id).thermal
    assert thermal is not None
    assert thermal.paused_s > 0.3
    assert (thermal.paused_tokens or 0) > 0
    workspace.command(run_id, "stop")
    status = workspace.status(run_id)
    assert status.gpu_energy_j == pytest.approx(20.0 * (status.elapsed_s or 0), rel=0.15)
    verbs = [
        (row.verb, row.who) for row in workspace.folder_of(run_id).open().rows(CommandRow, "ORDER BY id")
    ]
    assert verbs[:3] == [("checkpoint", WHO), ("pause", WHO), ("resume", WHO)]
    (entry,) = workspace.ledger()
    assert (entry.gpu_energy_j, entry.gpu_celsius_max) == (pytest.approx(status.gpu_energy_j, rel=0.05), 88.0)


def test_a_driver_that_crashes_or_hangs_stops_neither_training_nor_keys_nor_other_sensors(
    make_workspace: Callable[..., Workspace], standin: Standin
) -> None:
    workspace = make_workspace(10**9)
    run_id = workspace.start()
    wait_for(lambda: (workspace.status(run_id).step or 0) >= 3, what="three steps")
    before = workspace.status(run_id)
    for fault in ({"crash": "segv"}, {"crash": None, "hang_s": 1000}):
        standin.set(**fault)
        wait_for(lambda: workspace.status(run_id).gpu_watts is None, 20, f"unknown watts after {fault}")
        step_now, joules = workspace.status(run_id).step or 0, workspace.snapshot(run_id).sensor
        wait_for(lambda now=step_now: (workspace.status(run_id).step or 0) > now + 5, 20, "steps")
        assert workspace.command(run_id, "checkpoint", timeout_s=10).is_done
        newest = workspace.snapshot(run_id).sensor
        assert newest is not None and joules is not None
        assert newest.cpu_load_frac is not None
        assert newest.elapsed_s > joules.elapsed_s
    after = workspace.status(run_id)
    assert (after.supervisor_pid, after.trainer_pid) == (before.supervisor_pid, before.trainer_pid)
    assert after.restarts == 0
    workspace.command(run_id, "stop")
