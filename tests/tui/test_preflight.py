"""The preflight screen by keys, with verdicts that are handed to it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from msgspec.structs import replace

from engine.errors import BlockedError, RunFailedError
from engine.records import Check, CheckStep, Figure
from tests.tui.piloted import SIZES, opened, settled, text, until
from tests.tui.recorded import RecordedBridge, checks, in_state, unticked
from tui.dialogs.tick import TickDialog
from tui.dialogs.waive import WaiveDialog
from tui.screens.preflight import PreflightScreen
from tui.widgets.check_detail import figure_rows, without_commands
from tui.widgets.checklist import CheckList, Standing
from tui.widgets.lines import length


def clear() -> RecordedBridge:
    bridge = RecordedBridge()
    bridge.verdicts = checks(blocking=False)
    return bridge


def row(app: Any, title: str) -> str:
    """The line of a step."""
    lines = (line.lstrip(" ▸") for line in text(app).splitlines())
    return next((line for line in lines if line.startswith(title) and "··" in line), "")


async def detail(app: Any, pilot: Any) -> str:
    """All that is beside the list, page by page."""
    found = ""
    while True:
        pages = (" ".join(line.split("│")[1:2]) for line in text(app).splitlines())
        found += " ".join(" ".join(pages).split()) + " "
        if "PgDn" not in text(app):
            return found
        await pilot.press("pagedown")
        await pilot.pause(0.05)


@pytest.mark.parametrize("size", SIZES)
async def test_every_step_has_a_line_that_ends_in_its_state(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(), size) as (app, pilot):
        await settled(app, pilot)
        for check in checks():
            shown = row(app, check.title[:18])
            assert {"pass": "✓", "fail": "✗", "warn": "!"}.get(check.status, "–") in shown
        places = [text(app).index(row(app, check.title[:18])) for check in checks()]
        assert places == sorted(places)
        assert "2 checks block: Close applications, Power supply." in text(app)
        # The cursor went to the first that blocks; its evidence, remedy and keys are beside it.
        assert "▸ Close applications" in text(app)
        beside = await detail(app, pilot)
        for words in ("blocks the start", "1.86 GiB", "What to do", "choose what to close", "with a reason"):
            assert words in beside, words


async def test_more_steps_than_rows_are_reached_by_the_cursor() -> None:
    bridge = clear()
    bridge.verdicts += [
        replace(bridge.verdicts[-1], id=f"manual-{n}", title=f"own step {n}") for n in range(2, 16)
    ]
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot, "UNLOCKED")
        assert "own step 15" not in text(app) and "▼" in text(app)
        await pilot.press("G")
        await pilot.pause(0.05)
        assert "▸ own step 15" in text(app) and "Settings ··" not in text(app) and "▲" in text(app)
        await pilot.press("g")
        await pilot.pause(0.05)
        assert "▸ Settings" in text(app)
        await pilot.press("j", "down", "k")
        await pilot.pause(0.05)
        assert "▸ Corpus" in text(app)


def test_what_is_known_stands_there_in_its_age_until_there_is_news() -> None:
    found = {check.id: check for check in checks(blocking=False)}
    known = {key: replace(check, at=time.time() - 3 * 3600) for key, check in found.items()}
    steps = tuple(CheckStep(id=check.id, title=check.title) for check in found.values())

    def line(running_s: float | None, verdicts: dict[str, Check], at: int) -> str:
        widget = CheckList()
        widget._standing = Standing(steps, verdicts, known, running_s)
        widget._rows = [(index, 0) for index in range(len(steps))]
        return "".join(part for part, _ in widget.draw_row(at, 37))

    assert line(0.2, {}, 7).endswith("3 h ✓ pass   ")
    assert "3 h" not in line(0.2, found, 7), "its verdict is new"
    assert line(None, {}, 7).endswith("3 h ✓ pass   "), "nothing is being checked"
    assert line(4.2, {}, 7).endswith("4 s … running")
    assert "· waiting" in line(4.2, {}, 13), "the rehearsal comes last"
    assert "4 s … running" in line(4.2, {k: v for k, v in found.items() if k != "rehearsal"}, 13)


async def test_what_is_known_does_not_open_the_start() -> None:
    bridge = clear()
    bridge.known = tuple(replace(check, at=time.time() - 3 * 3600) for check in checks(blocking=False))
    bridge.slow = {"memory": 60.0}
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: " s … running" in row(app, "Memory"), 20)
        assert "CHECKING" in text(app) and "Next lock" not in text(app)
        await pilot.press("s", "g", *"jjjjj")
        await pilot.pause(0.1)
        assert bridge.started == []
        shown = " ".join(text(app).split())
        assert "running for" in shown and "this no longer" in shown, "what it was is in the detail"


async def test_checks_can_be_cancelled_and_made_again_and_hold_no_key() -> None:
    ended = asyncio.Event()
    bridge = RecordedBridge()
    bridge.slow = {"device": 60.0}
    recorded = bridge.checks

    async def watched(waivers: Any, ticks: Any = ()):
        try:
            async for check in recorded(waivers, ticks):
                yield check
        finally:
            ended.set()

    bridge.checks = watched  # type: ignore[method-assign]
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: "c cancels" in text(app))
        await pilot.press("4")
        await until(pilot, lambda: app.current_mode == "runs")
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "preflight")
        await pilot.press("c")
        await until(pilot, lambda: "CANCELLED" in text(app) and ended.is_set())
        assert "14 checks have no verdict" in text(app) and "✓ pass" in row(app, "Corpus")
        assert "· unknown" in row(app, "Memory")
        await pilot.press("s")
        await pilot.pause(0.05)
        assert bridge.started == []
        ended.clear()
        await pilot.press("r")
        await until(pilot, lambda: "c cancels" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "CANCELLED" in text(app) and ended.is_set())
        bridge.slow = {}
        await pilot.press("r")
        await settled(app, pilot)


async def test_s_goes_from_one_lock_to_the_next_and_covers_nothing() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("g")
        for title in ("Close applications", "Power supply", "Close applications"):
            await pilot.press("s")
            await pilot.pause(0.05)
            assert f"▸ {title}" in text(app), title
        assert "s Next lock" in text(app) and not list(app.query("Toast"))


async def test_while_checking_the_line_counts_and_old_evidence_stays_in_grey() -> None:
    bridge = clear()
    bridge.known = tuple(replace(check, at=time.time() - 3 * 3600) for check in checks(blocking=False))
    bridge.slow = {"device": 60.0}
    async with opened(bridge, (120, 34)) as (app, pilot):
        await until(pilot, lambda: " s … running" in row(app, "Memory"), 20)
        known = next(check for check in bridge.known if check.id == "memory")
        assert known.evidence[:25] in row(app, "Memory")
        shown = " ".join(text(app).split())
        assert re.search(r"CHECKING 2 of 16 done, \d+ s · c cancels", shown)
        assert "not through" not in shown
        assert "laptop on a hard surface, fan free" in text(app), "a title is not cut where there is room"


async def test_a_high_screen_gives_a_warning_two_rows_and_the_cursor_one_stop() -> None:
    bridge = RecordedBridge()
    long = " ".join(f"word{n}" for n in range(40))
    bridge.verdicts = [
        replace(check, evidence=long) if check.id in ("close-apps", "memory") else check
        for check in bridge.verdicts
    ]
    async with opened(bridge, (120, 50)) as (app, pilot):
        await settled(app, pilot)
        lines = text(app).splitlines()
        at = next(n for n, line in enumerate(lines) if "Close applications" in line)
        assert "word0" in lines[at] and lines[at + 1].strip().startswith("word")
        assert "VRAM free" in lines[at + 2], "two rows at most"
        passed = next(n for n, line in enumerate(lines) if "Memory ·" in line)
        assert "Disk for checkpoints" in lines[passed + 1], "what passed has one"
        await pilot.press("j")
        await pilot.pause(0.05)
        assert "▸ VRAM free" in text(app)
        await pilot.click("CheckList", offset=(10, at))
        await pilot.pause(0.05)
        assert "▸ Close applications" in text(app)
        await pilot.resize_terminal(120, 34)
        await pilot.pause(0.1)
        lines = text(app).splitlines()
        assert "▸ Close applications" in text(app)
        assert "VRAM free" in lines[next(n for n, s in enumerate(lines) if "▸" in s) + 1]


@pytest.mark.parametrize("size", SIZES)
async def test_enter_gives_the_detail_the_room_and_takes_it_back(size: tuple[int, int]) -> None:
    bridge = RecordedBridge()
    long = " ".join(f"word{n}" for n in range(700))
    bridge.verdicts[3] = replace(bridge.verdicts[3], evidence=f"It begins. {long} It ends.")
    async with opened(bridge, size) as (app, pilot):
        await settled(app, pilot)
        assert "It ends." not in text(app) and "PgDn" in text(app)
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert "Enter: back" in text(app) and ("Corpus ··" in text(app)) == (size[0] > 100)
        while "PgDn" in text(app):
            await pilot.press("pagedown")
            await pilot.pause(0.01)
        await pilot.pause(0.05)
        shown = " ".join(text(app).replace("│", " ").split())
        assert "It ends." in shown and "What to do" in shown and "choose what to close" in shown
        await pilot.press("j")
        await pilot.pause(0.05)
        assert "1.27 GiB of 4.00 GiB free" in text(app), "the next step, still at large"
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert "Corpus ··" in text(app) and "Enter: back" not in text(app)
        await pilot.press("j")
        await pilot.pause(0.05)
        assert "▸ Memory" in text(app)


async def test_numbers_before_and_after_stand_in_rows() -> None:
    async with opened(clear()) as (app, pilot):
        await settled(app, pilot, "UNLOCKED")
        await pilot.press("j", "j", "j", "j")
        await pilot.pause(0.05)
        lines = [line.split("│")[1].rstrip() for line in text(app).splitlines() if "│" in line]
        at = next(i for i, line in enumerate(lines) if "before" in line)
        assert lines[at].split() == ["before", "now", "limit"]
        assert lines[at + 1].split() == ["VRAM", "free", "1.27", "GiB", "3.30", "GiB", "1.10", "GiB"]
        assert len(lines[at]) == len(lines[at + 1]), "right-aligned under their headings"


def test_a_remedy_names_no_command_where_a_key_does_it() -> None:
    told = "Close what holds it (llm-tui close), or choose a smaller model.preset."
    assert without_commands(told) == "Close what holds it, or choose a smaller model.preset."
    assert without_commands("Close them, so that they draw no power: llm-tui close").endswith("no power.")
    assert without_commands("Raise it: 3.5 GiB.") == "Raise it: 3.5 GiB."


@pytest.mark.parametrize("width", (12, 20, 30, 36, 60, 150))
def test_figures_fit_and_do_not_invent(width: int) -> None:
    figures = (
        Figure(label="validation of a batch", unit="s", now=None),
        Figure(label="GPU", unit="celsius", now=52.0, needed=75.0),
        Figure(label="\x1b[2J", unit="count", now=3.0, before=0.0),
    )
    lines = figure_rows(figures, width)
    shown = "\n".join("".join(part for part, _ in line) for line in lines)
    if width >= 30:
        assert all(length(line) <= width for line in lines)
    assert "—" in shown and shown.count("52 °C") == 1 and "\x1b" not in shown
    assert shown.count("0") == 1, "only what was counted as none"


async def test_a_waiver_can_be_taken_back_and_what_cannot_be_waived_has_no_key() -> None:
    bridge = RecordedBridge()
    bridge.verdicts[7] = replace(bridge.verdicts[7], is_waivable=False)
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        await pilot.press("w")
        assert isinstance(app.screen, WaiveDialog)
        await pilot.press(*"test", "enter")
        await until(pilot, lambda: "~ waived" in row(app, "Close applications"))
        assert "1 check blocks: Power supply." in text(app) and "Waived: test" in await detail(app, pilot)
        await pilot.press("w")
        await until(pilot, lambda: "✗ FAIL" in row(app, "Close applications"))
        await pilot.press("j", "j", "j", "j")
        await pilot.pause(0.05)
        assert "▸ Power supply" in text(app) and "w Waive" not in text(app)
        await pilot.press("w")
        await pilot.pause(0.05)
        assert isinstance(app.screen, PreflightScreen)


async def test_own_steps_are_ticked_for_one_start_and_the_rehearsal_follows() -> None:
    bridge = RecordedBridge()
    bridge.verdicts = unticked()
    rehearsal = bridge.verdicts[13]
    bridge.verdicts[13] = replace(rehearsal, status="skipped", evidence="Made once nothing else blocks.")
    given: list[Any] = []
    recorded = bridge.checks

    async def watched(waivers: Any, ticks: Any = ()):
        given.append(ticks)
        if ticks:
            bridge.verdicts[13] = rehearsal
        async for check in recorded(waivers, ticks):
            yield check

    bridge.checks = watched  # type: ignore[method-assign]
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        assert "1 check blocks: laptop on a hard surface, fan free. space" in text(
            app
        ) and "space Tick" in text(app)
        assert "See that it is so, then tick it." in " ".join(app.screen.detail.plain.split())
        assert "--tick" not in text(app), "here a key does it"
        await pilot.press("space")
        assert isinstance(app.screen, TickDialog) and "fan free" in text(app)
        await pilot.press("escape", "space", "enter")
        await until(pilot, lambda: "UNLOCKED" in text(app) and len(given) == 2)
        assert given[-1] == ("manual-1",) and "✓ pass" in row(app, "Rehearsal")
        await pilot.press("space")
        await until(pilot, lambda: "1 check blocks: laptop on a hard surface" in text(app))
        await pilot.press("space", "enter")
        await until(pilot, lambda: "UNLOCKED" in text(app))
        await pilot.press("s")
        await until(pilot, lambda: app.current_mode == "run")
        assert bridge.started == [{"manual-1": "ticked"}]
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "preflight")
        assert app.screen._board.ticks == set(), "a tick counts for one start"


async def test_a_rehearsal_that_is_switched_off_is_not_waited_for() -> None:
    bridge = RecordedBridge()
    bridge.verdicts = unticked()
    bridge.verdicts[13] = replace(bridge.verdicts[13], status="skipped")
    steps = bridge.steps()
    bridge.steps = lambda: tuple(replace(step, is_off=step.id == "rehearsal") for step in steps)  # type: ignore[method-assign]
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot)
        found = dict(app.screen._board.verdicts)
        await pilot.press("space", "enter")
        await until(pilot, lambda: "✓ UNLOCKED" in text(app))
        assert app.screen._board.verdicts["settings"] is found["settings"], "nothing was made anew"


async def test_a_applies_the_remedy_and_a_refusal_is_told() -> None:
    bridge = RecordedBridge()
    bridge.verdicts[9] = replace(
        bridge.verdicts[9], status="fail", blocking=True, remedy_action="enable-linger"
    )
    async with opened(bridge, (120, 34)) as (app, pilot):
        await settled(app, pilot)
        assert "a Apply" not in text(app)
        await pilot.press("g", *"jjjjjjjjj")
        await pilot.pause(0.05)
        assert "let runs outlive the logout" in text(app) and "a Apply" in text(app)
        bridge.failure = RunFailedError("loginctl: [red]Access denied[/red]", "Ask an administrator.")
        await pilot.press("a")
        await until(pilot, lambda: "[red]Access denied[/red]" in text(app))
        bridge.failure = None
        bridge.verdicts[9] = checks()[9]
        await pilot.press("a")
        await until(pilot, lambda: bridge.applied == ["enable-linger"])
        await until(pilot, lambda: "✓ pass" in row(app, "Survives logout"))


async def test_old_verdicts_are_made_anew_before_the_start() -> None:
    bridge = clear()
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot, "UNLOCKED")
        board = app.screen._board
        board.verdicts = {key: replace(check, at=time.time() - 61) for key, check in board.verdicts.items()}
        bridge.verdicts = checks()
        await pilot.press("s")
        await until(pilot, lambda: "Not started. Close applications was pass, is FAIL." in text(app))
        assert bridge.started == [] and "▸ Close applications" in text(app)
        bridge.verdicts = checks(blocking=False)
        await pilot.press("r")
        await settled(app, pilot, "UNLOCKED")
        board.verdicts = {key: replace(check, at=time.time() - 61) for key, check in board.verdicts.items()}
        bridge.slow = {"disk": 0.3}
        await pilot.press("s")
        await until(pilot, lambda: "It starts by itself" in text(app))
        await until(pilot, lambda: app.current_mode == "run" and app.snapshot is not None)
        assert bridge.started == [{}]


async def test_what_the_supervisor_found_changed_is_shown_in_the_list() -> None:
    bridge = clear()
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot, "UNLOCKED")
        bridge.failure = BlockedError("power: On battery.", "Plug it in.")
        bridge.verdicts = checks()
        await pilot.press("s")
        await until(pilot, lambda: "✗ FAIL" in row(app, "Power supply"))
        await until(pilot, lambda: "Not started. power: On battery. Plug it in." in text(app))
        assert app.current_mode == "preflight" and "✗ LOCKED" in text(app)


async def test_coming_back_after_a_run_checks_again() -> None:
    bridge = clear()
    async with opened(bridge) as (app, pilot):
        await settled(app, pilot, "UNLOCKED")
        await pilot.press("s")
        await until(pilot, lambda: app.current_mode == "run" and app.snapshot is not None)
        await pilot.press("1")
        await until(pilot, lambda: "NOT CHECKED" in text(app))
        bridge.shots = {key: in_state("finished") for key in bridge.shots}
        await pilot.press("2")
        await until(pilot, lambda: app.snapshot.status.state.is_over)
        await pilot.press("1")
        await settled(app, pilot, "UNLOCKED")
