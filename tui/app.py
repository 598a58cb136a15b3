"""The app: its screens on one workspace. It shows and asks; the work is done by other processes.

Leaving it never ends a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from textual import constants, on, work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.filter import LineFilter
from textual.reactive import reactive, var
from textual.screen import Screen
from textual.widgets import Static

from engine.errors import BlockedError, EngineError
from engine.process import workspace_path
from tui import format as fmt
from tui import modes
from tui.bridge import Bridge
from tui.follower import Follower
from tui.herald import Herald
from tui.language import chosen, tr, use
from tui.lookout import LOOK_EVERY_S, Lookout
from tui.looks import Looks
from tui.messages import (
    CallFailed,
    DigestArrived,
    RunOpenRequested,
    RunsArrived,
    RunStarted,
    SnapshotArrived,
    SnapshotFailed,
    VerbAnswered,
    VerbRequested,
)
from tui.theme import NIGHT
from tui.threads import in_thread
from tui.verbs import is_changing, is_live, live_run, verb_word

if TYPE_CHECKING:
    from textual.actions import ActionParseResult
    from textual.dom import DOMNode
    from textual.driver import Driver

    from engine.records import Check, DamagedRun, RunSnapshot, RunSummary, TimeSpan
    from engine.story import Digest

FIRST_PAINT_S = 0.05
"""Reading begins so long after the first screen was made: the engine's imports would hold that up on its way."""
WARM_UP_EVERY_S = 0.5
"""The other screens are imported one by one while nothing happens, so that their keys answer at once."""


