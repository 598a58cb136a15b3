"""Keys are pressed, and what a person then sees and what the engine was asked is looked at."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from textual.events import Key

from engine.errors import StoreError
from engine.records import EventRow, RunState, RunSummary, TextSampleRow
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import (
    CPU,
    RUN_ID,
    RecordedBridge,
    checks,
    digest,
    entry,
    in_state,
    snapshot,
)
from tests.tui.test_format import HOSTILE
from tui import format as fmt
from tui.dialogs.confirm import StopRunDialog, WelcomeDialog
from tui.dialogs.digest import DigestDialog
from tui.dialogs.help import HelpDialog
from tui.messages import RunsArrived
from tui.widgets.header_line import HeaderLine
from tui.widgets.key_line import KeyLine

STATES = ("running", "gpu", "preparing", "paused", "stale", "abandoned", "failed", "stopped", "finished")


async def test_opens_on_the_run_that_is_going_else_on_the_checks() -> None:
    async with opened(RecordedBridge(in_state("running"))) as (app, _):
        assert app.current_mode == "run"
    async with opened(RecordedBridge(in_state("abandoned"))) as (app, _):
        assert app.current_mode == "run"
    async with opened(RecordedBridge(in_state("finished"))) as (app, _):
        assert app.current_mode == "preflight"
    async with opened(RecordedBridge()) as (app, _):
        assert app.current_mode == "preflight"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("state", STATES)
async def test_every_state_of_a_run_shows_what_counts(state: str, size: tuple[int, int]) -> None:
    shot = in_state(state)
    async with opened(RecordedBridge(shot), size) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.pause(0.05)
        shown = text(app)
        words = {"stale": "RUNNING, SILENT", "abandoned": "ABANDONED", "gpu": "RUNNING"}
        assert words.get(state, state.upper()) in shown
        assert shot.cost.cloud is not None
        rented = fmt.money(shot.cost.cloud.usd, "USD")
        for fact in ("Loss", "Heat and power", "Cost", "Events", rented, shot.status.id):
            assert fact in shown
        if shot.status.loss is not None:
            assert (
                f"{shot.status.loss:.3f}" in shown
                and "training" in shown
                and "◆ validation" in shown
                and "tokens" in shown
            )
        if state in ("abandoned", "failed", "stopped"):
            assert "Press r" in shown and "r Resume" in shown
        if state == "paused":
            assert "Press p to go on" in shown and "p Go on" in shown
        if state == "stale":
            assert "Silent for 42 s" in shown and "left" not in shown and app.screen.has_class("-stale")
        if state == "preparing":
            assert "5.20 MB of 12.9 MB" in shown and "4.10 MB/s" in shown and "40.3 %" in shown
        if state == "gpu":
            assert "2 d 3 h left" in shown and "69/87 " in shown
        if state == "running":
            assert (
                "estimate" in shown and "3 min 8 s left" in shown and "done " in shown and "p Pause" in shown
            )


async def test_no_sensor_is_said_and_unknown_is_a_dash() -> None:
    shot = snapshot(device=CPU)
    bare = replace(shot, sensors={name: replace(s, buckets=(), now=None) for name, s in shot.sensors.items()})
    async with opened(RecordedBridge(bare)) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.pause(0.05)
        assert text(app).count("no sensor") >= 2 and "machine  — W" in text(app)


async def test_keys_of_the_run_screen_ask_for_their_verbs() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("c")
        await until(pilot, lambda: bridge.asked == [(RUN_ID, "checkpoint")] and not app.asked_verb)
        await pilot.press("p")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.status.state is RunState.PAUSED)
        await pilot.press("c")
        assert bridge.asked[-1] == (RUN_ID, "pause")
        await until(pilot, lambda: not app.asked_verb)
        await pilot.press("p")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.status.state is RunState.RUNNING)
        assert bridge.asked[-1] == (RUN_ID, "resume")


async def test_stop_asks_first_and_r_goes_on() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("x")
        assert isinstance(app.screen, StopRunDialog)
        await pilot.press("1")
        assert isinstance(app.screen, StopRunDialog)
        await pilot.press("escape")
        assert bridge.asked == []
        await pilot.press("x", "y")
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.status.state is RunState.STOPPED)
        assert bridge.asked == [(RUN_ID, "stop")]
        await until(pilot, lambda: not app.asked_verb)
        await pilot.press("r")
        await until(pilot, lambda: bridge.asked[-1] == (RUN_ID, "resume"))


async def test_leaving_says_that_the_run_goes_on() -> None:
    for key in ("d", "q"):
        async with opened(RecordedBridge(in_state("running"))) as (app, pilot):
            await until(pilot, lambda app=app: app.snapshot is not None)
            await pilot.press(key)
        assert app.return_value is not None and RUN_ID in app.return_value and "goes on" in app.return_value
    async with opened(RecordedBridge(in_state("finished"))) as (app, pilot):
        await pilot.press("q")
    assert app.return_value is None


async def test_a_run_that_ends_while_another_screen_is_shown_is_not_told_to_go_on() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("1")
        await until(pilot, lambda: f"Run {RUN_ID} is going" in text(app))
        bridge.shots = {RUN_ID: in_state("finished")}
        await until(pilot, lambda: "is going" not in text(app))
        assert app.snapshot.status.state is RunState.FINISHED
        await pilot.press("q")
    assert app.return_value is None


async def test_a_silence_that_the_list_does_not_tell_of_is_not_forgotten() -> None:
    class Silent(RecordedBridge):
        def runs(self) -> tuple[RunSummary, ...]:
            return tuple(replace(run, is_stale=False) for run in super().runs())

    async with opened(Silent(in_state("stale"))) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("4")
        await until(pilot, lambda: RUN_ID in text(app))
        app._take_runs(RunsArrived(app.runs))
        assert app.snapshot.is_stale


async def test_a_verb_that_breaks_in_an_unexpected_way_is_told_and_the_next_is_asked() -> None:
    class Broken(RecordedBridge):
        error: Exception | None = RuntimeError("database is locked")

        def ask(self, run_id: str, verb: str, *args: Any) -> tuple[bool, str]:
            if self.error:
                raise self.error
            return super().ask(run_id, verb, *args)

    bridge = Broken(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("c")
        await until(pilot, lambda: "database is locked" in text(app) and not app.asked_verb)
        bridge.error = None
        await pilot.press("c")
        await until(pilot, lambda: bridge.asked == [(RUN_ID, "checkpoint")])


async def test_what_cannot_be_read_is_shown_as_such_and_recovers() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        bridge.failure = StoreError("run.db cannot be read: [red]disk[/red] \x1b[2J", "Restore it.")
        await until(pilot, lambda: bool(app.trouble))
        await pilot.pause(0.05)
        assert "cannot be read" in text(app) and "[red]" in text(app) and app.screen.has_class("-stale")
        bridge.failure = None
        await until(pilot, lambda: not app.trouble)
        await pilot.pause(0.05)
        assert "cannot be read" not in text(app) and not app.screen.has_class("-stale")


async def test_nothing_is_polled_that_is_not_shown() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("3")
        await pilot.pause(0.1)
        before = bridge.num_snapshots
        await pilot.pause(1.3)
        assert bridge.num_snapshots == before and app.current_mode == "ledger"


async def test_equal_snapshots_send_nothing() -> None:
    bridge = RecordedBridge(in_state("paused"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.pause(1.2)
        painted: list[Any] = []
        app._driver.write = painted.append  # type: ignore[union-attr,method-assign]
        before = bridge.num_snapshots
        await until(pilot, lambda: bridge.num_snapshots >= before + 2)
        assert painted == []


async def test_an_empty_folder_is_offered_settings() -> None:
    bridge = RecordedBridge(has_settings=False)
    async with opened(bridge) as (app, pilot):
        assert isinstance(app.screen, WelcomeDialog) and "/home/ana/gpt" in text(app)
        assert "134M on a GPU of 4 GB" in text(app) and "Plan (5)" in text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "preflight")
        assert bridge.is_workspace
    refused = RecordedBridge(has_settings=False)
    async with opened(refused) as (app, pilot):
        await pilot.press("q")
        await pilot.pause(0.1)
    assert not refused.is_workspace


@pytest.mark.parametrize("size", SIZES)
async def test_runs_are_listed_and_opened(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(in_state("running"))
    bridge.shots["1120-other"] = replace(
        in_state("failed"), status=replace(in_state("failed").status, id="1120-other")
    )
    async with opened(bridge, size) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: "1120-other" in text(app))
        assert "● running" in text(app) and "✗ failed" in text(app) and "p Pause" in text(app)
        await pilot.press("j")
        await pilot.pause(0.05)
        assert "r Resume" in text(app) and "p Pause" not in text(app)
        bridge.shots = {"1125-new": in_state("running"), **bridge.shots}
        await until(pilot, lambda: "1125-new" in text(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "run" and app.followed_id == "1120-other")


async def test_help_is_written_for_the_screen_one_is_on() -> None:
    async with opened(RecordedBridge(in_state("running"))) as (app, pilot):
        for key, words in (
            ("2", "pause, and go on"),
            ("3", "What every run cost"),
            ("5", "before it runs"),
            ("1", "waive the selected check"),
        ):
            await pilot.press(key)
            await pilot.pause(0.1)
            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpDialog) and words in text(app)
            await pilot.press("escape")


async def test_z_gives_a_panel_the_whole_screen_and_takes_it_back() -> None:
    async with opened(RecordedBridge(in_state("running"))) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("z")
        await pilot.pause(0.05)
        assert app.screen.maximized is not None and "Heat and power" not in text(app)
        await pilot.press("z")
        await pilot.pause(0.05)
        assert app.screen.maximized is None and "Heat and power" in text(app)


async def test_the_palette_knows_the_screens() -> None:
    async with opened(RecordedBridge(in_state("running"))) as (app, pilot):
        await pilot.press("ctrl+p", *"ledger")
        await pilot.pause(0.4)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "ledger")


@pytest.mark.parametrize("size", ((60, 15), (40, 10), (80, 24), (120, 24), (80, 50)))
async def test_odd_sizes_do_not_break_any_screen(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(in_state("gpu"), entries=(entry("one", 60),)), size) as (app, pilot):
        for key in "12345":
            await pilot.press(key)
            await pilot.pause(0.1)
            app.screen.query_one(KeyLine)
            assert "1 P" in app.screen.query_one(HeaderLine).plain


async def test_text_from_outside_is_shown_and_never_obeyed() -> None:
    evil = f"[bold red]{''.join(HOSTILE.values())}[/] [@click=app.quit]x[/]"
    shot = snapshot()
    shot = replace(
        shot,
        plan=replace(shot.plan, device=replace(CPU, name=evil)),
        phase=evil,
        corpus=evil,
        text_sample=TextSampleRow(step=1, at=0.0, prompt=evil, text=evil),
        events=(EventRow(at=0.0, level="error", source="x", kind="x", text=evil),),
        status=replace(shot.status, reason=evil, energy_source=evil, state=RunState.PAUSED),
        cost=replace(shot.cost, machine_source=evil),
    )
    bridge = RecordedBridge(shot, entries=(entry("one", 1, device=evil, corpus=evil, waivers=evil),))
    bridge.verdicts = [replace(check, title=evil, evidence=evil, remedy=evil) for check in checks()]
    async with opened(bridge, (120, 34)) as (app, pilot):
        for key in "21345":
            await pilot.press(key)
            await pilot.pause(0.1)
            if key == "1":
                await pilot.press("r")
                await until(pilot, lambda: "LOCKED" in text(app))
            shown = text(app)
            assert not any(ord(character) < 32 and character != "\n" for character in shown)
            assert not any(bad in shown for bad in "\x7f\x9b\x90\x9c\u202e\u2066\u200b\u2028\ud800")
            assert "[bold red]" in shown or key in "45"
        assert app.is_running


async def test_two_keys_at_once_answer_a_dialog_once() -> None:
    bridge = RecordedBridge(in_state("running"))
    bridge.digest = digest()
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, DigestDialog))
        dialog = app.screen
        for key in ("a", "b"):
            dialog.post_message(Key(key, key))
        await until(pilot, lambda: not app.screen.is_modal)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, StopRunDialog))
        assert app.is_running
