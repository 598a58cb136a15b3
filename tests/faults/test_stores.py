"""`run.db` and `ledger.db` locked, full, damaged, deleted, held: the training goes on, and what was lost is said."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine import Workspace
from engine.errors import DamagedStoreError, StoreError
from engine.records import CheckpointRow, EnergyRow, RunState, StepRow, TariffRow
from engine.runs import watch
from engine.runs.books import enter
from engine.runs.events import event
from engine.runs.folder import RunFolder, create
from engine.runs.mend import find_damage, mend
from engine.runs.store import RunStore
from engine.settings import EnergySettings, Settings, TariffWindow
from engine.sqlite import Database
from tests.conftest import wait_for
from tests.engine.train.conftest import make_plan
from tests.faults.disk import Disk
from tests.faults.runs import (
    PATIENCE_S,
    STEPS,
    events,
    kill,
    made,
    newest_step,
    steps,
    supervise,
    wait_for_trainer,
    weights,
)
from tui.cli import main

Make = Callable[..., Workspace]
Harm = Callable[[Path], None]


def llm_tui(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--workspace", str(workspace.folder), *arguments])


def empty(path: Path) -> None:
    os.truncate(path, 0)


def fill_with_junk(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def change_a_page(path: Path) -> None:
    """The header of a page in the last third: what it holds cannot be read any more."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size * 3 // 4 // 4096 * 4096)
        file.write(b"\xff" * 64)


def delete_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


HARMS: list[Harm] = [empty, fill_with_junk, change_a_page, delete_the_log, Path.unlink]


@pytest.fixture
def stored(tmp_path: Path) -> RunFolder:
    """A run with rows in its store, and nobody at work on it."""
    run = create(tmp_path / "workspace", Settings(), make_plan(steps=20), {}, "test")
    store = run.open(read_only=False)
    for step in range(1, 2001):
        store.queue(
            StepRow(
                step=step,
                at=step,
                tokens=step * 1024,
                loss=2.0,
                learning_rate=0.1,
                tokens_per_s=1e5,
                micro_batch=16,
                grad_accum=1,
            )
        )
    store.put(CheckpointRow(step=2000, at=1.0, tokens=1, folder="step-2000", total_bytes=9, write_s=0.1))
    store.put(EnergyRow(segment=1, at=1.0, elapsed_s=60.0, covered_s=60.0, machine_j=1200.0))
    store.set_state(RunState.STOPPED, "Stopped by a test.")
    store.close()
    return run


@pytest.mark.parametrize("harm", [empty, fill_with_junk, Path.unlink])
def test_a_damaged_store_is_named_moved_aside_and_made_anew(stored: RunFolder, harm: Harm) -> None:
    workspace = Workspace(stored.workspace)
    assert find_damage(stored) is None
    harm(stored.store_path)
    before = stored.store_path.read_bytes() if stored.store_path.exists() else None
    listed = llm_tui(workspace, "runs", "--json")
    (entry,) = json.loads(listed.stdout)
    assert entry["id"] == stored.id and entry["status"] is None and entry["damage"]
    told = llm_tui(workspace, "runs")
    assert told.exit_code == 0 and stored.id in told.stderr and "damaged" in told.stderr
    one = llm_tui(workspace, "status")
    assert one.exit_code == 2 and "run.db" in one.stderr and "Traceback" not in one.stderr
    damage = find_damage(stored)
    assert damage
    text = mend(stored, damage)
    assert damage in text and "Lost" in text
    if before is not None:
        assert (stored.path / "run.db.aside-1").read_bytes() == before, "moved, not overwritten"
    assert find_damage(stored) is None
    status = workspace.status(stored.id)
    assert status.steps == 20, "its plan is there"
    assert events(stored)["store-mended"] == text
    (summary,) = json.loads(llm_tui(workspace, "runs", "--json").stdout)
    assert summary["id"] == stored.id and summary["status"]["state"] in ("stopped", "preparing", "failed")


def test_what_can_still_be_read_is_kept(stored: RunFolder) -> None:
    change_a_page(stored.store_path)
    damage = find_damage(stored)
    assert damage
    mend(stored, damage)
    kept = steps(stored)
    assert 1000 < len(kept) < 2000 and kept[0] == 1 and kept[-1] == 2000, "what lies before it and behind it"
    with_energy = Workspace(stored.workspace).status(stored.id)
    assert with_energy.machine_energy_j == 1200.0


