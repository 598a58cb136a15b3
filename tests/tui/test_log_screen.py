"""The log screen by its keys, on the folder of a run with real rows and a real file."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.records import EventRow
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import EVENTS, RUN_ID, RecordedBridge, in_state, recorded_log
from tests.tui.test_format import HOSTILE
from tui.app import LlmTui
from tui.screens.log import LogScreen

NUM_LINES = 205 + len(EVENTS)
"""A line a step, and the events."""


async def show(app: LlmTui, pilot) -> LogScreen:
    await pilot.press("8")
    await until(pilot, lambda: app.current_mode == "log")
    screen = app.screen
    assert isinstance(screen, LogScreen)
    await until(pilot, lambda: screen._view is not None)
    await pilot.pause(0.05)
    return screen


def tell(bridge: RecordedBridge, words: str, level: str = "info") -> None:
    folder = recorded_log(bridge.folder_of_settings / "runs" / next(iter(bridge.shots)))
    store = folder.open(read_only=False)
    store.put(EventRow(at=time.time(), level=level, source="trainer", kind="told", text=words))
    store.close()


def copied(app: LlmTui, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", found.append)
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_events_and_output_are_followed(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge, size) as (app, pilot):
        await show(app, pilot)
        shown = text(app)
        assert "Saved step-200: 34.5 MiB" in shown and "step 205: a line" in shown
        assert f"Log of {RUN_ID}" in shown and "following" in shown and f"{NUM_LINES} lines" in shown
        tell(bridge, "something new [b]happened[/b]")
        await until(pilot, lambda: "something new [b]happened[/b]" in text(app))


async def test_moving_away_ends_the_following_and_g_begins_it_again() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("k", "k")
        stands_on = screen.rows.selected
        assert stands_on is not None and "following" not in text(app) and "f Follow" in text(app)
        tell(bridge, "news")
        await until(pilot, lambda: screen.rows.num_rows == NUM_LINES + 1)
        assert screen.rows.selected == stands_on
        await pilot.press("G")
        await pilot.pause(0.05)
        assert "─ following ·" in text(app) and "f Stop following" in text(app)
        assert screen.rows.selected.text == "news"  # type: ignore[union-attr]
        await pilot.press("g")
        await pilot.pause(0.05)
        assert "Nothing keeps the machine from falling asleep" in text(app)
        await pilot.press("f")
        await pilot.pause(0.05)
        assert "news" in text(app)


async def test_levels_and_origins_are_filtered() -> None:
    bridge = RecordedBridge(in_state("failed"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        num = screen.rows.num_rows
        tell(bridge, "it broke", "error")
        await until(pilot, lambda: screen.rows.num_rows == num + 1)
        await pilot.press("l")
        await pilot.pause(0.05)
        assert {line.level for line in screen.rows.lines} == {"warning", "error"}
        assert "! " in text(app) and "✗ " in text(app) and "warnings and errors" in text(app)
        await pilot.press("l")
        await pilot.pause(0.05)
        assert [line.kind for line in screen.rows.lines] == ["checkpoint-failed", "told"]
        await pilot.press("l", "o")
        await pilot.pause(0.05)
        assert "output" not in {line.source for line in screen.rows.lines} and screen.rows.num_rows < 40
        await pilot.press("o", "o", "o", "o")
        await pilot.pause(0.05)
        assert {line.source for line in screen.rows.lines} == {"output"}


async def test_search_goes_through_a_log_that_is_too_large_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RecordedBridge(in_state("running"))
    folder = recorded_log(bridge.folder_of_settings / "runs" / RUN_ID)
    lines = [f"line {number}" + " and so on" * 20 for number in range(40_000)]
    lines[5], lines[20_000] = "RuntimeError: the first", "a runtimeerror again"
    folder.log_path.write_text("\n".join(lines) + "\n", "utf-8")
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        assert screen.rows.num_rows < 2000

        def stands() -> str:
            return screen.rows.selected.text if screen.rows.selected else ""

        await pilot.press("slash", *"runtimeerror", "enter")
        await until(pilot, lambda: stands() == lines[20_000])
        assert "/runtimeerror: 1 of 1+" in text(app), "not all of the output is held"
        await pilot.press("n")
        await until(pilot, lambda: stands() == lines[5])
        await pilot.press("N")
        await until(pilot, lambda: stands() == lines[20_000])
        clipboard = copied(app, monkeypatch)
        await pilot.press("y")
        assert len(clipboard) == 1 and clipboard[0].endswith(" output a runtimeerror again")
        await pilot.press("N")
        await until(pilot, lambda: stands() == lines[5])
        await pilot.press("n")
        await until(pilot, lambda: stands() == lines[20_000])
        await pilot.press("slash", "ctrl+u", *"nowhere", "enter")
        await until(pilot, lambda: "'nowhere' is nowhere in this log" in text(app))
        await pilot.press("escape", "f")
        await until(pilot, lambda: stands() == lines[-1] or "Saved" in stands())


async def test_a_search_goes_on_backwards_and_round_and_says_where_it_stands() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("slash")
        await pilot.pause(0.05)
        assert " / search for" in text(app).splitlines()[-2] and "/ Search" not in text(app)
        await pilot.press(*"step 12")
        for key, number, place in (
            ("enter", 129, "11 of 11"),
            ("n", 128, "10 of 11"),
            ("N", 129, "11 of 11"),
            ("N", 12, "1 of 11"),
            ("n", 129, "11 of 11"),
        ):
            await pilot.press(key)
            await until(pilot, lambda n=number: screen.rows.selected.text.startswith(f"step {n}:"))
            await until(pilot, lambda p=place: f"/step 12: {p}" in text(app))


@pytest.mark.parametrize("size", SIZES)
async def test_the_log_of_a_run_that_has_ended_says_so_and_of_how_much_a_filter_shows(
    size: tuple[int, int],
) -> None:
    bridge = RecordedBridge(in_state("failed"))
    async with opened(bridge, size) as (app, pilot):
        screen = await show(app, pilot)
        tell(bridge, "it broke", "error")
        await until(pilot, lambda: screen.rows.num_rows == 227)
        await until(pilot, lambda: "ended: failed" in text(app))
        assert "following" not in text(app) and "f Follow" not in text(app), "there is nothing to come"
        assert "[$error]ended: failed" in screen.rows.border_subtitle
        await pilot.press("l", "l")
        await until(pilot, lambda: "2 of 227 lines" in text(app))
        title = screen.line_panel.border_title
        assert "[$error]error" in title and "[$muted]told" in title and "trainer" in title
        assert screen.line_panel.plain == "it broke".ljust(screen.line_panel.size.width)


async def test_the_panel_of_a_line_is_as_high_as_the_line() -> None:
    bridge = RecordedBridge(in_state("running"))
    tell(bridge, "long " * 300)
    async with opened(bridge, (120, 34)) as (app, pilot):
        screen = await show(app, pilot)
        await until(pilot, lambda: "long long" in screen.line_panel.plain)
        await until(pilot, lambda: screen.line_panel.outer_size.height == 8)
        assert "z shows all of it" in screen.line_panel.plain
        await pilot.press("z")
        await until(pilot, lambda: screen.line_panel.outer_size.height > 12)
        assert screen.line_panel.plain.count("long") == 300
        await pilot.press("z")
        screen.rows.focus()
        await pilot.press("k")
        await until(pilot, lambda: screen.line_panel.outer_size.height == 3)


async def test_the_rest_of_a_large_log_is_read_by_going_there(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RecordedBridge(in_state("running"))
    folder = recorded_log(bridge.folder_of_settings / "runs" / RUN_ID)
    folder.log_path.write_text("".join(f"line {n} {'x' * 90}\n" for n in range(20_000)), "utf-8")
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("o", "o", "o", "o", "o")
        await pilot.pause(0.05)
        num = screen.rows.num_rows
        assert "MB of output before this" in screen.rows._gap(screen.rows.lines[0])
        first = screen.rows.lines[1]
        await pilot.press("g")
        await until(pilot, lambda: screen.rows.num_rows > num)
        assert screen.rows.selected == first
        clipboard = copied(app, monkeypatch)
        await pilot.press("Y")
        assert len(clipboard) == 1 and len(clipboard[0].splitlines()) == screen.rows.size.height


async def test_hostile_lines_are_shown_and_copied_as_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RecordedBridge(in_state("running"))
    folder = recorded_log(bridge.folder_of_settings / "runs" / RUN_ID)
    with folder.log_path.open("a", encoding="utf-8", errors="surrogatepass") as file:
        for hostile in HOSTILE.values():
            file.write(hostile.replace("\n", " ") + "\n")
    tell(bridge, "".join(HOSTILE.values()).encode("utf-8", "replace").decode())
    async with opened(bridge) as (app, pilot):
        await show(app, pilot)
        clipboard = copied(app, monkeypatch)
        await pilot.press(*"kkk", "Y")
        for shown in (text(app), clipboard[0]):
            assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)


async def test_without_a_run_it_says_so_and_nothing_is_read_that_is_not_shown() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        await pilot.press("8")
        await until(pilot, lambda: "No run yet." in text(app))
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen: Any = await show(app, pilot)
        await pilot.press("3")
        await pilot.pause(0.1)
        tell(bridge, "unseen")
        await pilot.pause(1.3)
        assert screen.rows.num_rows == NUM_LINES
        await pilot.press("8")
        await until(pilot, lambda: "unseen" in text(app))


async def test_a_search_line_that_has_lost_the_focus_keeps_no_key_and_is_closed_by_escape() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("slash", *"step", "tab")
        assert screen.search_line.is_open and screen.focused is not screen.search_line
        await pilot.press("l")
        await until(pilot, lambda: "warnings and errors" in text(app))
        await pilot.press("slash")
        assert screen.focused is screen.search_line and screen.search_line.value == "step", "as it was typed"
        await pilot.press("tab", "escape")
        await until(pilot, lambda: not screen.search_line.is_open)
        assert screen.focused is screen.rows