class LlmTui(App[str | None]):
    """The app on one workspace; what it returns is a sentence to print after it, or None."""

    TITLE = "llm-tui"
    CSS_PATH = "app.tcss"
    MODES: ClassVar = {mode.name: mode.open for mode in modes.MODES}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(key), f"switch_mode('{mode.name}')", mode.title, show=False, id=f"app.{mode.name}")
            for key, mode in enumerate(modes.MODES, start=1)
        ),
        Binding("z", "screen.toggle_maximised", "Zoom", tooltip="The focused panel, large", id="app.zoom"),
        Binding("question_mark", "screen.show_help", "Help", key_display="?", id="app.help"),
        Binding("q", "quit", "Quit", tooltip="Leave the app; a run goes on", id="app.quit"),
    ]

    snapshot: reactive[RunSnapshot | None] = reactive(None, repaint=False)
    """The followed run as last read; None where none is followed, or none was read yet."""
    runs: reactive[tuple[RunSummary, ...]] = reactive((), repaint=False)
    damaged: reactive[tuple[DamagedRun, ...]] = reactive((), repaint=False)
    """Runs that cannot be read."""
    trouble: reactive[str] = reactive("", repaint=False)
    """Why the followed run cannot be read now; empty where it can."""
    asked_verb: reactive[str] = reactive("", repaint=False)
    """The verb that the followed run has not answered yet; empty where there is none."""
    followed_id: var[str | None] = var(None)
    span: var[TimeSpan | None] = var(None)
    """The stretch of the followed run that its curves show; None: the whole run."""
    num_unsaved: var[int] = var(0)
    """Keys of the settings that were changed here and are not saved."""
    own_keys: var[Mapping[str, str]] = var({})
    """Bindings that have keys of the person's own, by their names; keys are separated by commas."""
    digest: var[Digest | None] = var(None)
    """What a run did while nobody looked, until it is told."""

    def __init__(self, folder: Path, bridge: Bridge | None = None, *, is_read_only: bool = False) -> None:
        self.folder = folder
        self.is_read_only = is_read_only
        self.bridge = bridge or Bridge(folder, is_read_only=is_read_only)
        self._appearance = self.bridge.appearance()
        self._looks = Looks(self._appearance, os.environ)
        opening = self.bridge.opening()
        if opening.mode:
            # The first screen is that of a mode: composing another one before it would be half of the first paint.
            self.DEFAULT_MODE = opening.mode  # type: ignore[misc]
        super().__init__(css_path=["app.tcss", f"screens/{opening.mode}.tcss"] if opening.mode else None)
        # What an error of our own prints: Rich lets escape sequences in a message through, so without colours.
        self.error_console = Console(markup=False, highlight=False, stderr=True, color_system=None)
        self.set_reactive(LlmTui.followed_id, opening.run_id)
        self._unknown_theme = self._looks.put_on(self)
        self.follower = Follower(self, self.bridge)
        self.lookout = Lookout(self, self.bridge)
        self.herald = Herald(self)

    def get_driver_class(self) -> type[Driver]:
        """Our own terminal, unless the environment names another driver, as a browser's server does."""
        if constants.DRIVER is not None:
            return super().get_driver_class()
        from tui.terminal import Terminal

        return Terminal

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own tokens, for themes that do not have them."""
        return {name: NIGHT.variables[name] for name in ("muted", "faint", "orchid")}

    def compose(self) -> ComposeResult:
        """What stands there until the workspace was read."""
        if self.current_mode == "_default":
            yield Static(Content(tr("Opening the workspace …")), id="opening")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What stands between the widgets and the terminal: its colours and its characters."""
        return self._looks.behind(super().get_line_filters())

    def on_mount(self) -> None:
        """Find out what this folder is."""
        self.set_interval(LOOK_EVERY_S, self.look_on)
        if self.current_mode == "_default":
            self._open_workspace()
        else:
            self.set_timer(FIRST_PAINT_S, self._begin)

    # --- opening ------------------------------------------------------------------------------------------------

    @work(exclusive=True, group="open")
    async def _open_workspace(self) -> None:
        """Open on the run that is going, else on the checks; an empty folder is offered settings first."""
        try:
            has_settings = self.is_read_only or await in_thread(self.bridge.has_settings)
            if not has_settings and not await self._welcome():
                self.exit(None)
                return
            self.runs = await in_thread(self.bridge.runs)
        except (EngineError, OSError) as error:
            self.post_message(CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", "")))
        live = live_run(self.runs)
        self.followed_id = live.id if live else self.runs[0].id if self.runs else None
        await self.switch_mode("run" if live else "preflight")
        self._begin()

    def _begin(self) -> None:
        """Read what the screens show, once the first of them stands."""
        self._follow()
        self._take_up()
        screens = modes.imports()
        self.set_interval(WARM_UP_EVERY_S, lambda: next(screens, None), repeat=len(modes.MODES))

    async def _welcome(self) -> bool:
        """Whether the folder is a workspace now."""
        from tui.dialogs.confirm import WelcomeDialog

        if not await self.push_screen_wait(WelcomeDialog(fmt.clean(str(self.folder)))):
            return False
        await in_thread(self.bridge.write_settings)
        return True

    @work(exclusive=True, group="follow")
    async def _follow(self) -> None:
        await self.follower.follow()

    @work(group="take-up", exit_on_error=False)
    async def _take_up(self) -> None:
        """Take up the person's own keys, and follow the theme."""
        from tui.preferences import keep_theme, take_up

        await take_up(self, self._appearance, self._unknown_theme)
        self.theme_changed_signal.subscribe(
            self,
            lambda theme: self.run_worker(
                keep_theme(self, self._looks, theme.name), group="theme", exclusive=True, exit_on_error=False
            ),
        )

    async def action_switch_mode(self, mode: str) -> None:
        """Go to a screen, once the workspace is open; a dialog is answered first."""
        if self.current_mode == "_default" or self.screen.is_modal:
            return
        await self.switch_mode(mode)
        self.follower.wake()

    # --- what was read ------------------------------------------------------------------------------------------

    @on(SnapshotArrived)
    def _take_snapshot(self, message: SnapshotArrived) -> None:
        if message.run_id == self.followed_id:
            self.trouble = ""
            self.snapshot = message.snapshot
            status = message.snapshot.status
            self.herald.see(message.run_id, status.state, status.reason or "", message.snapshot.events)
            self._look(message.run_id)
            self._tell_digest()

    def look_on(self) -> None:
        """Looking at another screen is not being away from a run that was seen."""
        if self.followed_id is not None and self.lookout.has_seen(self.followed_id):
            self._look(self.followed_id)

    @work(group="look", exit_on_error=False)
    async def _look(self, run_id: str) -> None:
        await self.lookout.look(run_id)

    @on(DigestArrived)
    def _take_digest(self, message: DigestArrived) -> None:
        self.digest = message.digest
        self._tell_digest()

    def _tell_digest(self) -> None:
        """Tell what nobody saw, once its run is on the screen and nothing else is asked."""
        digest = self.digest
        if digest is None or self.current_mode != "run" or self.screen.is_modal:
            return
        from tui.dialogs.digest import DigestDialog

        self.digest = None
        if digest.run_id == self.followed_id:
            self.push_screen(DigestDialog(digest))

    @on(SnapshotFailed)
    def _take_trouble(self, message: SnapshotFailed) -> None:
        if message.run_id == self.followed_id:
            why = fmt.said(f"{message.title} {message.remedy}".strip())
            self.trouble = tr("This run cannot be read: {why}", why=why)

    @on(RunsArrived)
    def _take_runs(self, message: RunsArrived) -> None:
        before = {run.id for run in self.runs} | {run.id for run in self.damaged}
        self.runs, self.damaged = message.runs, message.damaged
        for run in message.runs:
            self.herald.see(run.id, run.status.state, run.status.reason or "")
            if run.id == self.followed_id:
                self._bring_up_to_date(run)
        known = {run.id for run in message.runs} | {run.id for run in message.damaged}
        if self.followed_id in before - known or (self.followed_id is None and message.runs):
            self.look_at(message.runs[0].id if message.runs else None)

    def _bring_up_to_date(self, run: RunSummary) -> None:
        """Away from its screen the followed run is not read: the list tells how it stands, but not of a silence."""
        from msgspec.structs import replace

        known, now = self.snapshot, (run.status.state, is_live(run.status, run.is_stale))
        if known is not None and (known.status.state, is_live(known.status, known.is_stale)) != now:
            self.snapshot = replace(known, status=run.status, is_stale=run.is_stale)

    # --- what was asked for -------------------------------------------------------------------------------------

    def look_at(self, run_id: str | None) -> None:
        """Follow another run; None: the newest of the next list."""
        if run_id != self.followed_id:
            self.followed_id, self.snapshot, self.trouble, self.span = run_id, None, "", None
        self.follower.wake()

    @on(RunOpenRequested)
    @on(RunStarted)
    async def _show_run(self, message: RunOpenRequested | RunStarted) -> None:
        self.look_at(message.run_id)
        await self.switch_mode("run")

    @on(VerbRequested)
    def _ask(self, message: VerbRequested) -> None:
        if self.asked_verb:
            self.notify(
                tr("Waiting for the answer to {verb} first.", verb=verb_word(self.asked_verb)),
                severity="warning",
                markup=False,
            )
            return
        self.asked_verb = message.verb
        self._ask_run(message.run_id, message.verb)

    @work(group="ask", exit_on_error=False)
    async def _ask_run(self, run_id: str, verb: str) -> None:
        waivers: dict[str, str] = {}
        ticks: list[str] = []
        while True:
            try:
                is_done, text = await in_thread(self.bridge.ask, run_id, verb, waivers, ticks)
            except Exception as error:  # noqa: BLE001 - the top of a worker: told as the answer, others wait for it
                if isinstance(error, BlockedError) and await self._decide(error.checks, waivers, ticks):
                    continue
                title = getattr(error, "title", str(error) or type(error).__name__)
                is_done, text = False, f"{title} {getattr(error, 'remedy', '')}".strip()
            break
        self.post_message(VerbAnswered(run_id, verb, is_done, text))

    async def _decide(self, checks: Sequence[Check], waivers: dict[str, str], ticks: list[str]) -> bool:
        """Have the person tick and waive what stands in the way; False where not all of it can be, or is."""
        if not checks or not all(check.is_waivable or check.remedy_action == "tick" for check in checks):
            return False
        from tui.dialogs.tick import TickDialog
        from tui.dialogs.waive import WaiveDialog

        for check in checks:
            if check.remedy_action == "tick":
                if not await self.push_screen_wait(TickDialog(check.title)):
                    return False
                ticks.append(check.id)
                continue
            reason = await self.push_screen_wait(WaiveDialog(fmt.said(check.title), fmt.said(check.evidence)))
            if reason is None:
                return False
            waivers[check.id] = reason
        return True

    @on(VerbAnswered)
    def _tell_answer(self, message: VerbAnswered) -> None:
        self.asked_verb = ""
        text = fmt.said(message.text)
        if message.is_done:
            self.notify(text, title=verb_word(message.verb), markup=False)
        else:
            self.notify(text, title=verb_word(message.verb), severity="error", timeout=15, markup=False)
        self.follower.wake()

    @on(CallFailed)
    def _tell_failure(self, message: CallFailed) -> None:
        text = fmt.said(f"{message.title}\n{message.remedy}".strip(), keep_newlines=True)
        self.notify(text, title=tr("Not done"), severity="error", timeout=15, markup=False)

    # --- leaving ------------------------------------------------------------------------------------------------

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Do what a key or a click means, unless this viewer is to read alone and it would change something."""
        if self.is_read_only and is_changing(action if isinstance(action, str) else action[1]):
            self.notify(tr("This viewer is read-only."), severity="warning", markup=False)
            return False
        return await super().run_action(action, default_namespace, namespaces)

    async def action_quit(self) -> None:
        """Leave the app; a run goes on."""
        self.leave()

    def leave(self) -> None:
        """Exit, once it is sure that nothing is lost."""
        if not self.num_unsaved:
            self._exit_now()
        elif not self.screen.is_modal:
            from tui.dialogs.confirm import UnsavedDialog

            self.push_screen(
                UnsavedDialog(self.num_unsaved), lambda is_sure: self._exit_now() if is_sure else None
            )

    def _exit_now(self) -> None:
        """Exit with the sentence that says what goes on."""
        snapshot, live = self.snapshot, live_run(self.runs)
        going = live.id if live else None
        if snapshot is not None and is_live(snapshot.status, snapshot.is_stale):
            going = snapshot.status.id
        elif snapshot is not None and snapshot.status.id == going:
            going = None
        self.exit(tr("Run {run_id} goes on; llm-tui shows it again.", run_id=going) if going else None)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The screens by their names and what can be done now, beside Textual's own commands."""
        from tui.palette import key_commands, run_commands

        for mode in modes.MODES:
            yield SystemCommand(
                tr(mode.title),
                tr(mode.about),
                lambda name=mode.name: self.call_later(self.action_switch_mode, name),
            )
        yield from key_commands(self, screen)
        yield from run_commands(self)
        for command in super().get_system_commands(screen):
            yield command._replace(title=tr(command.title), help=tr(command.help))


def open_app(folder: Path, *, is_read_only: bool = False) -> int:
    """Run the app on a workspace and print its farewell; the answer is the exit status."""
    path = workspace_path(folder)
    use(chosen(path))
    app = LlmTui(path, is_read_only=is_read_only)
    farewell = app.run()
    if farewell:
        sys.stdout.write(f"{farewell}\n")
    return app.return_code or 0
