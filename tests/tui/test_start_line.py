"""The start from the preflight screen: locked, waived, refused."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from engine.errors import BlockedError
from tests.tui.piloted import opened, text, until
from tests.tui.recorded import (
    RUN_ID,
    RecordedBridge,
    checks,
    in_state,
    unticked,
)
from tui.dialogs.waive import WaiveDialog
from tui.messages import RemedyApplied, RunStarted


async def test_locked_until_every_blocking_check_is_waived_with_a_reason() -> None:
    bridge = RecordedBridge()
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: "LOCKED" in text(app))
        shown = text(app)
        assert (
            "2 checks block: Close applications, Power supply." in shown
            and "✗ FAIL" in shown
            and "~" not in shown
        )
        assert "3 to close: blender" in shown
        await pilot.press("s", "s")
        assert bridge.started == []
        await pilot.press("w")
        assert isinstance(app.screen, WaiveDialog)
        await pilot.press("n", "o", "enter")
        assert isinstance(app.screen, WaiveDialog) and "at least 3 characters" in text(app)
        await pilot.press("p", "e", "enter")
        await pilot.pause(0.05)
        assert "1 check blocks: Power supply." in text(app) and "~ waived" in text(app)
        await pilot.press("j", "j", "j", "j", "w")
        await pilot.press("u", "p", "s", "enter")
        await until(pilot, lambda: "UNLOCKED" in text(app))
        await pilot.press("s")
        await until(pilot, lambda: app.current_mode == "run" and app.snapshot is not None)
        assert bridge.started == [{"close-apps": "nope", "power": "ups"}]
        assert app.followed_id == RUN_ID


async def test_a_refused_start_says_why_and_stays() -> None:
    bridge = RecordedBridge()
    bridge.verdicts = checks(blocking=False)
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: "UNLOCKED" in text(app))
        bridge.failure = BlockedError("power: On battery.", "Plug it in.")
        await pilot.press("s")
        await until(pilot, lambda: "Not started. power: On battery. Plug it in." in text(app))
        assert app.current_mode == "preflight"
        bridge.failure = None
        await pilot.press("r")
        await until(pilot, lambda: "UNLOCKED" in text(app))


async def test_with_a_run_going_the_checks_wait_to_be_asked() -> None:
    async with opened(RecordedBridge(in_state("running"))) as (app, pilot):
        await pilot.press("1")
        await pilot.pause(0.1)
        assert "NOT CHECKED" in text(app) and RUN_ID in text(app)
        await pilot.press("r")
        await until(pilot, lambda: "LOCKED" in text(app))


async def test_while_a_run_is_started_no_check_begins_and_nothing_is_offered_that_would() -> None:
    goes_on = threading.Event()

    class Slow(RecordedBridge):
        def start(self, waivers: Mapping[str, str], ticks: Sequence[str] = ()) -> str:
            assert goes_on.wait(60)
            return super().start(waivers, ticks)

    bridge = Slow()
    bridge.verdicts = unticked()
    async with opened(bridge, (160, 34)) as (app, pilot):
        await until(pilot, lambda: "LOCKED" in text(app))
        await pilot.press("space", "enter")
        await until(pilot, lambda: "UNLOCKED" in text(app) and "space Tick" in text(app))
        try:
            await pilot.press("s")
            await until(pilot, lambda: "STARTING" in text(app))
            screen = app.screen
            assert "space Tick" not in text(app) and "x Close" not in text(app)
            await pilot.press("x", "space")
            assert app.screen is screen and screen._board.ticks
            screen.post_message(RemedyApplied("enable-linger: done."))
            await until(pilot, lambda: len(app._notifications) == 1)
            await pilot.pause(0.05)
            assert "STARTING" in text(app)
        finally:
            goes_on.set()
        await until(pilot, lambda: app.current_mode == "run")
        assert len(bridge.started) == 1


async def test_checks_that_run_as_a_run_is_started_are_ended() -> None:
    bridge = RecordedBridge()
    bridge.slow = {"device": 60.0}
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: "c cancels" in text(app))
        screen = app.screen
        checking = [worker for worker in app.workers if worker.group == "checks"]
        bridge.shots[RUN_ID] = in_state("preparing")
        screen.post_message(RunStarted(RUN_ID))
        await until(pilot, lambda: app.current_mode == "run")
        await until(pilot, lambda: bool(checking) and all(worker.is_cancelled for worker in checking))
