"""The preflight screen: the checklist before a run, what mends it, and the start that it unlocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import Resize, ScreenResume, ScreenSuspend

from engine.errors import BlockedError, EngineError
from tui import format as fmt
from tui.check_board import CheckBoard
from tui.language import tr
from tui.messages import (
    CallFailed,
    ChecksEnded,
    CheckVerdictArrived,
    RemedyApplied,
    RunStarted,
    RunStartRefused,
    StepsArrived,
)
from tui.screens.room import RoomScreen
from tui.threads import in_thread
from tui.verbs import is_live, live_run
from tui.widgets.check_detail import CheckDetail
from tui.widgets.checklist import CheckList
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows
from tui.widgets.start_line import StartLine

if TYPE_CHECKING:
    from engine.records import Check, RemedyAction

_FIRST_PAINT_S = 0.05


class PreflightScreen(RoomScreen):
    """Runs the checks as it opens, unless a run is going; starts a run once nothing blocks."""

    MODE = "preflight"
    CSS_PATH = "preflight.tcss"
    AUTO_FOCUS = "CheckList"
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (72, "-narrow"), (100, "-wide")]
    HELP_TEXT = """
The checks before a run. Nothing starts while one of them
blocks, and the run's own supervisor makes them once more.

  s        start the run; while locked: to the next check that blocks
  j k ↑ ↓  select a step; g G  the first, the last
  Enter    evidence, numbers and remedy at large, and back
  x        choose applications to close, to free GPU memory
  a        do what the selected step's remedy names
  space    tick a step of your own, once it is so; or untick it
  w        waive the selected check, with a reason; or back
  r        make the checks again
  c Esc    cancel the checks

