"""The samples screen by its keys, and the digest of a run that went on unseen; once with real processes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Callable

import pytest
from msgspec.structs import replace

from engine import Workspace, settings_file
from engine.records import RunState
from engine.story import Digest, TextRequest
from tests.conftest import wait_for
from tests.tui.piloted import SIZES, opened, text, until
from tests.tui.recorded import RUN_ID, RecordedBridge, digest, in_state
from tui.app import LlmTui
from tui.dialogs.ask_text import AskTextDialog
from tui.dialogs.digest import DigestDialog
from tui.screens.samples import SamplesScreen


async def show(app: LlmTui, pilot) -> SamplesScreen:
    await pilot.press("7")
    await until(pilot, lambda: app.current_mode == "samples")
    screen = app.screen
    assert isinstance(screen, SamplesScreen)
    await until(pilot, lambda: screen._book is not None)
    await pilot.pause(0.05)
    return screen


@pytest.mark.parametrize("size", SIZES)
async def test_two_steps_stand_side_by_side(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge, size) as (app, pilot):
        screen = await show(app, pilot)
        loss = {sample.step: sample.loss for sample in bridge.book.samples}

        def told(step: int) -> str:
            return f"Step {step}, loss {loss[step]:.3f}"

        shown = text(app)
        assert told(50) in shown and told(200) in shown
        assert "test_error" in shown and "\x1b" not in shown and "␛[2J" in shown
        await pilot.press("j", "j")
        await pilot.pause(0.05)
        assert told(100) in text(app) and "self.self.self" in text(app)
        await pilot.press("l", "k")
        await pilot.pause(0.05)
        assert told(100) in text(app) and told(150) in text(app)
        assert screen._left_step == 100
        assert "tokens" in screen.steps.plain and ":" in screen.steps.plain, "with tokens and time"
        assert screen.right.size.width >= 34


async def test_several_fixed_prompts_are_looked_at_one_by_one() -> None:
    bridge = RecordedBridge(in_state("running"))
    further = [
        replace(sample, prompt="class ", text=f"Other{sample.step}:") for sample in bridge.book.samples
    ]
    bridge.book = replace(bridge.book, samples=(*bridge.book.samples, *further))
    async with opened(bridge, (120, 34)) as (app, pilot):
        screen = await show(app, pilot)
        assert "prompt 1 of 2" in text(app) and "f Prompt" in text(app) and screen.steps.num_rows == 4
        await pilot.press("j", "f")
        await until(pilot, lambda: "prompt 2 of 2" in text(app))
        assert "class Other150:" in text(app) and "class Other50:" in text(app) and screen.steps.num_rows == 4
        await pilot.press("f")
        await until(pilot, lambda: "prompt 1 of 2" in text(app) and "Other" not in text(app))


async def test_a_prompt_of_ones_own_is_asked_for_and_written() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await show(app, pilot)
        await pilot.press("p")
        assert isinstance(app.screen, AskTextDialog) and "step-200 (1 of 2)" in text(app)
        await pilot.press("down", "ctrl+u", *"for x in", "tab", "ctrl+u", *"99", "enter")
        await pilot.pause(0.05)
        assert "prompt        for x in" in text(app)
        assert "temperature is a number from 0 to 10." in text(app) and not bridge.texts
        await pilot.press("ctrl+u", *"0.5", "enter")
        await until(pilot, lambda: "test_error" in text(app) and "Your prompt, step-150" in text(app))
        assert bridge.texts == [TextRequest(prompt="for x in", source="step-150", temperature=0.5)]
        screen = app.screen
        assert isinstance(screen, SamplesScreen)
        await until(pilot, lambda: not screen._is_writing)
        assert "for x in" in text(app) and "▶" not in text(app), "no step stands at the right"
        await pilot.press("escape")
        await pilot.pause(0.05)
        assert "Your prompt" not in screen.right.plain and "Step 200" in text(app) and "▶" in text(app)


async def test_a_long_seed_is_offered_again_as_it_was_typed() -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("p", "tab", "tab", "tab", "ctrl+u", *"1234567", "enter")
        await until(pilot, lambda: len(bridge.texts) == 1 and not screen._is_writing)
        await pilot.press("p", "enter")
        await until(pilot, lambda: len(bridge.texts) == 2)
        assert [asked.seed for asked in bridge.texts] == [1_234_567, 1_234_567]


async def test_escape_gives_up_a_text_that_is_being_written() -> None:
    class Slow(RecordedBridge):
        is_closed = False

        async def text(self, run_id: str, request: TextRequest) -> AsyncGenerator[str, None]:
            try:
                yield "and so"
                await asyncio.sleep(60)
            finally:
                self.is_closed = True

    bridge = Slow(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("p", "enter")
        await until(pilot, lambda: "and so" in text(app) and "esc Give up" in text(app))
        assert "writing … 6 characters, at most 200" in screen.right.border_subtitle
        await pilot.press("escape")
        await until(pilot, lambda: bridge.is_closed and "Given up here." in text(app))
        assert "and so" in text(app) and not screen._is_writing


async def test_without_a_sample_or_a_run_it_says_so() -> None:
    async with opened(RecordedBridge()) as (app, pilot):
        await pilot.press("7")
        await until(pilot, lambda: "No run yet." in text(app))
    bridge = RecordedBridge(in_state("preparing"))
    bridge.book = replace(bridge.book, samples=(), sources=())
    async with opened(bridge) as (app, pilot):
        await show(app, pilot)
        assert "No sample yet" in text(app) and "Your prompt" not in text(app)
        await pilot.press("p", "l", "y")
        assert isinstance(app.screen, SamplesScreen)


@pytest.mark.parametrize("size", SIZES)
async def test_who_was_away_is_told_and_the_key_that_closes_does_nothing_else(size: tuple[int, int]) -> None:
    bridge = RecordedBridge(in_state("gpu"))
    bridge.digest = found = digest()
    async with opened(bridge, size) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, DigestDialog))
        await pilot.pause(0.05)
        shown = text(app)
        for fact in (
            "While you were away",
            "+89.9 M, now 420 M (42.0 %)",
            f"{found.loss_then:.3f} → {found.loss:.3f}",
            "0.50 kWh",
            "0.0842 USD",
            "GPU 84 °C",
            "13 min 0 s",
            "7 min 0 s later than expected",
            "! The trainer ended with signal SIGKILL",
        ):
            assert fact in shown
        await pilot.press("p")
        await pilot.pause(0.05)
        assert not isinstance(app.screen, DigestDialog) and bridge.asked == []


async def test_news_wait_until_the_run_is_on_the_screen_and_looking_goes_on_elsewhere() -> None:
    class Counting(RecordedBridge):
        num_looks = 0

        def look(self, run_id: str) -> Digest | None:
            self.num_looks += 1
            return super().look(run_id)

    bridge = Counting(in_state("running"))
    async with opened(bridge) as (app, pilot):
        await until(pilot, lambda: bridge.num_looks == 1)
        await show(app, pilot)
        bridge.digest = digest()
        app.lookout._looked = {RUN_ID: -1e9}
        app.look_on()
        await until(pilot, lambda: app.digest is not None)
        assert isinstance(app.screen, SamplesScreen)
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, DigestDialog))
        await pilot.press("enter")
        await pilot.pause(1.2)
        assert not isinstance(app.screen, DigestDialog) and bridge.num_looks == 2


def processes(run_id: str) -> list[str]:
    """Those that write a text of a run."""
    listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "generate" in line and run_id in line]


@pytest.mark.timeout(400)
async def test_a_real_run_is_looked_at_asked_and_its_settings_changed(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(tokens=20_480)
    run_id = workspace.start(overrides=['training.sample_prompt=["def ", "class "]'])
    await asyncio.to_thread(wait_for, lambda: workspace.status(run_id).state is RunState.FINISHED, 120)
    # Until its supervisor is gone the app would open on the run.
    await asyncio.to_thread(wait_for, lambda: not workspace.folder_of(run_id).is_supervised, 60)
    app = LlmTui(workspace.folder)
    async with app.run_test(size=(120, 34)) as pilot:
        await until(pilot, lambda: app.current_mode == "preflight", 20)
        screen = await show(app, pilot)
        assert screen._book is not None and screen._book.sources[0] == "model" and screen._book.samples
        assert {sample.prompt for sample in screen._book.samples} == {"def ", "class "}
        await pilot.press("p", "ctrl+u", *"import ", "enter")
        await until(pilot, lambda: not screen._is_writing and bool(screen._own), 120)
        assert "import " in screen.right.plain and "the finished" not in screen.right.plain
        await pilot.press("p", *("tab",) * 4, "ctrl+u", *"90000", "enter")
        await until(pilot, lambda: screen._is_writing and processes(run_id))
        await pilot.press("escape")
        await until(pilot, lambda: not screen._is_writing and not processes(run_id))
        await pilot.press("8")
        await until(pilot, lambda: "finished" in text(app), 20)

        await pilot.press("6")
        await until(pilot, lambda: "[model]" in text(app) and "✓ fits" in text(app), 60)
        await pilot.press("slash", *"seed", "enter", "enter", "ctrl+u", *"5", "enter", "ctrl+s")
        await until(
            pilot, lambda: settings_file.load(workspace.folder / "settings.toml").training.seed == 5, 60
        )
    assert workspace.status(run_id).state is RunState.FINISHED
