"""The dialog that closes programs, by keys, with programs that are handed to it."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from msgspec.structs import replace

from tests.tui.piloted import SIZES, opened, settled, text, until
from tests.tui.recorded import RecordedBridge, checks, closings, program
from tests.tui.test_format import HOSTILE
from tui import format as fmt
from tui.dialogs.close_apps import CloseAppsDialog
from tui.dialogs.close_questions import CloseQuestion, KillQuestion
from tui.screens.preflight import PreflightScreen


def needed_bytes(bridge: RecordedBridge) -> float:
    """GPU memory that the run needs, by the check of it."""
    check = next(check for check in bridge.verdicts if check.id == "free-vram")
    return next(figure.needed for figure in check.figures if figure.needed is not None)


@pytest.mark.parametrize("size", SIZES)
async def test_programs_are_listed_marked_and_closed_after_a_question(size: tuple[int, int]) -> None:
    bridge = RecordedBridge()
    blender, firefox = bridge.open.processes[0], bridge.open.processes[2]
    bridge.closing_reports = [closings((blender, "closed"), (firefox, "gone"))]
    async with opened(bridge, size) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: "blender" in text(app))
        shown = text(app)
        for words in ("VRAM free: 1.27 GiB", "1.86 GiB", "gnome-shell", "4410", "bob", "3 d", "none"):
            assert words in shown, words
        await pilot.press("enter")
        await pilot.pause(0.05)
        assert isinstance(app.screen, CloseAppsDialog) and "Mark programs with space" in text(app)
        await pilot.press("space", "j", "space")
        await pilot.pause(0.05)
        assert "[x] blender" in text(app) and "– gnome-shell" in " ".join(text(app).split())
        assert "It draws the desktop" in text(app) and "1 program marked, 1.27 GiB → 3.12 GiB free" in text(
            app
        )
        assert "This one stays" in text(app)
        await pilot.press("j", "space", "enter")
        await pilot.pause(0.05)
        assert isinstance(app.screen, CloseQuestion) and "Close 2 programs?" in text(app)
        await pilot.press("enter")
        assert bridge.closed == [], "Enter twice in a row closes nothing"
        await pilot.press("n", "enter", "y")
        await until(pilot, lambda: "came free" in text(app))
        assert bridge.closed == [((4410, 2210), False)]
        shown = text(app)
        assert "✓ closed       blender (pid 4410) after 0.4 s" in shown and "– was gone     firefox" in shown
        assert "VRAM free 1.27 GiB → 3.12 GiB: 1.86 GiB came free." in shown
        assert f"✓ enough: the run needs {fmt.size(needed_bytes(bridge))}" in shown
        bridge.verdicts = checks(blocking=False)
        await pilot.press("enter")
        await settled(app, pilot, "UNLOCKED")


async def test_all_marks_only_what_may_be_closed_and_leaving_closes_nothing() -> None:
    bridge = RecordedBridge()
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: "blender" in text(app))
        await pilot.press("a")
        await pilot.pause(0.05)
        assert text(app).count("[x]") == 3
        after = (bridge.open.free_bytes or 0) + sum(
            process.gpu_bytes or 0 for process in bridge.open.processes if process.may_close
        )
        told = f"→ {fmt.size(after)} free; the run needs {fmt.size(needed_bytes(bridge))}."
        assert "3 programs marked, 1.27 GiB → " in text(app) and told in " ".join(text(app).split())
        await pilot.press("a")
        await pilot.pause(0.05)
        assert text(app).count("[x]") == 0
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert isinstance(app.screen, PreflightScreen) and bridge.closed == [] and "LOCKED" in text(app)


async def test_what_is_still_there_is_killed_only_after_a_second_question() -> None:
    bridge = RecordedBridge()
    blender, firefox = bridge.open.processes[0], bridge.open.processes[2]
    back = program(5120, "firefox", age_s=1.0)
    bridge.closing_reports = [
        closings((blender, "still-there"), (firefox, "closed"), came_back=(back,)),
        closings((blender, "closed"), free_before_bytes=2**30, free_after_bytes=3 * 2**30),
    ]
    bridge.verdicts = [
        replace(check, figures=tuple(replace(figure, needed=3.5 * 2**30) for figure in check.figures))
        if check.id == "free-vram"
        else check
        for check in bridge.verdicts
    ]
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: "blender" in text(app))
        await pilot.press("a", "enter", "y")
        await until(pilot, lambda: isinstance(app.screen, KillQuestion))
        assert "Kill 1 program?" in text(app) and "firefox (pid 2210)" not in text(app)
        await pilot.press("enter", "n")
        await until(pilot, lambda: "K  kill what is still there" in text(app))
        assert len(bridge.closed) == 1 and "! came back    firefox (pid 5120)" in text(app)
        await pilot.press("K", "y")
        await until(pilot, lambda: "still there" not in text(app) and "came free" in text(app))
        assert bridge.closed[1] == ((4410,), True)
        shown = text(app)
        assert shown.count("✓ closed") == 2 and "VRAM free 1.27 GiB → 3.00 GiB" in shown
        assert "✗ not enough: the run needs 3.50 GiB, 512 MiB more" in shown


async def test_while_programs_close_the_keys_answer() -> None:
    bridge, gate = RecordedBridge(), threading.Event()
    blender = bridge.open.processes[0]

    def slow(processes: Any, kill: bool = False) -> Any:
        gate.wait(20)
        return closings((blender, "refused"), free_before_bytes=None, free_after_bytes=None)

    bridge.close_processes = slow  # type: ignore[method-assign]
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: "blender" in text(app))
        await pilot.press("space", "enter", "y")
        await until(pilot, lambda: "Waiting for 1 program to end: 1 s of at most 8 s" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "is told within" in " ".join(text(app).split()))
        gate.set()
        await until(pilot, lambda: "! refused" in text(app))
        assert "This user may not end it." in text(app) and "what came free is not known" in text(app)


async def test_memory_that_the_driver_does_not_tell_is_not_none() -> None:
    bridge = RecordedBridge()
    processes = tuple(replace(process, gpu_bytes=None) for process in bridge.open.processes)
    bridge.open = replace(bridge.open, processes=processes, note="The driver does not tell how much.")
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: "not tell how much." in text(app))
        shown = text(app)
        assert "The driver does" in shown and " none " not in shown
        assert "The most GPU memory comes first" not in shown, "the order is another one then"
        assert "GPU memory " not in shown.split("program", 1)[1].splitlines()[0]
        assert re.search(r"4410 +ana +3.00 GiB +3 d", shown), "RAM has its column on a narrow screen, too"
        bridge.open = replace(bridge.open, processes=(), free_bytes=None, note="")
        await pilot.press("r")
        await until(pilot, lambda: "No program holds GPU memory" in text(app))
        assert "No GPU can be read here." in text(app)


async def test_names_from_outside_are_shown_and_never_obeyed() -> None:
    evil = f"[bold red]{''.join(HOSTILE.values())}[/] [@click=app.quit]x[/]"
    bridge = RecordedBridge()
    may = program(77, evil, user=evil, why_not=evil)
    long = program(78, evil + "A" * 4096, user="\x1b[2J\u202e", may_close=False, why_not=evil)
    bridge.open = replace(bridge.open, processes=(may, long), note=evil)
    bridge.closing_reports = [closings((may, "still-there"), came_back=(long,))]
    bridge.verdicts = [
        replace(check, title=evil, evidence=evil, remedy=evil, remedy_action="tick")
        for check in bridge.verdicts
    ]

    def is_harmless(app: Any) -> bool:
        shown = text(app)
        assert not any(ord(character) < 32 and character != "\n" for character in shown)
        assert not any(bad in shown for bad in "\x7f\x9b\x90\x9c\u202e\u2066\u200b\u2028\ud800")
        return "[bold red]" in shown

    async with opened(bridge, (120, 34)) as (app, pilot):
        await settled(app, pilot)
        for keys in (("g",), ("enter",), ("enter",), ("space",), ("escape", "x"), ("space", "j"), ("enter",)):
            await pilot.press(*keys)
            await pilot.pause(0.2)
            assert is_harmless(app), keys
        assert isinstance(app.screen, CloseQuestion)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, KillQuestion))
        assert is_harmless(app)
        await pilot.press("n")
        await pilot.pause(0.1)
        assert is_harmless(app) and app.is_running
