"""What the command palette offers beside the screens: every key that does something now, and every verb of the run.

Imported when the palette is first opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.screen import Screen

from engine.records import Status
from tui import format as fmt
from tui.language import mark, tr
from tui.messages import VerbRequested
from tui.verbs import live_run, possible_verbs

if TYPE_CHECKING:
    from tui.app import LlmTui

_VERBS = {
    "pause": (mark("Pause the run"), mark("Pause after this step")),
    "resume": (mark("Go on with the run"), mark("From where it stands")),
    "checkpoint": (mark("Write a checkpoint"), mark("Now, without an end")),
    "stop": (mark("Stop the run"), mark("Write a checkpoint and end; asks first")),
}
_HAVE_KEYS = ("run", "runs")
"""Screens whose own keys are these verbs."""


def key_commands(app: LlmTui, screen: Screen[object]) -> Iterable[SystemCommand]:
    """Each key of the screen that does something now, once, by its name."""
    told: set[str] = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        is_told = binding.action in told or binding.action.startswith("switch_mode")
        if is_told or not binding.id or not active.enabled or not (binding.show or binding.tooltip):
            continue
        told.add(binding.action)
        key = app.get_key_display(binding)
        about = f"{tr(binding.tooltip or binding.description)} ({key})"
        yield SystemCommand(
            tr(binding.description),
            about,
            lambda action=binding.action, node=active.node: app.call_later(app.run_action, action, node),
        )


def run_commands(app: LlmTui) -> Iterable[SystemCommand]:
    """What can be asked of the followed run, or of the one that is going, from a screen without keys for it."""
    if app.is_read_only or app.current_mode in _HAVE_KEYS:
        return
    status = _status(app)
    if status is None:
        return
    for verb, (title, about) in _VERBS.items():
        if verb in possible_verbs(status):
            yield SystemCommand(
                tr(title),
                f"{tr(about)}: {fmt.clean(status.id)}",
                lambda verb=verb: _ask(app, status.id, verb),
            )


def _status(app: LlmTui) -> Status | None:
    run = next((run for run in app.runs if run.id == app.followed_id), None) or live_run(app.runs)
    return run.status if run else None


def _ask(app: LlmTui, run_id: str, verb: str) -> None:
    if verb != "stop":
        app.post_message(VerbRequested(run_id, verb))
        return
    from tui.dialogs.confirm import StopRunDialog

    def stop(is_sure: bool | None) -> None:
        if is_sure:
            app.post_message(VerbRequested(run_id, verb))

    app.push_screen(StopRunDialog(run_id), stop)
