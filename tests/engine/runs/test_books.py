"""The books of real runs: at checkpoints, at the end, by tariff, with limits, and when something is in the way."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine import Workspace
from engine.bill import BookedWindow, DayLine
from engine.errors import BlockedError, RunFailedError, StoreError
from engine.ledger.book import LedgerBook
from engine.ledger.training_md import BEGIN, END
from engine.preflight.context import GIB
from engine.records import Check, RunState, TextSampleRow
from engine.rehearsal import load
from engine.runs.lock import Lock, device_lock_path
from tests.conftest import wait_for

Make = Callable[..., Workspace]
ENDLESS = 10**9
WHOLE_DAY_AT_ONE = '\n[[energy.tariff]]\nfrom = "00:00"\nto = "00:00"\nprice_per_kwh = 1.0\n'


def events(workspace: Workspace, run_id: str, kind: str) -> list[str]:
    return [row.text for _, row in workspace.events(run_id) if row.kind == kind]


def report_of(workspace: Workspace) -> str:
    path = workspace.folder / "TRAINING.md"
    return path.read_text("utf-8") if path.exists() else ""


def llm_tui(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tui", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_finished_run_is_booked_in_full_and_outlives_its_folder_and_its_settings(
    make_workspace: Make,
) -> None:
    workspace = make_workspace()
    path = workspace.settings_path
    path.write_text(path.read_text("utf-8") + WHOLE_DAY_AT_ONE, "utf-8")
    run_id = workspace.start(overrides=["energy.price_per_kwh=0.25", "energy.grams_co2_per_kwh=400"])
    wait_for(lambda: workspace.status(run_id).state.is_over, 120, "the end of the run")
    (entry,) = workspace.ledger()
    kwh = (entry.machine_energy_j or 0.0) / 3.6e6
    assert entry.state == "finished" and kwh > 0
    assert entry.cost == pytest.approx(kwh * 1.0, abs=2e-6), "by the window in force, not by the flat price"
    (window,) = msgspec.json.decode(entry.tariff, type=list[BookedWindow])
    assert (window.price_micro, window.window) == (1_000_000, "00:00-00:00")
    assert window.machine_j == pytest.approx(entry.machine_energy_j)
    assert entry.grams_co2 == pytest.approx(kwh * 400)
    assert workspace.status(run_id).cost == entry.cost
    assert entry.predicted_memory_bytes and entry.predicted_hours and entry.predicted_machine_kwh
    assert entry.predicted_cost and "formula" in entry.predicted_basis
    assert entry.memory_bytes and entry.training_tokens_per_s and entry.tokens_total == entry.tokens
    assert entry.checkpoints_bytes and entry.model_bytes and entry.database_bytes and entry.shards_bytes
    (day,) = msgspec.json.decode(entry.days, type=list[DayLine])
    assert (day.tokens, day.num_checkpoints > 0, day.hours > 0) == (20_480, True, True)
    assert day.machine_energy_j == pytest.approx(entry.machine_energy_j, rel=0.3)
    assert len(msgspec.json.decode(entry.checks, type=list[Check])) > 10
    assert msgspec.json.decode(entry.samples, type=list[TextSampleRow])
    book = workspace.storage(run_id)
    assert book.checkpoints_bytes == book.retention_bytes == entry.checkpoints_bytes
    assert book.cloud_usd_per_month is None and "usd_per_gib_month" in book.cloud_basis

    text = report_of(workspace)
    for words in ("| hours |", "| machine kWh |", "The preflight:", "By day", "last sample", "predicted"):
        assert words in text
    workspace.report()
    assert report_of(workspace) == text, "twice in a row changes nothing"
    shutil.rmtree(workspace.folder_of(run_id).path)
    path.write_text(path.read_text("utf-8").replace("price_per_kwh = 1.0", "price_per_kwh = 9.0"), "utf-8")
    workspace.report()
    assert report_of(workspace) == text, "neither the folder nor today's tariff are needed"
    assert workspace.ledger() == [entry]
    assert workspace.entry_detail(entry).storage is None


def test_books_at_checkpoints_damaged_markers_and_a_locked_ledger_cost_the_run_nothing(
    make_workspace: Make,
) -> None:
    workspace = make_workspace(ENDLESS)
    path = workspace.folder / "TRAINING.md"
    path.write_text("# Mine\n", "utf-8")
    run_id = workspace.start()
    wait_for(lambda: run_id in report_of(workspace), what="TRAINING.md at the first checkpoint")
    assert report_of(workspace).startswith("# Mine\n")
    (entry,) = workspace.ledger()
    assert entry.state == "running" and entry.checkpoints_bytes
    found = workspace.estimate().move
    assert found is not None and found.run_id == run_id and found.spent is not None
    assert found.rest_cost is not None and found.rest_tokens > 0 and found.break_even
    path.write_bytes(b"mine\n" + END + b"\n" + BEGIN + b"\n")
    wait_for(lambda: events(workspace, run_id, "books"), what="the event of the damaged markers")
    assert "markers" in events(workspace, run_id, "books")[0]
    assert path.read_bytes() == b"mine\n" + END + b"\n" + BEGIN + b"\n"
    printed = llm_tui("report", folder=workspace.folder)
    assert printed.returncode == 2 and "markers" in printed.stderr and f"### Run {run_id}" in printed.stdout
    assert path.read_bytes() == b"mine\n" + END + b"\n" + BEGIN + b"\n"
    with sqlite3.connect(workspace.folder / "ledger.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_for(
            lambda: any("ledger.db cannot be written" in text for text in events(workspace, run_id, "books")),
            what="the event of the locked ledger",
        )
        before = workspace.status(run_id).step or 0
        wait_for(lambda: (workspace.status(run_id).step or 0) > before + 3, what="steps meanwhile")
        other.execute("ROLLBACK")
    assert workspace.command(run_id, "stop").is_done
    assert workspace.ledger()[0].state == "stopped" and workspace.verify_ledger() >= 2
    history = LedgerBook(workspace.folder).history(run_id)
    energies = [entry.machine_energy_j or 0.0 for entry in history]
    assert len(history) >= 2 and energies == sorted(energies), "each entry has all of it, none is added twice"
    assert len([text for text in events(workspace, run_id, "books") if "markers" in text]) <= 2, (
        "told once while it goes, and once as it ends"
    )


def test_a_limit_of_money_is_told_before_and_then_saves_and_stops(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    run_id = workspace.start(overrides=["energy.price_per_kwh=10000", "limits.max_cost=2.5"])
    wait_for(lambda: workspace.status(run_id).state.is_over, 90, "the limit")
    status = workspace.status(run_id)
    assert status.state is RunState.STOPPED and "limits.max_cost is reached" in (status.reason or "")
    told = events(workspace, run_id, "limit-near")
    assert told and all("limits.max_cost comes near" in text for text in told) and len(told) <= 2
    assert workspace.snapshot(run_id).num_checkpoints >= 1
    assert 2.5 <= (workspace.ledger()[0].cost or 0.0) < 10


def test_a_disk_that_fills_up_stops_the_run_and_no_waiver_lifts_the_limit(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    limit_gib = shutil.disk_usage(workspace.folder).free / GIB - 1.0
    if limit_gib < 2:
        pytest.skip("needs 3 GiB of free disk")
    run_id = workspace.start(overrides=[f"limits.min_free_disk_gib={limit_gib:.3f}"])
    wait_for(lambda: workspace.status(run_id).step, 90, "the first step")
    ballast = workspace.folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 3 * GIB // 2)
    try:
        wait_for(lambda: workspace.status(run_id).state.is_over, 90, "the limit")
        assert "min_free_disk_gib is reached" in (workspace.status(run_id).reason or "")
        with pytest.raises(BlockedError, match="cannot be waived"):
            workspace.start(
                overrides=[f"limits.min_free_disk_gib={limit_gib:.3f}"],
                waivers={"disk": "to see what happens"},
            )
    finally:
        ballast.unlink()


def test_a_rehearsal_times_real_steps_and_leaves_nothing_else(make_workspace: Make) -> None:
    workspace = make_workspace(ENDLESS)
    assert "formula" in workspace.estimate().time.basis
    found = workspace.rehearse()
    assert found.steps >= 2 and found.tokens_per_s_low <= found.tokens_per_s <= found.tokens_per_s_high
    assert load(workspace.folder) == [found] and workspace.runs() == [] and workspace.ledger() == []
    assert list((workspace.folder / "cache" / "rehearsals").iterdir()) == []
    time_ = workspace.estimate().time
    assert "rehearsal" in time_.basis and time_.source == "rehearsal"
    assert time_.tokens_per_second == pytest.approx(found.tokens_per_s)
    assert (time_.hours_low or 0) <= (time_.hours or 0) <= (time_.hours_high or 0)
    lock = Lock(device_lock_path(workspace.device().identity))
    assert lock.acquire("a run")
    try:
        with pytest.raises(RunFailedError, match="taken by a run"):
            workspace.rehearse()
    finally:
        lock.release()


def test_a_damaged_ledger_is_told_and_the_estimate_goes_on(make_workspace: Make) -> None:
    workspace = make_workspace()
    (workspace.folder / "ledger.db").write_bytes(b"")
    with pytest.raises(StoreError, match="is empty"):
        workspace.ledger()
    assert "ledger cannot be read" in workspace.estimate().time.basis
    shown = llm_tui("ledger", folder=workspace.folder)
    assert shown.returncode == 2 and "is empty" in shown.stderr and "→" in shown.stderr
    assert (workspace.folder / "ledger.db").read_bytes() == b""
    run_id = workspace.start()
    wait_for(lambda: workspace.status(run_id).state.is_over, 120, "the end of the run")
    assert (workspace.folder / "ledger.db.aside-1").read_bytes() == b""
    assert [entry.run_id for entry in workspace.ledger()] == [run_id]
    assert any("begun anew" in text for text in events(workspace, run_id, "books"))
