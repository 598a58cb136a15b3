"""A reading that failed, or an answer that comes late, ends no following and loses no change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine import settings_file
from engine.errors import EngineError
from engine.runs.logs import LogReader, _Window
from engine.settings_edit import SettingsForm
from engine.story import BEFORE
from tests.tui.piloted import opened, text, until
from tests.tui.recorded import RUN_ID, RecordedBridge, in_state, recorded_log
from tests.tui.test_log_screen import show, tell
from tests.tui.test_settings_screen import give, go_to
from tests.tui.test_settings_screen import show as show_settings
from tui.app import LlmTui
from tui.screens.compare import CompareScreen

BUSY = "The shelf is busy."


class Failing:
    """A call that fails as often as it is told to, and then does what it stands for."""

    def __init__(self, call: Callable[..., Any], *failures: Exception) -> None:
        self._call, self._left = call, list(failures)
        self.num_calls = 0

    def __call__(self, *args: Any) -> Any:
        self.num_calls += 1
        if self._left:
            raise self._left.pop(0)
        return self._call(*args)


def busy() -> EngineError:
    return EngineError(BUSY, "Wait.")


def told(app: LlmTui, words: str = BUSY) -> int:
    """How many of the notices say this."""
    return sum(words in str(notice.message) or words in notice.title for notice in app._notifications)


async def test_the_samples_are_followed_on_after_a_failure_that_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.screens.samples.READ_EVERY_S", 0.05)
    bridge = RecordedBridge(in_state("running"))
    failing = Failing(bridge.samples, busy(), busy(), busy())
    monkeypatch.setattr(bridge, "samples", failing)
    async with opened(bridge) as (app, pilot):
        await pilot.press("7")
        await until(pilot, lambda: "Step 50" in text(app))
        await until(pilot, lambda: told(app) == 1)
        assert failing.num_calls >= 4


async def test_a_comparison_is_followed_on_after_a_failure_that_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.screens.compare.READ_EVERY_S", 0.05)
    bridge = RecordedBridge(in_state("running"))
    failing = Failing(bridge.compare, busy(), busy(), busy(), OSError("no disk"), OSError("no disk"))
    monkeypatch.setattr(bridge, "compare", failing)
    async with opened(bridge) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: app.current_mode == "runs")
        app.push_screen(screen := CompareScreen((RUN_ID,)))
        await until(pilot, lambda: screen.is_mounted and screen._found is not None)
        await until(pilot, lambda: told(app) == 1 and told(app, "no disk") == 1)


@pytest.mark.parametrize("fails_at", ["log", "poll"])
async def test_the_log_is_followed_on_after_a_failure_that_is_told_once(
    fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.log.POLL_EVERY_S", 0.05)
    bridge = RecordedBridge(in_state("running"))
    if fails_at == "log":
        monkeypatch.setattr(bridge, "log", Failing(bridge.log, busy(), busy()))
    else:
        look = Failing(lambda window: look_really(window), OSError(BUSY), OSError(BUSY))
        look_really = _Window.look
        monkeypatch.setattr(_Window, "look", lambda window: look(window))
    async with opened(bridge) as (app, pilot):
        await show(app, pilot)
        await until(pilot, lambda: told(app) == 1)
        assert "Saved step-200" in text(app), "with the events that were read before it failed"
        tell(bridge, "something new")
        await until(pilot, lambda: "something new" in text(app))


async def test_what_a_look_has_read_that_was_left_is_shown_on_coming_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridge = RecordedBridge(in_state("running"))
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        tell(bridge, "read unseen")
        assert screen._reader is not None
        screen._reader.poll()
        await pilot.press("3", "8")
        await until(pilot, lambda: "read unseen" in text(app))


def large_log(bridge: RecordedBridge) -> None:
    folder = recorded_log(bridge.folder_of_settings / "runs" / RUN_ID)
    folder.log_path.write_text("".join(f"line {n} {'x' * 90}\n" for n in range(20_000)), "utf-8")


@pytest.mark.parametrize("fails_at", ["find", "go_to"])
async def test_a_search_that_fails_is_told_and_over(fails_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RecordedBridge(in_state("running"))
    large_log(bridge)
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        call = Failing(getattr(screen._reader, fails_at), OSError(BUSY))
        monkeypatch.setattr(screen._reader, fails_at, call)
        await pilot.press("slash", *"line 77 xx", "enter")
        await until(pilot, lambda: told(app) == 1)
        await until(pilot, lambda: "searching" not in text(app))
        assert not screen._is_searching
        await pilot.press("n")
        await until(pilot, lambda: screen.rows.selected.text.startswith("line 77 "))  # type: ignore[union-attr]


@pytest.mark.parametrize(("key", "call"), [("g", "earlier"), ("f", "go_to")])
async def test_a_window_that_cannot_be_read_is_told(
    key: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = RecordedBridge(in_state("running"))
    large_log(bridge)
    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        await pilot.press("slash", *"line 77 xx", "enter")
        await until(pilot, lambda: screen.rows.selected.text.startswith("line 77 "))  # type: ignore[union-attr]
        await pilot.press("o", "o", "o", "o", "o")
        await pilot.pause(0.05)
        monkeypatch.setattr(screen._reader, call, Failing(lambda *_: None, OSError(BUSY)))
        if key == "g":
            screen._move_window(BEFORE)
        else:
            await pilot.press(key)
        await until(pilot, lambda: told(app) == 1)


async def test_leaving_the_log_ends_a_search_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = RecordedBridge(in_state("running"))
    large_log(bridge)

    def find(needle: str, offset: int, is_backwards: bool, cancelled: threading.Event) -> None:
        cancelled.wait(20)

    async with opened(bridge) as (app, pilot):
        screen = await show(app, pilot)
        monkeypatch.setattr(screen._reader, "find", find)
        await pilot.press("slash", *"nowhere", "enter")
        await until(pilot, lambda: "searching" in text(app))
        await pilot.press("3")
        await until(pilot, lambda: not screen._is_searching)
        assert "searching" not in str(screen.rows.border_subtitle)


def test_a_call_that_nobody_waits_for_any_more_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = LogReader(recorded_log(tmp_path / RUN_ID))
    reader.poll()
    inside, most = 0, 0

    def slow(window: _Window, *_: object) -> bool:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1
        return True

    for name in ("look", "earlier", "later", "go_to"):
        monkeypatch.setattr(_Window, name, slow)
    calls = (reader.poll, reader.earlier, reader.later, lambda: reader.go_to(0))
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def slow_save(
    bridge: RecordedBridge, monkeypatch: pytest.MonkeyPatch
) -> tuple[threading.Event, list[dict[str, str | None]]]:
    """Saves wait for the event; the changes of each."""
    go_on, saved, save = threading.Event(), [], bridge.save_settings

    def slowly(form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        saved.append(dict(changes))
        assert go_on.wait(20)
        save(form, changes)

    monkeypatch.setattr(bridge, "save_settings", slowly)
    return go_on, saved


async def test_a_second_save_and_a_change_while_one_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, notices = RecordedBridge(), []
    go_on, saved = slow_save(bridge, monkeypatch)
    async with opened(bridge, (120, 34)) as (app, pilot):
        screen = await show_settings(app, pilot)
        monkeypatch.setattr(app, "notify", lambda words, **_: notices.append(words))
        for key, value in (("training.seed", "7"), ("limits.max_hours", "9.0"), ("limits.max_cost", "5.0")):
            await give(screen, pilot, key, value)
            await pilot.press("escape", "g")
        await until(pilot, lambda: screen._shown_state == screen._state)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: bool(saved))
        await give(screen, pilot, "training.seed", "8")
        await pilot.press("escape", "g")
        await go_to(screen, pilot, "limits.max_cost")
        await pilot.press("u")
        await until(pilot, lambda: screen._shown_state == screen._state)
        go_on.set()
        await until(pilot, lambda: settings_file.load(bridge.settings_path).training.seed == 7)
        await until(pilot, lambda: set(screen._changes) == {"training.seed", "limits.max_cost"})
        assert screen._changes["training.seed"] == "8", "what was changed or taken back since is not saved"
        go_on.clear()
        await until(pilot, lambda: screen._shown_state == screen._state)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: len(saved) == 2)
        await pilot.press("ctrl+s", "ctrl+s")
        go_on.set()
        await until(pilot, lambda: screen._saving is None and "as on the disk" in text(app))
        await until(pilot, lambda: screen._shown_state == screen._state)
        assert len(saved) == 2, "what has not changed is not saved twice"
        assert notices == ["2 keys written into settings.toml.".replace("2", num) for num in "32"]
    now = settings_file.load(bridge.settings_path)
    assert (now.training.seed, now.limits.max_hours, now.limits.max_cost) == (8, 9.0, 0.0)


async def test_a_change_that_is_saved_while_one_saves_is_saved_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridge = RecordedBridge()
    go_on, saved = slow_save(bridge, monkeypatch)
    async with opened(bridge, (120, 34)) as (app, pilot):
        screen = await show_settings(app, pilot)
        await give(screen, pilot, "training.seed", "7")
        await until(pilot, lambda: screen._shown_state == screen._state)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: bool(saved))
        await give(screen, pilot, "training.seed", "8")
        await pilot.press("ctrl+s")
        go_on.set()
        await until(pilot, lambda: settings_file.load(bridge.settings_path).training.seed == 8)
        await until(pilot, lambda: "as on the disk" in text(app))
        assert saved == [{"training.seed": "7"}, {"training.seed": "8"}]


async def test_a_value_that_is_looked_at_slowly_is_taken_wherever_the_cursor_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridge = RecordedBridge()
    go_on, check = threading.Event(), bridge.check_settings

    def slowly(form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        assert go_on.wait(20)
        check(form, changes)

    async with opened(bridge) as (app, pilot):
        screen = await show_settings(app, pilot)
        await give(screen, pilot, "training.seed", "7")
        await pilot.press("escape")
        monkeypatch.setattr(bridge, "check_settings", slowly)
        at = [
            index
            for index, entry in enumerate(screen.rows._entries)
            if getattr(entry, "choices", ()) and entry.dotted != "training.seed"  # type: ignore[union-attr]
        ][:2]
        names = []
        for index in at:
            screen.rows.move_to(index)
            assert screen.rows.selected is not None
            names.append(screen.rows.selected.dotted)
            await pilot.press("space")
        await pilot.press("j")
        go_on.set()
        await until(pilot, lambda: set(screen._changes) == {"training.seed", *names})
