"""The start from the preflight screen: locked, waived, refused."""

from __future__ import annotations

from engine.errors import BlockedError
from tests.tui.piloted import opened, text, until
from tests.tui.recorded import (
    RUN_ID,
    RecordedBridge,
    checks,
    in_state,
)
from tui.dialogs.waive import WaiveDialog


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
