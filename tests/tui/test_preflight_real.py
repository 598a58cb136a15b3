"""The preflight screen on real workspaces: real processes, and a driver that stands in for NVIDIA's."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine import Workspace
from engine.telemetry.process import find_process
from tests import torch_standin
from tests.conftest import wait_for
from tests.nvml_standin import Standin, build
from tests.tui.piloted import text, until
from tui.app import LlmTui
from tui.dialogs.close_apps import CloseAppsDialog
from tui.dialogs.close_questions import KillQuestion

Make = Callable[..., Workspace]
Start = Callable[..., subprocess.Popen[bytes]]
GIB = 2**30
PROGRAM = """
import ctypes, os, signal, sys, time
def give_back(number, frame):
    os.replace(*sys.argv[3:])
    os._exit(0)
ctypes.CDLL(None).prctl(15, os.fsencode(sys.argv[1]), 0, 0, 0)
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[2] == "giving":
    signal.signal(signal.SIGTERM, give_back)
print(flush=True)
time.sleep(120)
"""
HOSTILE = "\x1b[2J[red]\u202ez"
"""As long as the kernel lets a name be: 15 bytes."""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program that goes by a name; what is left of it is killed afterwards.

    A "giving" one puts the file `arguments[0]` in the place of `arguments[1]` as it ends.
    """
    began: list[subprocess.Popen[bytes]] = []

    def run(name: str, kind: str = "meek", *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, name, kind, *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        began.append(child)
        assert child.stdout is not None and child.stdout.readline()
        wait_for(lambda: (info := find_process(child.pid)) is not None and info.name.startswith(name[:6]))
        return child

    yield run
    for child in began:
        child.kill()
        child.communicate()


def settle(workspace: Workspace, **preflight: str) -> None:
    """Set keys of [preflight] in a small workspace's settings."""
    path = workspace.folder / "settings.toml"
    lines = "".join(f"{key} = {value}\n" for key, value in preflight.items())
    path.write_text(
        path.read_text("utf-8").replace("rehearsal = false\n", f"rehearsal = false\n{lines}"), "utf-8"
    )


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Standin]:
    """Put a stand-in driver, and a torch that has CUDA, before every process that the app starts."""

    def make(**values: object) -> Standin:
        standin = build(tmp_path, **values)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        for key, value in {**standin.env, **torch_standin.build(tmp_path)}.items():
            monkeypatch.setenv(key, value)
        return standin

    return make


@asynccontextmanager
async def preflight(workspace: Workspace, size: tuple[int, int] = (120, 34)):
    app = LlmTui(workspace.folder)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.current_mode == "preflight" and "Settings ··" in text(app), 20)
        yield app, pilot
        await pilot.press("c")
        await until(pilot, lambda: not checkers(workspace), 20)
        await pilot.pause(0.1)


