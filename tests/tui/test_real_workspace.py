"""The whole way by keys: checks, start, pause, go on, finished, ledger, on a real workspace with real processes."""

from __future__ import annotations

from collections.abc import Callable

from engine import Workspace
from engine.records import RunState
from tests.tui.piloted import text, until
from tui.app import LlmTui


async def test_a_run_is_started_paused_gone_on_with_and_booked_by_keys(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(tokens=200_000)
    app = LlmTui(workspace.folder)

    def state() -> RunState | None:
        return app.snapshot.status.state if app.snapshot else None

    async with app.run_test(size=(120, 34)) as pilot:
        await until(pilot, lambda: "UNLOCKED" in text(app) or "LOCKED" in text(app), 60)
        assert "✓ UNLOCKED" in text(app), text(app)
        assert "✓ pass" in text(app) and "… running" not in text(app)
        await pilot.press("s")
        await until(pilot, lambda: app.current_mode == "run", 60)
        await until(pilot, lambda: state() is RunState.RUNNING and "training" in text(app), 90)
        await pilot.press("p")
        await until(pilot, lambda: state() is RunState.PAUSED and "Press p to go on" in text(app), 60)
        await until(pilot, lambda: not app.asked_verb, 30)
        await pilot.press("p")
        await until(pilot, lambda: state() is RunState.RUNNING, 60)
        await until(pilot, lambda: not app.asked_verb, 30)
        await pilot.press("x", "y")
        await until(pilot, lambda: state() is RunState.STOPPED, 60)
        await until(pilot, lambda: "r Resume" in text(app))
        run_id = app.followed_id
        assert run_id is not None
        await pilot.press("3")
        await until(pilot, lambda: run_id in text(app) and "1 run: " in text(app), 30)
        assert "stopped" in text(app)
    assert [entry.run_id for entry in workspace.ledger()] == [run_id]


async def test_an_unreadable_setting_is_told_in_the_list(make_workspace: Callable[..., Workspace]) -> None:
    workspace = make_workspace()
    path = workspace.folder / "settings.toml"
    path.write_text(path.read_text("utf-8").replace("tokens_per_step", "tokens_per_stepp"), "utf-8")
    app = LlmTui(workspace.folder)
    async with app.run_test(size=(120, 34)) as pilot:
        await until(pilot, lambda: "LOCKED" in text(app), 60)
        assert "tokens_per_stepp" in text(app)
        await pilot.press("s")
        assert app.current_mode == "preflight" and not workspace.runs()