def test_what_was_paid_by_the_hour_comes_back_from_the_ledger(tmp_path: Path) -> None:
    tariff = (TariffWindow(begins="23:00", ends="07:00", price_per_kwh=0.1),)
    settings = Settings(energy=EnergySettings(price_per_kwh=0.5, tariff=tariff))
    run = create(tmp_path / "workspace", settings, make_plan(steps=20), {}, "test")
    with run.writing() as store:
        store.put(EnergyRow(segment=3, at=1.0, elapsed_s=60.0, covered_s=60.0, machine_j=7.2e6))
        for window, price in ((0, 0.5), (1, 0.1)):
            store.put(
                TariffRow(
                    key=f"3 {window}",
                    segment=3,
                    window=window,
                    price_per_kwh=price,
                    machine_j=3.6e6,
                    seconds=30.0,
                )
            )
        store.set_state(RunState.STOPPED)
        enter(run, store, RunState.STOPPED)
    before = Workspace(run.workspace).status(run.id)
    assert before.cost == pytest.approx(0.6)
    Path.unlink(run.store_path)
    mend(run, "It was deleted.")
    after = Workspace(run.workspace).status(run.id)
    assert (after.cost, after.machine_energy_j) == (before.cost, before.machine_energy_j)
    with run.writing() as store:
        rows = store.rows(TariffRow, "ORDER BY window")
        assert [(row.window, row.price_per_kwh) for row in rows] == [(0, 0.5), (1, 0.1)]
        watching = watch.Watch(store, settings, run.path, os.getpid())
        assert watching._meter.row(0.0).segment == 2


def test_without_its_plan_a_run_is_told_to_be_lost_and_nothing_is_moved(stored: RunFolder) -> None:
    stored.facts_path.unlink()
    fill_with_junk(stored.store_path)
    before = stored.store_path.read_bytes()
    with pytest.raises(StoreError, match="plan is lost"):
        mend(stored, "junk")
    assert stored.store_path.read_bytes() == before
    resumed = llm_tui(Workspace(stored.workspace), "resume")
    assert resumed.exit_code == 2 and "checkpoints" in resumed.stderr and "Traceback" not in resumed.stderr


