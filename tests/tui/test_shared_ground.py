"""What all screens stand on: the row of keys, the dialogs, the zoomed panel, the lists, the colours."""

from __future__ import annotations

from typing import Any

import pytest
from textual.color import Color

from engine.story import Incident
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import RecordedBridge, digest, in_state
from tui.app import LlmTui
from tui.dialogs.digest import digest_rows
from tui.dialogs.help import HelpDialog
from tui.theme import NIGHT
from tui.widgets.lines import FAINT, MUTED, after_key, said_and_gone_on, wrap
from tui.widgets.rows import Rows


def last_row(app: LlmTui) -> str:
    return text(app).splitlines()[-1]


@pytest.mark.parametrize("size", SIZES)
async def test_a_zoomed_panel_keeps_header_and_keys_and_says_how_to_go_back(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge, size) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("z")
        await until(pilot, lambda: "z Back" in last_row(app))
        assert "● running" in text(app).splitlines()[0] and "q Quit" in last_row(app)
        bridge.shots = {run_id: in_state("failed") for run_id in bridge.shots}
        await until(pilot, lambda: "✗ failed" in text(app).splitlines()[0])
        await pilot.press("z")
        await until(pilot, lambda: "z Zoom" in last_row(app))


@pytest.mark.parametrize("width", [56, 80])
async def test_help_quit_and_the_way_back_stay_where_not_all_keys_fit(width: int) -> None:
    bridge = RecordedBridge(in_state("running"), in_state("finished"))
    async with opened(bridge, (width, 24)) as (app, pilot):
        for keys in (("2",), ("4", "space"), ("6",), ("8", "slash", *"step 12", "enter")):
            for key in keys:
                await pilot.press(key)
                await pilot.pause(0.05)
            await until(
                pilot,
                lambda: last_row(app).rstrip().endswith("? Help  q Quit") or "   q Quit" in last_row(app),
            )
        assert "esc End search" in last_row(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 34)])
async def test_a_long_help_scrolls_between_its_title_and_its_keys(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(in_state("running")), size) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpDialog) and "↑ ↓  more" in text(app))
        assert "Esc  close" in text(app)
        await pilot.press(*["down"] * 60)
        await until(pilot, lambda: "leave the app; a run that is going goes on" in text(app))
        assert "Esc  close" in text(app)
        about = next(line for line in text(app).splitlines() if "1 to 8" in line)
        below = text(app).splitlines()[text(app).splitlines().index(about) + 1]
        assert below.find("Samples") in (-1, about.find("Preflight")), "it goes on below its own beginning"


async def test_the_answer_that_cannot_be_taken_back_has_its_own_colour() -> None:
    def colour_of(app: Any, words: str) -> Color:
        strips = app.screen._compositor.render_strips()
        found = next(s for strip in strips for s in strip if words in s.text)
        return Color.from_rich_color(found.style.color)

    async with opened(RecordedBridge(in_state("running"))) as (app, pilot):
        await until(pilot, lambda: app.snapshot is not None)
        await pilot.press("x")
        await until(pilot, lambda: "leave it running" in text(app))
        for words, wanted in (("stop the run", NIGHT.error), ("leave it running", NIGHT.foreground)):
            assert wanted and all(
                abs(one - other) <= 2
                for one, other in zip(colour_of(app, words).rgb, Color.parse(wanted).rgb, strict=True)
            )


def test_a_digest_colours_what_went_wrong_and_names_no_code() -> None:
    fault = Incident(kind="sensor-fault", level="warning", num=3, text="The battery does not answer.")
    rows = digest_rows(digest(incidents=(fault,), eta_then=1e9, eta=1e9 + 6000), 40)
    assert "! The battery does not answer. (3 times)" in rows[-1].plain and "sensor-fault" not in str(rows)
    by_label = {row.plain.split(" ")[0]: [str(span.style) for span in row.spans] for row in rows}
    assert "$muted" in by_label["tokens"] and "$warning" in by_label["done"] + by_label["!"]
    assert all(row.cell_length <= 40 for row in rows)


def _contrast(one: str, other: str) -> float:
    """Source: WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(name: str) -> float:
        parts = [part / 255 for part in Color.parse(name).rgb]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_grey_text_can_be_read_on_every_ground() -> None:
    named = NIGHT.variables
    for ground in (NIGHT.background, NIGHT.surface, NIGHT.panel):
        assert (
            ground and _contrast(named["faint"], ground) >= 4.5 and _contrast(named["muted"], ground) >= 4.5
        )
    for ground in (named["block-cursor-background"], named["block-cursor-blurred-background"]):
        assert _contrast(named["muted"], ground) >= 4.5, "what faint text is lifted to"


async def test_a_list_says_where_one_is_and_lifts_grey_on_the_cursor() -> None:
    async with opened(RecordedBridge(), (80, 24)) as (app, pilot):
        await pilot.press("6")
        rows = app.screen.query_one("#keys", Rows)
        await until(pilot, lambda: rows.num_rows > 20)
        await pilot.press("j", "j")
        await until(pilot, lambda: " · 3 of " in str(rows.border_subtitle))
        assert rows._style(FAINT + "+cursor").color == rows._style(MUTED).color
        rows.styles.height = rows.num_rows + 2
        await until(pilot, lambda: " of " not in str(rows.border_subtitle))


@pytest.mark.parametrize("key", ["2", "7", "8"])
async def test_without_a_run_there_is_nothing_to_zoom(key: str) -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: "No run yet. Press 1 for the checks" in text(app))
        await pilot.pause(0.05)
        assert "Zoom" not in last_row(app) and "1 Preflight" in last_row(app) and "? Help" in last_row(app)
        await pilot.press("z")
        assert app.screen.maximized is None


def test_what_goes_on_stands_below_its_own_beginning() -> None:
    assert wrap("    return self.get_state(self.name)", 30) == ["    return", "    self.get_state(self.name)"]
    assert wrap("  z   the panel on the screen", 16, after_key) == [
        "  z   the panel",
        "      on the",
        "      screen",
    ]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"], "no row holds it"
    grey = said_and_gone_on("def f(", "self):\n    return a_long_name", 16)
    assert grey == [
        [("def f(", "lines--muted"), ("self):", "lines--text")],
        [("    return", "lines--text")],
        [("    a_long_name", "lines--text")],
    ]