def checkers(workspace: Workspace) -> list[str]:
    """The processes that make the checks of a workspace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return [line for line in found if str(workspace.folder) in line]


def row(app: LlmTui, title: str) -> str:
    lines = (line.lstrip(" ▸") for line in text(app).splitlines())
    return next((line for line in lines if line.startswith(title) and "··" in line), "")


async def test_the_list_stands_there_before_any_check_is_made(make_workspace: Make) -> None:
    workspace = make_workspace()
    settle(workspace, manual='["lid open"]')
    app = LlmTui(workspace.folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.current_mode == "preflight", 20)
        await until(pilot, lambda: "lid open" in text(app))
        assert "CHECKING" in text(app) and "Rehearsal ··" in text(app)
        await pilot.press("c")
        await until(pilot, lambda: "CANCELLED" in text(app))
    assert not workspace.runs()


async def test_a_cancelled_check_leaves_no_process(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with preflight(workspace) as (_, pilot):
        await until(pilot, lambda: bool(checkers(workspace)), 20)
        await pilot.press("c")
        await until(pilot, lambda: not checkers(workspace), 20)


async def test_real_programs_are_closed_killed_and_hostile_ones_named_harmlessly(
    make_workspace: Make, start: Start
) -> None:
    workspace = make_workspace()
    meek, stubborn, evil = start("zzmeek"), start("zzstubborn", "stubborn"), start(HOSTILE)
    settle(workspace, close_apps='["zzmeek", "zzstubborn", "\\u001b[2J[red]\\u202ez"]')
    async with preflight(workspace, (80, 24)) as (app, pilot):
        await until(pilot, lambda: "zzmeek" in text(app) or "!" in row(app, "Close applications"), 60)
        await pilot.press("x")
        await until(pilot, lambda: str(evil.pid) in text(app) and str(meek.pid) in text(app), 20)
        shown = text(app)
        assert "␛[2J[red]�z" in shown and "\x1b" not in shown and "\u202e" not in shown
        await pilot.press("a")
        await until(pilot, lambda: "3 programs marked" in text(app))
        await pilot.press("enter", "y")
        await until(pilot, lambda: isinstance(app.screen, KillQuestion) and "Kill 1" in text(app), 30)
        assert "zzstubborn" in text(app) and "zzmeek" not in text(app)
        assert stubborn.poll() is None and meek.wait(5) == evil.wait(5) == -signal.SIGTERM
        await pilot.press("n")
        await until(pilot, lambda: "✗ still there  zzstubborn" in text(app))
        assert stubborn.poll() is None
        await pilot.press("K", "y")
        await until(pilot, lambda: text(app).count("✓ closed") == 3, 30)
        assert stubborn.wait(5) == -signal.SIGKILL
        await pilot.press("enter")
        await until(pilot, lambda: "✓ pass" in row(app, "Close applications"), 60)


async def test_one_that_ends_between_list_and_question_was_gone(make_workspace: Make, start: Start) -> None:
    workspace, child = make_workspace(), start("zzbrief")
    settle(workspace, close_apps='["zzbrief"]')
    async with preflight(workspace) as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: "zzbrief" in text(app) and isinstance(app.screen, CloseAppsDialog), 20)
        await pilot.press("a", "enter")
        child.kill()
        child.wait()
        await pilot.press("y")
        await until(pilot, lambda: "– was gone     zzbrief" in text(app), 20)


async def test_who_holds_a_full_card_is_seen_closed_and_what_came_free_is_measured(
    make_workspace: Make, start: Start, driver: Callable[..., Standin], tmp_path: Path
) -> None:
    workspace = make_workspace()
    (tmp_path / "after").mkdir()
    after = build(tmp_path / "after", memory_used_bytes=GIB, compute=f"1:{GIB // 2}")
    standin = driver(memory_used_bytes=4 * GIB - 2**20)
    holder = start("zzrender", "giving", str(after.file), str(standin.file))
    standin.set(compute=f"{holder.pid}:{3 * GIB} 1:{GIB // 2}")
    settle(workspace, close_apps='["zzrender"]', min_free_vram_gib="2.0")
    async with preflight(workspace) as (app, pilot):
        await until(pilot, lambda: "✗ FAIL" in row(app, "VRAM free"), 90)
        await until(pilot, lambda: "zzrender" in row(app, "Close applications"), 90)
        await pilot.press("x")
        await until(pilot, lambda: "VRAM free: 1.00 MiB" in text(app), 20)
        assert "3.00 GiB" in text(app) and "512 MiB" in text(app)
        await pilot.press("a")
        await until(pilot, lambda: "1 program marked, 1.00 MiB → 3.00 GiB free; the run needs" in text(app))
        await pilot.press("enter", "y")
        await until(pilot, lambda: "came free" in text(app), 30)
        assert holder.wait(10) == 0
        assert "VRAM free 1.00 MiB → 3.00 GiB: 3.00 GiB came free." in text(app)
        assert "✓ enough: the run needs 2.00 GiB" in text(app)
        await pilot.press("enter")
        await until(pilot, lambda: "✓ pass" in row(app, "VRAM free"), 90)
        await pilot.press("g", *"jjjj")
        await until(
            pilot, lambda: any("VRAM free  " in line and "│" in line for line in text(app).splitlines())
        )
        figures = next(line for line in text(app).splitlines() if "VRAM free  " in line and "│" in line)
        assert "1.00 MiB" in figures and "3.00 GiB" in figures, "before and now"


async def test_amounts_that_are_not_told_a_lost_gpu_and_a_driver_that_does_not_fit(
    make_workspace: Make, start: Start, driver: Callable[..., Standin]
) -> None:
    workspace, holder = make_workspace(), start("zzrender")
    standin = driver(memory_used_bytes=GIB, compute=f"{holder.pid}:na")
    async with preflight(workspace) as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: "does not tell how much" in " ".join(text(app).split()), 20)
        assert "zzrender" in text(app) and "The most GPU memory comes first" not in text(app)
        await pilot.press("escape")
        standin.set(lost=1)
        await pilot.press("c", "r", "g", "j", "j")
        await until(pilot, lambda: "The GPU is lost" in " ".join(text(app).split()), 90)
        await until(pilot, lambda: "✗ LOCKED" in text(app), 60)
        standin.set(lost=None, init=18)
        await pilot.press("r", "g", "j", "j")
        # How it was before stands there in grey until there is news, so that it is the new reason that is waited for.
        await until(pilot, lambda: "was updated while it was in use" in " ".join(text(app).split()), 90)
        assert "✗ FAIL, blocks the start" in text(app) and "✗ FAIL" in row(app, "Device and torch")


async def test_settings_that_went_missing_are_written_by_their_key(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with preflight(workspace) as (app, pilot):
        (workspace.folder / "settings.toml").unlink()
        await pilot.press("c", "r")
        await until(pilot, lambda: "LOCKED" in text(app), 60)
        assert "✗ FAIL" in row(app, "Settings") and "a Apply" in text(app)
        await pilot.press("a")
        await until(pilot, lambda: "✓ pass" in row(app, "Settings"), 60)
        assert (workspace.folder / "settings.toml").exists()


async def test_a_tick_reaches_the_engine(make_workspace: Make) -> None:
    workspace = make_workspace()
    settle(workspace, manual='["fan free"]')
    async with preflight(workspace) as (app, pilot):
        await until(pilot, lambda: "1 check blocks: fan free. space ticks it" in text(app), 60)
        await pilot.press("s")
        assert not workspace.runs()
        await pilot.press("G", "space", "enter")
        await until(pilot, lambda: "✓ UNLOCKED" in text(app), 60)
        ticked = app.screen._board.verdicts["manual-1"]
        await pilot.press("r")
        await until(pilot, lambda: app.screen._board.verdicts.get("manual-1") not in (None, ticked), 60)
        assert app.screen._board.verdicts["manual-1"].evidence == "Ticked by hand: fan free", "by the engine"
