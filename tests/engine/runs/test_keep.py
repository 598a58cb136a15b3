"""Tags, archiving, deleting and comparing, on folders of runs with real rows and files."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest

from engine import Workspace
from engine.errors import EngineError, RunFailedError, StoreError
from engine.ledger.book import LedgerBook
from engine.records import CheckpointRow, EnergyRow, RunState, StepRow
from engine.runs.books import enter
from engine.runs.folder import RunFolder, all_runs, create, find
from engine.runs.keep import MOST_TAGS, read_tags, removal, remove, set_tags
from engine.runs.lock import Lock
from engine.runs.overlay import compare
from engine.runs.view import read_summary
from engine.settings import Settings, TrainingSettings
from engine.settings_file import freeze
from engine.sqlite import BusyError
from tests.engine.train.conftest import make_plan

PLAN = make_plan(steps=100)


def made(
    workspace: Path, state: RunState, *, has_model: bool = False, seed: int = 1, loss: float = 3.0
) -> RunFolder:
    """A run that did 40 steps and left three checkpoints."""
    settings = msgspec.structs.replace(Settings(), training=TrainingSettings(seed=seed))
    folder = create(workspace, settings, PLAN, {}, "test")
    with contextlib.closing(folder.open(read_only=False)) as store:
        for step in range(1, 41):
            store.put(
                StepRow(
                    step=step,
                    at=time.time(),
                    tokens=step * PLAN.tokens_per_step,
                    loss=loss,
                    learning_rate=1e-3,
                    tokens_per_s=1000.0,
                    micro_batch=4,
                    grad_accum=2,
                )
            )
        store.put(EnergyRow(segment=1, at=0.0, elapsed_s=60.0, covered_s=60.0, machine_j=3.6e6))
        for step in (20, 30, 40):
            path = folder.checkpoints / f"step-{step}"
            path.mkdir(parents=True)
            (path / "model.safetensors").write_bytes(b"x" * 1000)
            store.put(
                CheckpointRow(step=step, at=0.0, tokens=0, folder=path.name, total_bytes=1000, write_s=0.1)
            )
        store.set_state(state)
    if has_model:
        folder.model.mkdir()
        (folder.model / "model.safetensors").write_bytes(b"x" * 500)
    return folder


def names(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.checkpoints.iterdir())


def test_tags_are_kept_with_the_run_and_refused_where_they_are_none(tmp_path: Path) -> None:
    folder = made(tmp_path, RunState.FINISHED)
    assert read_tags(folder) == ()
    assert set_tags(folder, ["night", "", " night", "çay"]) == ("night", "çay")
    assert read_summary(folder).tags == ("night", "çay")
    for bad in (["a b"], ["x" * 25], ["a,b"], ["\x1b[2J"], [f"t{n}" for n in range(MOST_TAGS + 1)]):
        with pytest.raises(EngineError):
            set_tags(folder, bad)
    assert read_tags(folder) == ("night", "çay")
    assert set_tags(folder, []) == ()


def test_archived_keeps_the_model_or_the_newest_checkpoint(tmp_path: Path) -> None:
    finished = made(tmp_path, RunState.FINISHED, has_model=True)
    told = removal(finished, "archive")
    assert told.freed_bytes == 3000 and names(finished) == ["step-20", "step-30", "step-40"]
    assert remove(finished, "archive") == told
    assert names(finished) == [] and (finished.model / "model.safetensors").exists()
    assert read_summary(finished).archived_at is not None and finished.settings() == finished.settings()
    stopped = made(tmp_path, RunState.STOPPED)
    assert remove(stopped, "archive").freed_bytes == 2000
    assert names(stopped) == ["step-40"], "it can still go on"
    assert removal(stopped, "archive").freed_bytes == 0


def test_deleted_goes_whole_and_its_cost_stays(tmp_path: Path) -> None:
    folder, other = made(tmp_path, RunState.STOPPED), made(tmp_path, RunState.STOPPED)
    assert LedgerBook(tmp_path).entries() == []
    told = remove(folder, "delete")
    assert told.freed_bytes > 3000 and not folder.path.exists()
    assert [run.id for run in all_runs(tmp_path)] == [other.id]
    assert list(other.path.parent.iterdir()) == [other.path]
    entry = LedgerBook(tmp_path).entries()[0]
    assert (entry.run_id, entry.state, entry.machine_energy_j) == (folder.id, "stopped", 3.6e6)


def test_what_an_interrupted_deletion_left_is_no_run_and_goes_with_the_next(tmp_path: Path) -> None:
    folder, other = made(tmp_path, RunState.STOPPED), made(tmp_path, RunState.STOPPED)
    left = other.path.rename(other.path.parent / f".deleting-{other.id}")
    assert (left / "facts.json").is_file()
    assert [run.id for run in all_runs(tmp_path)] == [folder.id]
    assert find(tmp_path, None).id == folder.id
    remove(folder, "delete")
    assert list(left.parent.iterdir()) == []


@pytest.mark.parametrize("what", ["facts.json", "run.db"])
def test_a_start_that_cannot_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device") if what == "facts.json" else BusyError("disk is full")

    monkeypatch.setattr(RunFolder, "keep_facts", full)
    with pytest.raises(StoreError, match="No space left" if what == "facts.json" else "disk is full"):
        create(tmp_path, Settings(), PLAN, {}, "test")
    assert list((tmp_path / "runs").iterdir()) == [] and all_runs(tmp_path) == []


def test_a_store_that_stays_locked_is_told_with_a_remedy(tmp_path: Path) -> None:
    folder = made(tmp_path, RunState.PREPARING)
    lock = Lock(folder.supervisor_lock)
    assert lock.acquire("1") and lock.acquire("1"), "who has it keeps it"
    with contextlib.closing(sqlite3.connect(folder.store_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="cannot be written now") as caught:
            Workspace(tmp_path).command(folder.id, "pause")
    assert caught.value.remedy
    lock.release()


def test_a_run_that_is_going_or_just_begun_is_left_alone(tmp_path: Path) -> None:
    going, new = made(tmp_path, RunState.STOPPED), made(tmp_path, RunState.PREPARING)
    lock = Lock(going.supervisor_lock)
    assert lock.acquire("1")
    for kind in ("archive", "delete"):
        with pytest.raises(RunFailedError, match="is going"):
            remove(going, kind)
        with pytest.raises(RunFailedError, match="is going"):
            remove(new, kind)
    lock.release()
    assert names(going) == names(new) == ["step-20", "step-30", "step-40"]
    remove(going, "delete")
    assert not going.path.exists()


@pytest.mark.parametrize("harm", ["junk", "gone", "settings"])
def test_a_damaged_run_can_be_deleted_and_what_it_cost_stays(tmp_path: Path, harm: str) -> None:
    folder = made(tmp_path, RunState.STOPPED)
    with contextlib.closing(folder.open()) as store:
        enter(folder, store, RunState.STOPPED)
    if harm == "junk":
        folder.store_path.write_bytes(b"no database at all" * 100)
    elif harm == "gone":
        folder.store_path.unlink()
    else:
        folder.settings_path.unlink()
    assert [run.id for run in Workspace(tmp_path).damaged_runs()] == [folder.id]
    assert Workspace(tmp_path).damaged_runs([folder.id]) == []
    with pytest.raises(EngineError):
        removal(folder, "archive")
    lock = Lock(folder.supervisor_lock)
    assert lock.acquire("1")
    with pytest.raises(RunFailedError, match="is going"):
        remove(folder, "delete")
    lock.release()
    told = remove(folder, "delete")
    assert told.freed_bytes > 3000 and "if it has one" in told.stays
    assert not folder.path.exists() and all_runs(tmp_path) == []
    (entry,) = LedgerBook(tmp_path).entries()
    assert (entry.run_id, entry.machine_energy_j) == (folder.id, 3.6e6)


def test_a_run_whose_store_is_only_locked_is_not_deleted_as_damaged(tmp_path: Path) -> None:
    folder = made(tmp_path, RunState.STOPPED)
    other = sqlite3.connect(folder.store_path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        remove(folder, "delete")
    other.close()
    assert folder.path.exists() and read_summary(folder).id == folder.id


def test_a_comparison_has_the_curves_and_only_what_differs(tmp_path: Path) -> None:
    one, two = made(tmp_path, RunState.STOPPED), made(tmp_path, RunState.STOPPED, seed=7, loss=2.5)
    found = compare([one, two], 100)
    assert [run.run_id for run in found.runs] == [one.id, two.id]
    assert [run.train_losses[-1].loss for run in found.runs] == [3.0, 2.5]
    assert [(d.key, d.values) for d in found.differences] == [("training.seed", ("1", "7"))]
    assert compare([one, one], 100).differences == ()


def test_settings_that_were_frozen_anew_are_read_anew(tmp_path: Path) -> None:
    folder = made(tmp_path, RunState.STOPPED, seed=3)
    assert folder.settings() is folder.settings() and folder.settings().training.seed == 3
    freeze(
        msgspec.structs.replace(folder.settings(), training=TrainingSettings(seed=4)), folder.settings_path
    )
    assert folder.settings().training.seed == 4
