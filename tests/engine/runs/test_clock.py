"""A wall clock that is set, two hours on and a day back, while a real run goes on."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Workspace
from engine.clock import Moment, boot_id
from engine.records import EventRow, HeartbeatRow, RunState, SensorRow, StepRow
from engine.runs import folder as folders
from engine.runs.store import RunStore
from tests.conftest import wait_for

SHIFT = """
import os, time
_real = time.time
def _shifted():
    try:
        with open(os.environ["LLM_TUI_TEST_CLOCK"]) as file:
            return _real() + float(file.read() or 0)
    except OSError:
        return _real()
time.time = _shifted
"""
TWO_HOURS_S = 7200.0
DAY_S = 86_400.0


class Clock:
    """The wall clock of every process that is started from here on, and of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = folder / "clock.txt"
        self._patch = monkeypatch
        self._real = time.time
        (folder / "sitecustomize.py").write_text(SHIFT)
        before = os.environ.get("PYTHONPATH")
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{before}" if before else str(folder))
        monkeypatch.setenv("LLM_TUI_TEST_CLOCK", str(self._file))
        self.set(0.0)

    def set(self, offset_s: float) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(str(offset_s))
        aside.replace(self._file)
        self._patch.setattr(time, "time", lambda: self._real() + offset_s)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    folder = tmp_path / "site"
    folder.mkdir()
    return Clock(folder, monkeypatch)


def test_the_clock_of_other_processes_can_be_set(clock: Clock) -> None:
    clock.set(TWO_HOURS_S)
    code = [sys.executable, "-P", "-c", "import time; print(time.time())"]
    told = float(subprocess.run(code, capture_output=True, text=True, check=True).stdout)
    assert told == pytest.approx(time.time(), abs=10)
    assert told > clock._real() + TWO_HOURS_S - 10


def test_a_clock_that_is_set_changes_no_duration_energy_order_or_eta(
    make_workspace: Callable[..., Workspace], clock: Clock
) -> None:
    workspace = make_workspace(10**9)
    began_s = time.monotonic()
    run_id = workspace.start()
    wait_for(lambda: (workspace.status(run_id).step or 0) >= 3, what="three steps")
    for offset_s in (TWO_HOURS_S, -DAY_S):
        before = workspace.status(run_id)
        clock.set(offset_s)
        assert not workspace.snapshot(run_id).is_stale
        first = before.step or 0
        wait_for(lambda first=first: (workspace.status(run_id).step or 0) > first + 8, what="more steps")
        snapshot = workspace.snapshot(run_id)
        assert snapshot.status.state is RunState.RUNNING
        assert not snapshot.is_stale
        assert (snapshot.silent_s or 0.0) < 10
        lived_s = time.monotonic() - began_s
        assert 0.0 < (snapshot.status.elapsed_s or 0.0) <= lived_s
        assert (snapshot.status.elapsed_s or 0.0) > (before.elapsed_s or 0.0)
        watts = (snapshot.status.machine_energy_j or 0.0) / (snapshot.status.elapsed_s or 1.0)
        assert 10 < watts < 200
        rate = snapshot.status.tokens_per_second or 0.0
        left = snapshot.status.tokens_total - (snapshot.status.tokens or 0)
        assert snapshot.status.eta_s == pytest.approx(left / rate)
    assert workspace.command(run_id, "checkpoint").is_done
    workspace.command(run_id, "stop")
    store = workspace.folder_of(run_id).open()
    sensors = store.rows(SensorRow, "ORDER BY rowid")
    assert max(row.at for row in sensors) - min(row.at for row in sensors) > 0.9 * DAY_S
    axis = [row.elapsed_s for row in sensors]
    assert axis == sorted(axis)
    assert max(b - a for a, b in itertools.pairwise(axis)) < 10
    kinds = [row.kind for row in store.rows(EventRow, "ORDER BY rowid")]
    assert kinds.index("preflight-clear") < kinds.index("run-stopped") == len(kinds) - 1
    steps = store.rows(StepRow, "ORDER BY step")
    assert max(row.tokens_per_s for row in steps) < 100 * min(row.tokens_per_s for row in steps)
    (entry,) = workspace.ledger()
    assert entry.elapsed_s < time.monotonic() - began_s


def test_a_sign_of_life_ages_by_the_clock_that_nobody_sets(tmp_path: Path, clock: Clock) -> None:
    store = RunStore(tmp_path / "run.db")
    store.put(HeartbeatRow(role="supervisor", pid=1, at=time.time(), phase="training"))
    for offset_s in (TWO_HOURS_S, -TWO_HOURS_S):
        clock.set(offset_s)
        beat = store.heartbeat("supervisor")
        assert beat is not None
        assert beat.age_s < (5.0 if boot_id() else TWO_HOURS_S + 5.0)


def test_across_machines_and_boots_the_wall_clock_stands_in() -> None:
    assert Moment(time.time() - 60, time.monotonic(), "another boot").age_s == pytest.approx(60, abs=5)
    assert Moment(time.time() - 60).age_s == pytest.approx(60, abs=5)
    assert Moment(time.time() + 60).age_s == 0.0


def test_the_newest_run_is_the_one_made_last_whatever_the_clock_said(
    make_workspace: Callable[..., Workspace], clock: Clock
) -> None:
    workspace = make_workspace()
    settings, plan = workspace.plan()
    made = [folders.create(workspace.folder, settings, plan, {}, "test") for _ in range(2)]
    future = time.time_ns() + int(TWO_HOURS_S * 1e9)
    made[1].settings_path.touch()
    os.utime(made[1].settings_path, ns=(future, future))
    made.append(folders.create(workspace.folder, settings, plan, {}, "test"))
    assert [folder.id for folder in folders.all_runs(workspace.folder)][:2] == [made[2].id, made[1].id]
    assert workspace.find() == made[2].id