✓ pass   ! warn   ✗ FAIL, blocks   ~ waived   – skipped
Grey lines with an age are of the last time, and do not count.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start_run", "Start", tooltip="Start the run", id="preflight.start"),
        Binding("s", "next_lock", "Next lock", tooltip="To the next check that blocks", id="preflight.lock"),
        Binding("w", "waive_check", "Waive", tooltip="Waive the selected check", id="preflight.waive"),
        Binding("space", "tick_step", "Tick", tooltip="Tick a step of your own", id="preflight.tick"),
        Binding("a", "apply_remedy", "Apply", tooltip="Do what the remedy names", id="preflight.apply"),
        Binding("x", "close_apps", "Close", tooltip="Choose applications to close", id="preflight.close"),
        Binding("r", "check_again", "Again", tooltip="Make all checks again", id="preflight.again"),
        Binding("c", "cancel_checks", "Cancel", tooltip="Cancel the checks", id="preflight.cancel"),
        Binding("enter", "toggle_detail", "Detail", show=False, id="preflight.detail"),
        Binding("escape", "step_back", "Back", show=False, id="preflight.back"),
        Binding("j,down", "move(1)", "Down", show=False, id="preflight.down"),
        Binding("k,up", "move(-1)", "Up", show=False, id="preflight.up"),
        Binding("pagedown", "scroll_detail(1)", "More", show=False, id="preflight.more"),
        Binding("pageup", "scroll_detail(-1)", "Less", show=False, id="preflight.less"),
    ]
    checklist = getters.query_one(CheckList)
    detail = getters.query_one(CheckDetail)
    start_line = getters.query_one(StartLine)

    def __init__(self) -> None:
        super().__init__()
        self._board = CheckBoard()
        self._row_at_begin = 0

    def compose_room(self) -> ComposeResult:
        """The list with its detail, the start line."""
        with Container(id="checks"):
            yield CheckList()
            yield CheckDetail(id="detail")
        yield StartLine()

    def on_mount(self) -> None:
        """Begin to check at once; with a run going, only when asked: the rehearsal would disturb it."""
        super().on_mount()
        self._clock = self.set_interval(1.0, self._show)
        # What is read or begun here waits for the first paint, which would wait for it.
        self.set_timer(_FIRST_PAINT_S, self._open)

    def _open(self) -> None:
        if not self._live_run and not self.room_app.is_read_only:
            self._begin()
        else:
            self._show()
            self._check(is_reading_only=True)

    @on(ScreenResume)
    def _look_again(self) -> None:
        """Check as when it was first opened where nothing was checked since a run was started from here."""
        self._clock.resume()
        board = self._board
        is_untouched = board.state == "idle" and not board.trouble and not board.is_cancelled
        if is_untouched and board.steps and not self._live_run and not self.room_app.is_read_only:
            self._begin()

    @on(ScreenSuspend)
    def _rest(self) -> None:
        self._clock.pause()

    # --- the checks ---------------------------------------------------------------------------------------------

    def action_check_again(self) -> None:
        """Make all checks again, with the waivers and ticks given so far."""
        self._board.trouble = ""
        self._begin()

    def _begin(self, *, starts_then: bool = False) -> None:
        if self._board.state == "starting":
            return
        self._board.begin(starts_then=starts_then)
        self._row_at_begin = self.checklist.step_at_cursor
        self._show()
        self._check()

    @work(exclusive=True, group="checks", exit_on_error=False)
    async def _check(self, is_reading_only: bool = False) -> None:
        """Post each verdict as it comes; a newer call or the end of the screen ends the process."""
        bridge = self.room_app.bridge
        verdicts = bridge.checks(dict(self._board.waivers), tuple(sorted(self._board.ticks)))
        try:
            steps = await in_thread(bridge.steps)
            self.post_message(StepsArrived(steps, await in_thread(bridge.known_checks)))
            if is_reading_only:
                return
            async for check in verdicts:
                self.post_message(CheckVerdictArrived(check))
            self.post_message(ChecksEnded())
        except (EngineError, OSError) as error:
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(ChecksEnded(title, remedy))
        finally:
            await verdicts.aclose()

    @on(StepsArrived)
    def _take_steps(self, message: StepsArrived) -> None:
        self._board.take_steps(message.steps, message.known)
        self._show()

    @on(CheckVerdictArrived)
    def _take_verdict(self, message: CheckVerdictArrived) -> None:
        self._board.take(message.check)
        self._show()

    @on(ChecksEnded)
    def _end_checks(self, message: ChecksEnded) -> None:
        if self._board.end(f"{message.title} {message.remedy}".strip()):
            self._start_now()
            return
        self._go_on_from_the_last_lock()
        # Whoever has moved meanwhile is looking at something.
        if self.checklist.step_at_cursor == self._row_at_begin:
            self._go_to_blocking()

    def action_cancel_checks(self) -> None:
        """End the checks and all that they began; what was found stays, and does not open the start."""
        self.workers.cancel_group(self, "checks")
        self._board.cancel()
        self._show()

    # --- what is shown ------------------------------------------------------------------------------------------

    @property
    def _live_run(self) -> str:
        """The id of a run that is going, by what was read last of each; empty where there is none."""
        snapshot, live = self.room_app.snapshot, live_run(self.room_app.runs)
        followed = snapshot.status.id if snapshot else ""
        if snapshot is not None and is_live(snapshot.status, snapshot.is_stale):
            return followed
        return live.id if live is not None and live.id != followed else ""

    @property
    def _selected(self) -> Check | None:
        """The verdict that counts on the step under the cursor; None where there is none."""
        return self._board.verdicts.get(self.checklist.selected_id or "") if self.is_mounted else None

    def _show(self) -> None:
        self.checklist.show(self._board.standing())
        self.start_line.show(self._board.readiness(self._live_run))
        self._show_detail()

    @on(Rows.Moved)
    def _show_detail(self) -> None:
        selected_id = self.checklist.selected_id
        step = next((step for step in self._board.steps if step.id == selected_id), None)
        self.detail.show(step, self._board.standing())
        self.offer(self._board.state, self._board.readiness().is_unlocked, self._selected)

    def on_resize(self, event: Resize) -> None:
        """Keep the focus on what is to be seen, and give the evidence the rows of a high screen."""
        self.call_after_refresh(self._place_focus)

    def _place_focus(self) -> None:
        self.checklist.show(self._board.standing())
        if self.checklist.display and not self.checklist.has_focus and not self.detail.has_focus:
            self.checklist.focus()
        elif not self.checklist.display:
            self.detail.focus()

    def action_toggle_detail(self) -> None:
        """The detail at large, or the list beside it again."""
        is_large = not self.has_class("-large")
        self.set_class(is_large, "-large")
        self.detail.is_large = is_large
        if is_large:
            self.detail.focus()
        else:
            self.call_after_refresh(self.checklist.focus)

    def action_step_back(self) -> None:
        """Out of the large detail; else out of the checks that run."""
        if self.has_class("-large"):
            self.action_toggle_detail()
        elif self._board.state == "checking":
            self.action_cancel_checks()

    def action_move(self, by: int) -> None:
        """Select another step while the list has no focus."""
        self.checklist.action_move(by)

    def action_scroll_detail(self, pages: int) -> None:
        """Move the text of the detail."""
        self.detail.scroll_text(pages)

    def panel_to_maximise(self) -> Panel | None:
        """The detail, which is what may be longer than its place."""
        return self.detail

    def _go_to_blocking(self) -> None:
        """Put the cursor on a check that blocks, if any does."""
        rows = self._board.blocking_rows
        if rows and self.checklist.step_at_cursor not in rows:
            self.checklist.select(rows[0])

    # --- what mends a verdict -----------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What does nothing now is not offered: each of these keys by the selected verdict and the state."""
        check, state = self._selected, self._board.state
        if action == "start_run":
            return self._board.readiness().is_unlocked
        if action == "next_lock":
            return state != "starting" and bool(self._board.blocking_rows)
        if state == "starting" and action in ("waive_check", "tick_step", "apply_remedy", "close_apps"):
            return False
        if action == "waive_check":
            return check is not None and ((check.blocking and check.is_waivable) or check.status == "waived")
        if action == "tick_step":
            return check is not None and (check.remedy_action == "tick" or check.id in self._board.ticks)
        if action == "apply_remedy":
            return check is not None and check.remedy_action in ("write-settings", "enable-linger")
        if action == "check_again":
            return state in ("idle", "checked")
        if action == "cancel_checks":
            return state == "checking"
        return super().check_action(action, parameters)

    def action_waive_check(self) -> None:
        """Ask for the reason to pass over the selected check; of one that is waived, take the waiver back."""
        check = self._selected
        if check is None:
            return
        if check.status == "waived":
            self._board.waivers.pop(check.id, None)
            self.action_check_again()
            return
        from tui.dialogs.waive import WaiveDialog

        def waive(reason: str | None) -> None:
            if reason is not None:
                self._board.waive(check, reason)
                self._go_on_from_the_last_lock()

        self.app.push_screen(WaiveDialog(fmt.said(check.title), fmt.said(check.evidence)), waive)

    def action_tick_step(self) -> None:
        """Ask whether a step of the person's own is so; one that is ticked is unticked."""
        check = self._selected
        if check is None:
            return
        if check.id in self._board.ticks:
            self._board.tick(check, False)
            self._show()
            return
        from tui.dialogs.tick import TickDialog

        def tick(is_so: bool | None) -> None:
            if is_so:
                self._board.tick(check, True)
                self._go_on_from_the_last_lock()

        self.app.push_screen(TickDialog(check.title), tick)

    def _go_on_from_the_last_lock(self) -> None:
        """Show what was decided; the last lock gone, the step that had waited for it is made."""
        if self._board.has_more_to_check:
            self.action_check_again()
        else:
            self._show()

    def action_close_apps(self) -> None:
        """Let the person choose what to close; afterwards the checks are made again."""
        from tui.dialogs.close_apps import CloseAppsDialog

        def check(was_tried: bool | None) -> None:
            if was_tried:
                self.action_check_again()

        dialog = CloseAppsDialog(self.room_app.bridge, self._board.needed_vram_bytes)
        self.app.push_screen(dialog, check)

    def action_apply_remedy(self) -> None:
        """Do what the selected verdict's remedy names."""
        if (check := self._selected) is not None:
            self._apply(check.remedy_action)

    @work(group="remedy", exit_on_error=False)
    async def _apply(self, action: RemedyAction) -> None:
        try:
            self.post_message(RemedyApplied(await in_thread(self.room_app.bridge.apply_remedy, action)))
        except (EngineError, OSError) as error:
            self.post_message(CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", "")))

    @on(RemedyApplied)
    def _check_what_was_mended(self, message: RemedyApplied) -> None:
        self.notify(fmt.said(message.text), markup=False)
        self.action_check_again()

    # --- the start ----------------------------------------------------------------------------------------------

    def action_next_lock(self) -> None:
        """Go to the next check that blocks; after the last to the first."""
        rows = self._board.blocking_rows
        at = self.checklist.step_at_cursor
        if rows:
            self.checklist.select(next((row for row in rows if row > at), rows[0]))

    def action_start_run(self) -> None:
        """Start the run; verdicts that are older than a minute are made anew before."""
        if self._board.has_old_verdicts:
            self._board.trouble = ""
            self._begin(starts_then=True)
        else:
            self._start_now()

    def _start_now(self) -> None:
        self._board.state, self._board.trouble = "starting", ""
        self._show()
        self._start()

    @work(exclusive=True, group="start", exit_on_error=False)
    async def _start(self) -> None:
        try:
            run_id = await in_thread(
                self.room_app.bridge.start, dict(self._board.waivers), tuple(sorted(self._board.ticks))
            )
        except (EngineError, OSError) as error:
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(RunStartRefused(title, remedy, isinstance(error, BlockedError)))
        else:
            self.post_message(RunStarted(run_id))

    @on(RunStartRefused)
    def _tell_refusal(self, message: RunStartRefused) -> None:
        """Say why; where a check stood in the way, make them all again, so that the list shows which."""
        self._board.state = "checked"
        why = fmt.said(f"{message.title} {message.remedy}".strip())
        self._board.trouble = tr("Not started. {why}", why=why)
        if message.is_blocked:
            self._begin()
        else:
            self._show()

    @on(RunStarted)
    def _clear(self) -> None:
        """The app goes to the run; what was found here no longer counts for the next one."""
        self.workers.cancel_group(self, "checks")
        self._board.clear()
        self._show()
