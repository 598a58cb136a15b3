"""The settings screen by its keys: what a person sees, and what then stands in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import settings_file
from engine.errors import RunFailedError
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import RUN_ID, RecordedBridge, in_state
from tui import language
from tui.app import LlmTui
from tui.dialogs.confirm import UnsavedDialog
from tui.screens.settings import SettingsScreen


async def show(app: LlmTui, pilot) -> SettingsScreen:
    await pilot.press("6")
    await until(pilot, lambda: app.current_mode == "settings")
    screen = app.screen
    assert isinstance(screen, SettingsScreen)
    await until(pilot, lambda: screen._shown_state == screen._state > 0)
    await pilot.pause(0.05)
    return screen


async def go_to(screen: SettingsScreen, pilot, key: str) -> None:
    """Filter for a key, and put the cursor on it."""
    await pilot.press("slash", *key.rpartition(".")[2].replace("_", " ").replace(" ", "_"), "enter")
    for _ in range(12):
        if screen.rows.selected is not None and screen.rows.selected.dotted == key:
            return
        await pilot.press("j")
    raise AssertionError(f"{key} is not to be found")


async def give(screen: SettingsScreen, pilot, key: str, value: str) -> None:
    await go_to(screen, pilot, key)
    await pilot.press("enter", "ctrl+u", *value, "enter")
    await until(pilot, lambda: not screen.value_line.is_open)


@pytest.mark.parametrize("size", SIZES)
async def test_a_key_stands_there_with_what_it_is_for_and_what_it_takes(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(), size) as (app, pilot):
        screen = await show(app, pilot)
        await go_to(screen, pilot, "limits.max_gpu_celsius")
        shown = text(app)
        assert "87.0 °C" in shown and "as on the disk" in shown
        about = " ".join(screen.about.plain.split())
        for said in ("checkpoint and pause", "a number from 0 to 120", "default 87.0"):
            assert said in about
        for fact in ("memory", "fits", "kWh", "USD", "GiB"):
            assert fact in shown


async def test_a_change_is_shown_with_what_it_does_and_saved_with_the_comments() -> None:
    bridge = RecordedBridge()
    path = bridge.settings_path
    path.write_text(path.read_text("utf-8").replace("seed = 1337", "seed = 1337  # mine"), "utf-8")
    before = path.read_text("utf-8")
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await give(screen, pilot, "training.tokens", "5_000_000")
        await until(pilot, lambda: screen._shown_state == screen._state)
        await pilot.pause(0.05)
        shown = text(app)
        assert "●" in shown and "5_000_000" in shown and "1 not saved" in shown
        assert "1.00 B → 5.24 M" in shown and "0.80 USD → 0.0042 USD" in shown and "4.68 kWh →" in shown
        assert path.read_text("utf-8") == before
        await pilot.press("ctrl+s")
        await until(pilot, lambda: path.read_text("utf-8") != before)
        await until(pilot, lambda: "as on the disk" in text(app))
    assert settings_file.load(path).training.tokens == 5_000_000
    assert path.read_text("utf-8") == before.replace('tokens = "auto"', "tokens = 5_000_000", 1)


@pytest.mark.parametrize("size", SIZES)
async def test_a_wrong_value_is_refused_as_it_is_typed_beside_what_the_key_takes(
    size: tuple[int, int],
) -> None:
    async with opened(RecordedBridge(), size) as (app, pilot):
        screen = await show(app, pilot)
        await go_to(screen, pilot, "training.tokens")
        await pilot.press("enter", "ctrl+u", *"12x")
        await until(pilot, lambda: "✗ not a whole number" in text(app))
        about = " ".join(screen.about.plain.split())
        assert about.count("1,000,000,000,000") == 1 and "Here" not in about, "the range is told once"
        assert "tokens to train on in all" in about and 'default "auto"' in about
        assert "editing" in text(app) and "as on the disk" not in text(app)
        await pilot.press("enter")
        await pilot.pause(0.1)
        assert screen.value_line.is_open and not screen._changes
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert not screen.value_line.is_open and "✗ not a" not in text(app) and "as on the disk" in text(app)


async def test_what_is_wrong_beside_another_key_is_told_in_the_engines_words() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        screen = await show(app, pilot)
        await go_to(screen, pilot, "limits.resume_gpu_celsius")
        await pilot.press("enter", "ctrl+u", *"99")
        await until(pilot, lambda: "is not less than limits.max_gpu_celsius" in screen.about.plain)
        about = " ".join(screen.about.plain.split())
        assert about.startswith("✗ limits.resume_gpu_celsius = 99") and "takes a number" in about


async def test_values_carry_their_units_and_long_numbers_their_thousands() -> None:
    async with opened(RecordedBridge(), (120, 34)) as (app, pilot):
        screen = await show(app, pilot)
        await go_to(screen, pilot, "limits.max_cost")
        assert "0.0 (no limit)" in text(app)
        await pilot.press("enter", "ctrl+u", *"12.5", "enter")
        await until(pilot, lambda: "12.5 USD" in text(app) and "unsaved 12.5" in screen.about.plain)
        await pilot.press("escape", "g")
        await give(screen, pilot, "training.tokens", "5000000")
        await until(pilot, lambda: "unsaved 5,000,000" in screen.about.plain)
        await pilot.press("enter")
        assert screen.value_line.value == "5000000", "it is edited as it is written"


@pytest.mark.parametrize("size", SIZES)
async def test_the_form_has_most_of_the_screen_and_the_effect_is_whole(size: tuple[int, int]) -> None:
    async with opened(RecordedBridge(), size) as (app, pilot):
        screen = await show(app, pilot)
        assert screen.rows.size.height >= (size[1] - 2) * 0.4 - 1
        await give(screen, pilot, "training.tokens", "5000000")
        await until(pilot, lambda: "→ 5.24 M" in screen.effect.plain)
        effect = screen.effect.plain
        assert "…" not in effect
        for fact in ("memory", "time", "energy", "cost", "tokens", "disk", "model", "batch"):
            assert fact in effect, fact
        if size != (80, 24):
            assert "18 min 47 s" in effect and "(15 min 39 s to" in effect


async def test_space_takes_the_next_value_d_the_default_and_u_what_the_file_has() -> None:
    bridge = RecordedBridge()
    path = bridge.settings_path
    path.write_text(path.read_text("utf-8").replace("seed = 1337", "seed = 5"), "utf-8")
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await go_to(screen, pilot, "training.optimizer")
        await pilot.press("space")
        await until(pilot, lambda: screen._changes == {"training.optimizer": '"adamw"'})
        await pilot.press("space")
        await until(pilot, lambda: not screen._changes)
        await go_to(screen, pilot, "training.seed")
        await pilot.press("d")
        await until(pilot, lambda: screen._changes == {"training.seed": "1337"})
        await pilot.press("u")
        await until(pilot, lambda: not screen._changes)
        await go_to(screen, pilot, "model.n_layer")
        await pilot.press("enter", *"4", "enter")
        await until(pilot, lambda: screen._changes == {"model.n_layer": "4"})
        await pilot.press("d")
        await until(pilot, lambda: not screen._changes)


async def test_the_filter_shows_what_holds_its_words_and_escape_shows_all() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        screen = await show(app, pilot)
        num = screen.rows.num_rows
        await pilot.press("slash", *"celsius")
        await pilot.pause(0.05)
        assert "max_gpu_celsius" in text(app) and "[model]" not in text(app)
        assert 2 < screen.rows.num_rows < 8
        line = text(app).splitlines()[-2]
        assert line.startswith("  / celsius") and "2 of 64 keys" in line and "/ Filter" not in text(app)
        await pilot.press("enter")
        assert screen.rows.selected is not None and screen.rows.selected.section == "limits"
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert screen.rows.num_rows == num
        await pilot.press("slash", *"xyzzy")
        await pilot.pause(0.05)
        assert "No key holds this." in text(app)
        await pilot.press("enter", "escape")
        await give(screen, pilot, "training.seed", "7")
        await pilot.press("escape", "slash", *"celsius")
        await until(pilot, lambda: "1 changed is hidden · 1 not saved" in text(app))


async def test_a_file_that_others_have_changed_is_not_written_over() -> None:
    bridge = RecordedBridge()
    path = bridge.settings_path
    async with opened(bridge, (120, 34)) as (app, pilot):
        screen = await show(app, pilot)
        await give(screen, pilot, "training.seed", "7")
        await until(pilot, lambda: screen._shown_state == screen._state)
        theirs = path.read_text("utf-8").replace("max_hours = 0.0", "max_hours = 9.0")
        path.write_text(theirs, "utf-8")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "was changed on the disk" in text(app))
        assert path.read_text("utf-8") == theirs
        await pilot.press("r")
        await until(pilot, lambda: "limits.max_hours" in text(app))
        await until(pilot, lambda: screen._shown_state == screen._state)
        assert screen._changes == {"training.seed": "7"}
        await pilot.press("ctrl+s")
        await until(pilot, lambda: settings_file.load(path).training.seed == 7)
    assert settings_file.load(path).limits.max_hours == 9.0


async def test_a_run_that_is_going_keeps_its_own_and_a_broken_file_is_told() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await show(app, pilot)
        assert f"{RUN_ID} keeps its own, frozen" in text(app)
        bridge.settings_path.write_text("[training\n", "utf-8")
        await pilot.press("r")
        await until(pilot, lambda: "is not TOML" in text(app))
        assert "ctrl+s" not in text(app) and "nothing is written over it" in text(app)
        bridge.settings_path.write_text("[training]\nseed = 3\n", "utf-8")
        await pilot.press("r")
        await until(pilot, lambda: "[model]" in text(app))


async def test_what_cannot_be_estimated_is_told_and_can_still_be_saved() -> None:
    bridge = RecordedBridge()
    async with opened(bridge) as (app, pilot):
        bridge.failure = RunFailedError("Which device there is cannot be told: [red]x[/red]", "Restart it.")
        screen = await show(app, pilot)
        await pilot.pause(0.05)
        assert "✗ Which device there is cannot be told: [red]" in text(app)
        await give(screen, pilot, "training.seed", "7")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: settings_file.load(bridge.settings_path).training.seed == 7)


async def test_without_a_file_enter_writes_one() -> None:
    bridge = RecordedBridge()
    bridge.settings_path.unlink()
    async with opened(bridge) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: "There is no settings.toml here yet." in text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "[model]" in text(app))
    assert Path(bridge.settings_path).exists()


async def test_leaving_asks_first_where_something_is_not_saved() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        screen = await show(app, pilot)
        await give(screen, pilot, "training.seed", "7")
        await pilot.press("escape", "q")
        await until(pilot, lambda: isinstance(app.screen, UnsavedDialog))
        assert "1 key is changed" in text(app)
        await pilot.press("n")
        assert app.is_running and app.screen is screen
        await pilot.press("3", "q", "y")
        await until(pilot, lambda: not app.is_running)


def test_a_secret_is_dots_on_the_screen() -> None:
    from engine.settings_edit import KeyForm
    from tui.widgets.settings_panels import shown

    key = KeyForm(
        dotted="notify.url",
        value='"https://hooks.example.org/s3cret"',
        default='""',
        is_in_file=True,
        expected="",
        reason="",
        unit="",
        choices=(),
        is_secret=True,
    )
    assert "s3cret" not in shown(key, key.value) and shown(key, key.value)
    assert shown(key, '""') == '""', "that none is set is no secret"


def test_figures_that_are_typed_are_written_as_toml_in_every_language() -> None:
    from tui.widgets.settings_panels import told_to_type

    language.use("az")
    try:
        assert told_to_type("a number from 0.0001 to 0.5").count("0.") == 2
        assert "1,000,000" in told_to_type("a whole number from 300 to 1,000,000")
        assert "0,5" not in told_to_type("a number from 0.0001 to 0.5")
    finally:
        language.use("en")


async def test_a_line_that_has_lost_the_focus_keeps_no_key_and_is_closed_by_escape() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        screen = await show(app, pilot)
        await go_to(screen, pilot, "training.seed")
        await pilot.press("enter", "ctrl+u", "7", "tab")
        assert screen.value_line.is_open and screen.focused is not screen.value_line
        screen.rows.focus()
        await pilot.press("enter")
        assert screen.focused is screen.value_line and screen.value_line.value == "7", "it goes on in it"
        await pilot.press("tab", "escape")
        await until(pilot, lambda: not screen.value_line.is_open)
        assert not screen._changes and screen.filter_line.is_open and screen.focused is not None
        await pilot.press("escape")
        await until(pilot, lambda: not screen.filter_line.is_open)


async def test_saving_leads_back_into_an_open_line_and_leaving_its_row_takes_what_was_typed() -> None:
    bridge = RecordedBridge()
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await give(screen, pilot, "training.seed", "7")
        await pilot.press("escape")
        await pilot.press("enter", "ctrl+u", "8", "tab", "ctrl+s")
        assert screen.focused is screen.value_line
        screen.rows.focus()
        await pilot.press("j")
        await until(pilot, lambda: screen._changes == {"training.seed": "8"})
        assert not screen.value_line.is_open
        await pilot.press("k", "enter", "ctrl+u", *"none")
        screen.rows.focus()
        await pilot.press("j")
        await until(pilot, lambda: any("training.seed" in str(n.message) for n in app._notifications))
        assert screen._changes == {"training.seed": "8"}, "what may not stand is told"