def test_a_transaction_that_the_disk_refuses_leaves_the_store_usable(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.db")
    store.set_meta(a="x")
    database: Database = store.release()
    (pages,) = database.query("PRAGMA page_count")[0]
    database.query(f"PRAGMA max_page_count={pages}")  # SQLite's own full disk
    for number in range(2000):
        store.queue(CheckpointRow(step=number, at=1.0, tokens=1, folder="f" * 50, total_bytes=9, write_s=0.1))
    assert not store.flush() and not store.flush()
    database.query("PRAGMA max_page_count=1000000")
    assert store.flush() and store.num_rows(CheckpointRow) == 2000
    assert store.meta("a", str) == "x"


def test_what_is_only_locked_is_not_taken_for_damaged(stored: RunFolder) -> None:
    other = sqlite3.connect(stored.store_path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        find_damage(stored)
    resumed = llm_tui(Workspace(stored.workspace), "resume")
    assert resumed.exit_code == 2 and "locked" in resumed.stderr
    other.close()
    assert find_damage(stored) is None and not list(stored.path.glob("run.db.aside-*"))


def test_a_log_that_a_reader_holds_is_told_of_and_ends_with_a_store_made_anew(
    stored: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LARGE_LOG_BYTES", 100_000)
    monkeypatch.setattr(watch, "MOST_LOG_BYTES", 600_000)
    monkeypatch.setattr(watch, "MIND_LOG_EVERY_S", 0.0)
    store = stored.open(read_only=False)
    watching = watch.Watch(store, Settings(), stored.path, os.getpid())
    reader = sqlite3.connect(stored.store_path)
    reader.execute("BEGIN")
    (num_steps,) = reader.execute("SELECT count(*) FROM step").fetchone()
    with pytest.raises(DamagedStoreError, match="held it open") as caught:
        for number in range(1000):
            store.put(CheckpointRow(step=number, at=1.0, tokens=1, folder="f", total_bytes=9, write_s=0.1))
            watching.sample()
    num_checkpoints = store.num_rows(CheckpointRow)
    assert num_checkpoints < 600 and "Ctrl-Z" in events(stored)["store-held"]
    mend(stored, caught.value.title, store.release())
    assert len(steps(stored)) == num_steps and find_damage(stored) is None
    assert reader.execute("SELECT count(*) FROM step").fetchone() == (num_steps,), "it may read on"
    reader.close()
    again = stored.open(read_only=False)
    assert again.num_rows(CheckpointRow) == num_checkpoints
    again.put(CheckpointRow(step=9999, at=1.0, tokens=1, folder="f", total_bytes=9, write_s=0.1))
    assert again.damage is None
    again.close()


@pytest.mark.parametrize("harm", [delete_the_log, Path.unlink])
def test_a_file_deleted_under_the_run_is_noticed_and_nothing_is_lost(stored: RunFolder, harm: Harm) -> None:
    store = stored.open(read_only=False)
    store.put(CheckpointRow(step=1, at=1.0, tokens=1, folder="f", total_bytes=9, write_s=0.1))
    assert store.damage is None
    viewer = (
        stored.open()
    )  # with it the log stays where it is, for the next file of this name to be spoilt by
    assert viewer.num_rows(StepRow) == 2000
    harm(stored.store_path)
    store.put(CheckpointRow(step=2, at=1.0, tokens=1, folder="f", total_bytes=9, write_s=0.1))
    store.tell(event("info", "epoch", "Epoch 1 is over."))
    assert store.damage is not None and "was deleted" in store.damage
    mend(stored, store.damage, store.release())
    again = stored.open()
    assert again.num_rows(CheckpointRow) == 3 and again.num_rows(StepRow) == 2000
    assert "was deleted" in events(stored)["store-mended"]
    again.close()
    viewer.close()


def finished(run: RunFolder) -> bool:
    try:
        return Workspace(run.workspace).status(run.id).state is RunState.FINISHED
    except StoreError:
        return False


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("harm", HARMS)
def test_a_store_that_is_harmed_while_training_costs_no_step(
    make_workspace: Make, undisturbed: str, harm: Harm
) -> None:
    run = made(make_workspace(STEPS * 1024))
    process = supervise(run)
    wait_for(lambda: newest_step(run) > 50, 120, "steps")
    harm(run.store_path)
    assert process.wait(PATIENCE_S) == 0
    assert finished(run) and weights(run) == undisturbed
    # A page that lay in the log as well was written anew from there.
    assert "made anew" in events(run).get("store-mended", "") or harm is change_a_page
    assert list(run.path.glob("run.db.aside-*")) or harm in (change_a_page, Path.unlink), (
        "what was there is moved aside"
    )
    assert find_damage(run) is None
    assert {path.name for path in run.checkpoints.iterdir()} >= {f"step-{STEPS}"}


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_store_that_others_lock_or_a_full_disk_cost_no_row(
    make_workspace: Make, undisturbed: str, tmp_path: Path
) -> None:
    run, disk = made(make_workspace(STEPS * 1024)), Disk(tmp_path)
    process = supervise(run, environment=disk.env)
    wait_for(lambda: newest_step(run) > 20, 120, "steps")
    pid = wait_for_trainer(run)
    other = sqlite3.connect(run.store_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    kill(pid)  # the supervisor has to tell of it while it cannot write
    wait_for_trainer(run, other_than=pid)
    other.execute("ROLLBACK")
    other.close()
    at = newest_step(run)
    wait_for(lambda: newest_step(run) > at, 120, "steps after the lock")
    disk.fill(str(run.path))
    time.sleep(5)
    disk.mend()
    wait_for(lambda: "checkpoint-failed" in events(run), 60, "the word that a checkpoint failed")
    assert "No space left" in events(run)["checkpoint-failed"]
    assert process.wait(PATIENCE_S) == 0
    assert finished(run) and weights(run) == undisturbed
    assert steps(run) == list(range(1, STEPS + 1)) and "restart" in events(run)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_whoever_reads_on_and_on_lets_the_log_grow_to_its_limit_only(
    make_workspace: Make, undisturbed: str
) -> None:
    run = made(make_workspace(STEPS * 1024))
    small = {"engine.runs.watch.LARGE_LOG_BYTES": 200_000, "engine.runs.watch.MOST_LOG_BYTES": 1_500_000}
    process = supervise(run, {**small, "engine.runs.watch.MIND_LOG_EVERY_S": 1.0})
    wait_for(lambda: newest_step(run) > 10, 120, "steps")
    reader = sqlite3.connect(run.store_path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM step").fetchone()[0] > 0
    wait_for(lambda: "store-held" in events(run), 120, "the word that somebody holds it")
    assert process.wait(PATIENCE_S) == 0
    reader.close()
    assert finished(run) and weights(run) == undisturbed
    assert steps(run) == list(range(1, STEPS + 1)), "nothing was lost"


def test_a_workspace_of_which_one_run_is_damaged_shows_the_others(stored: RunFolder) -> None:
    other = stored.path.with_name(f"{stored.id}-copy")
    shutil.copytree(stored.path, other)
    (other / "settings.toml").unlink()
    listed = json.loads(llm_tui(Workspace(stored.workspace), "runs", "--json").stdout)
    assert {entry["id"]: entry["status"] is None for entry in listed} == {stored.id: False, other.name: True}
