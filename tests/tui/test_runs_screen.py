"""The runs screen by its keys: filter, tags, marks, the comparison, archiving and deleting."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from engine.records import DamagedRun, TimeSpan
from engine.shelf import Removal, RemovalKind
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import RUN_ID, RecordedBridge, in_state, summary
from tui.dialogs.remove_run import RemoveRunDialog
from tui.late_messages import RunRemoved
from tui.messages import RunsArrived
from tui.screens.compare import CompareScreen
from tui.widgets.overlay_panels import OverlayChart
from tui.widgets.run_facts import RunFacts
from tui.widgets.run_table import matches

FINISHED, FAILED, BROKEN = "1120-done", "1121-broken", "1119-torn"


def shelf() -> RecordedBridge:
    bridge = RecordedBridge(in_state("running"))
    for run_id, state in ((FINISHED, "finished"), (FAILED, "failed")):
        shot = in_state(state)
        bridge.shots[run_id] = replace(shot, status=replace(shot.status, id=run_id))
    return bridge


@asynccontextmanager
async def listed(bridge: RecordedBridge, size: tuple[int, int] = (80, 24)):
    async with opened(bridge, size) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: FAILED in text(app))
        yield app, pilot


def marks(app: Any) -> str:
    """The letters of the marked runs, from the top."""
    return "".join(line[1] for line in text(app).splitlines()[2:5]).strip()


def test_a_filter_is_words_that_are_there_and_words_that_are_not() -> None:
    run = replace(summary(in_state("failed"), FAILED), tags=("night", "muon"))
    assert matches(run, "") and matches(run, "tiny failed") and matches(run, "#night -finished")
    assert not matches(run, "tiny finished") and not matches(run, "-muon") and matches(run, "-")


@pytest.mark.parametrize("size", SIZES)
async def test_a_filter_narrows_the_list_as_one_types(size: tuple[int, int]) -> None:
    async with listed(shelf(), size) as (app, pilot):
        await pilot.press("slash", *"fin")
        await until(pilot, lambda: FAILED not in text(app))
        assert "/ Filter" not in text(app) and "p Pause" not in text(app), "letters are typed now"
        await pilot.press("enter")
        await until(pilot, lambda: FINISHED in text(app) and RUN_ID not in text(app))
        line = text(app).splitlines()[-2]
        assert line.startswith("  / fin ") and line.endswith("1 of 3  ")
        assert "esc Clear" in text(app) or size[0] < 100
        await pilot.press("escape")
        await until(pilot, lambda: FAILED in text(app) and RUN_ID in text(app))
        await pilot.press("slash", *"zzz", "escape")
        await until(pilot, lambda: FAILED in text(app))


async def test_a_screen_with_room_draws_the_selected_run_and_then_the_marked_ones() -> None:
    async with listed(shelf(), (120, 34)) as (app, pilot):
        chart = app.screen.query_one(OverlayChart)
        await until(pilot, lambda: f"Training loss of {RUN_ID}" in text(app))
        assert " a" not in chart.plain, "one alone needs no letter"
        assert "#" not in text(app) and "Tags" not in text(app).splitlines()[1], (
            "no room for the tags as well"
        )
        await pilot.press("space", "space")
        await until(pilot, lambda: "a  b" in chart.plain and "Training loss: 2 marked" in text(app))


@pytest.mark.parametrize("size", SIZES)
async def test_why_a_run_failed_stands_under_its_state_and_unknown_facts_are_left_out(
    size: tuple[int, int],
) -> None:
    bridge = shelf()
    shot = bridge.shots[FAILED]
    why = "The trainer has died three times: " + "CUDA error: an illegal memory access was encountered. " * 3
    status = replace(shot.status, reason=why + "The end.", eta_s=None, machine_energy_j=None)
    bridge.shots[FAILED] = replace(shot, status=status)
    async with listed(bridge, size) as (app, pilot):
        await pilot.press("j", "j")
        await until(pilot, lambda: FAILED in str(app.screen.about.border_title))
        rows = [row.strip() for row in app.screen.about.plain.splitlines()]
        assert rows[0] == "✗ failed" and rows[1].startswith("The trainer has died")
        assert "The end." in " ".join(rows) and "began" in " ".join(rows)
        assert "—" not in app.screen.about.plain and "left" not in [row.split(" ")[0] for row in rows]
        assert app.screen.about.size.height > size[1] // 3, "the room below the table is used"


def test_a_reason_longer_than_its_panel_leaves_room_for_the_first_facts() -> None:
    panel = RunFacts()
    shot = in_state("failed")
    panel.show_run(summary(replace(shot, status=replace(shot.status, reason="word " * 300)), FAILED))
    lines = ["".join(piece for piece, _ in line) for line in panel.draw(40, 8)]
    assert len(lines) == 8 and lines[5].endswith("…") and lines[6].startswith("began")


async def test_states_in_the_table_have_their_colours_in_every_theme() -> None:
    async with listed(shelf(), (120, 34)) as (app, pilot):
        table = app.screen.table

        def colours() -> list[str]:
            cells = [table.get_cell_at((row, 2)) for row in range(3)]
            return [str(cell.spans[0].style.color.triplet.hex) for cell in cells]

        def named(*tokens: str) -> list[str]:
            return [app.theme_variables[token].lower() for token in tokens]

        assert colours() == named("success", "success", "error")
        await pilot.press("j", "j")
        app.theme = "nord"
        await until(pilot, lambda: colours() == named("success", "success", "error"))
        assert table.cursor_row == 2


async def test_tags_are_given_shown_and_found() -> None:
    bridge = shelf()
    async with listed(bridge, (140, 34)) as (app, pilot):
        await pilot.press("j", "t", *"best night")
        assert f"tags of {FINISHED}: best night" in text(app).splitlines()[-2]
        await pilot.press("enter")
        await until(pilot, lambda: "#best #night" in text(app))
        assert bridge.tags == {FINISHED: ("best", "night")}
        await pilot.press("slash", *"#best", "enter")
        await until(pilot, lambda: FAILED not in text(app) and FINISHED in text(app))
        await pilot.press("t", *"x" * 30, "enter")
        await until(pilot, lambda: "cannot be a tag" in text(app))


@pytest.mark.parametrize("size", SIZES)
async def test_marked_runs_are_overlaid_with_one_cursor_and_their_differences(size: tuple[int, int]) -> None:
    async with listed(shelf(), size) as (app, pilot):
        await pilot.press("o")
        assert not isinstance(app.screen, CompareScreen), "nothing is marked"
        await pilot.press("space", "space")
        await pilot.pause(0.05)
        assert "2 marked, o compares" in text(app) and marks(app) == "ab"
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and "3 differences" in text(app))
        shown = text(app)
        for words in ("training.optimizer", "muon", "adamw", "builtin:python", RUN_ID, FINISHED, "0.002"):
            assert words in shown, words
        chart = app.screen.query_one(OverlayChart)
        assert chart.plain.splitlines()[0].strip() and " b" in chart.plain
        await pilot.press("home", *["right"] * 3)
        await pilot.pause(0.05)
        assert "tokens" in chart.plain
        assert re.search(r"b +\d\.\d{3} +\+\d\.\d{3} ", text(app)), "how far the second is from the first"
        readings = app.screen.readings.plain
        assert readings.splitlines()[0].split() == ["loss", "to", "a", "step", "run"]
        assert "841 k" not in readings, "what a run has in all is not told as of the cursor"
        await pilot.press("end")
        await pilot.pause(0.05)
        assert "a       —" in text(app), "the first has not come so far"
        assert not re.search(r"\d\.\d{3}", chart.plain), "it is read once, in the table"
        await pilot.press("v")
        await pilot.pause(0.05)
        assert "Validation loss" in text(app)
        assert "← → Cursor" in text(app) and "m Smooth" in text(app)
        await pilot.press("escape")
        assert isinstance(app.screen, CompareScreen) and chart.cursor_tokens is None
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, CompareScreen) and FAILED in text(app))
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert marks(app) == ""


async def test_deleting_asks_says_what_it_frees_and_leaves_what_is_going() -> None:
    bridge = shelf()
    async with listed(bridge) as (app, pilot):
        await pilot.press("D")
        await pilot.pause(0.1)
        assert not app.screen.is_modal, "the selected run is going"
        await pilot.press("j", "D")
        await until(pilot, lambda: isinstance(app.screen, RemoveRunDialog))
        assert "85.1 MiB" in text(app) and FINISHED in text(app) and "cannot be had back" in text(app)
        parts = [app.screen.query_one(name) for name in ("#frees", "#goes", "#stays")]
        assert len({part.region.x for part in parts}) == 1, "what is long wraps below itself"
        await pilot.press("enter", "n")
        await pilot.pause(0.05)
        assert bridge.removed == [] and not app.screen.is_modal
        await pilot.press("a")
        await until(pilot, lambda: "Archive this run?" in text(app))
        await pilot.press("y")
        await until(pilot, lambda: bridge.removed == [(FINISHED, "archive")])
        await pilot.press("D")
        await until(pilot, lambda: "Delete this run?" in text(app))
        await pilot.press("y")
        await until(
            pilot, lambda: "deleted: 85.1 MiB freed" in text(app) and f" {FINISHED}  " not in text(app)
        )
        assert bridge.removed[-1] == (FINISHED, "delete")


async def test_a_list_read_before_a_deletion_does_not_bring_the_run_back() -> None:
    bridge = shelf()
    async with listed(bridge) as (app, pilot):
        before = RunsArrived(tuple(run for run in app.runs if run.id == FINISHED))
        app.look_at(FINISHED)
        app.trouble, app.span = "This run cannot be read: torn", TimeSpan(width_s=300)
        told = bridge.remove(FINISHED, "delete")
        app.screen.post_message(RunRemoved(told))
        await until(pilot, lambda: app.followed_id != FINISHED)
        assert (app.trouble, app.span) == ("", None)
        app.followed_id = None
        app._take_runs(before)
        assert app.followed_id == FINISHED, "as long as nothing newer is known"
        await until(pilot, lambda: app.followed_id == RUN_ID)
        assert FINISHED not in [run.id for run in app.runs]
        bridge.shots.clear()
        await until(pilot, lambda: app.followed_id is None and app.snapshot is None)


@pytest.mark.parametrize("size", SIZES)
async def test_a_damaged_run_is_listed_says_what_is_wrong_and_can_be_deleted(size: tuple[int, int]) -> None:
    class Damaged(RecordedBridge):
        def removal(self, run_id: str, kind: RemovalKind) -> Removal:
            assert (run_id, kind) == (BROKEN, "delete")
            return Removal(run_id=run_id, kind=kind, freed_bytes=2**30, goes="the whole folder", stays="—")

        def remove(self, run_id: str, kind: RemovalKind) -> Removal:
            self.removed.append((run_id, kind))
            self.damaged = ()
            return self.removal(run_id, kind)

    bridge = Damaged(in_state("running"))
    damage = f"/home/ana/gpt/runs/{BROKEN}/run.db is damaged: file is not a database"
    bridge.damaged = (DamagedRun(id=BROKEN, damage=damage, remedy="Restore it from a copy."),)
    async with opened(bridge, size) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: f"{BROKEN}" in text(app))
        await pilot.press("j")
        await until(pilot, lambda: app.screen.about.plain.startswith("✗ damaged"))
        about = " ".join(app.screen.about.plain.split())
        assert "not a database" in about
        assert "Restore it from a copy." in about and "D Delete" in text(app) and "a Archive" not in text(app)
        assert "r Resume" in text(app) and "x Stop" not in text(app), "going on makes its store anew"
        await pilot.press("enter", "space", "t", "s", "S", "s")
        assert app.current_mode == "runs" and not app.screen.is_modal
        await pilot.press("slash", *"damaged", "enter")
        await until(pilot, lambda: RUN_ID not in text(app))
        await pilot.press("D")
        await until(pilot, lambda: "1.00 GiB" in text(app) and isinstance(app.screen, RemoveRunDialog))
        await pilot.press("y")
        await until(pilot, lambda: bridge.removed == [(BROKEN, "delete")])
        await until(pilot, lambda: f" {BROKEN} " not in text(app))


async def test_the_help_tells_the_keys_of_the_list() -> None:
    async with listed(shelf(), (120, 34)) as (app, pilot):
        await pilot.press("question_mark")
        assert "archive or delete" in text(app) and "-word leaves out" in text(app)


async def test_equal_lists_send_nothing() -> None:
    bridge = RecordedBridge(in_state("paused"))
    async with opened(bridge) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: RUN_ID in text(app))
        await pilot.pause(0.3)
        painted: list[Any] = []
        app._driver.write = painted.append  # type: ignore[union-attr,method-assign]
        for _ in range(3):
            app.follower.wake()
            await pilot.pause(0.1)
        assert painted == []
