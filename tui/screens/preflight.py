"""The preflight screen: the checklist before a run, and the start that it unlocks."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace
from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import OptionList

from engine.errors import EngineError
from engine.records import Check
from tui import format as fmt
from tui.bridge import in_thread
from tui.dialogs.waive import WaiveDialog
from tui.messages import ChecksEnded, CheckVerdictArrived, RunStarted, RunStartRefused
from tui.screens.room import RoomScreen
from tui.verbs import live_run
from tui.widgets.checklist import EXPECTED, CheckList
from tui.widgets.facts_panel import Fact, FactsPanel
from tui.widgets.lines import BAD, MUTED, STRONG, TEXT
from tui.widgets.panel import Panel
from tui.widgets.start_line import StartLine, StartState
from tui.widgets.text_panels import DetailPanel

_SUMMARY = (("model", "settings"), ("data", "corpus"), ("memory", "memory"))
"""Labels of the summary, and the check whose evidence holds the fact."""


class PreflightScreen(RoomScreen):
    """Runs the checks as it opens, unless a run is going; starts a run once nothing blocks."""

    MODE = "preflight"
    CSS_PATH = "preflight.tcss"
    AUTO_FOCUS = "CheckList"
    HELP_TEXT = """
The checks before a run. Nothing starts while one of them blocks.

  s        start the run, once the line below says that it is unlocked
  w        waive the selected check that blocks, with a reason
  r        make the checks again
  j k ↑ ↓  select a check; the detail has its evidence and the remedy
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start_run", "Start", tooltip="Start the run", id="preflight.start"),
        Binding(
            "w", "waive_check", "Waive", tooltip="Waive the selected blocking check", id="preflight.waive"
        ),
        Binding("r", "check_again", "Check again", tooltip="Make all checks again", id="preflight.again"),
    ]
    checklist = getters.query_one(CheckList)
    detail = getters.query_one(DetailPanel)
    start_line = getters.query_one(StartLine)

    def __init__(self) -> None:
        super().__init__()
        self._verdicts: dict[str, Check] = {}
        self._waivers: dict[str, str] = {}
        self._state: StartState = "idle"
        self._trouble = ""

    def compose_room(self) -> ComposeResult:
        """The plan in short, the list with its detail, the start line."""
        yield FactsPanel("Plan", id="plan", help_text="What a run would be, from the evidence of the checks.")
        with Container(id="checks"):
            yield CheckList()
            yield DetailPanel("Detail", id="detail")
        yield StartLine()

    def on_mount(self) -> None:
        """Begin to check at once; with a run going, only when asked: the rehearsal would disturb it."""
        super().on_mount()
        self._show()
        if live_run(self.room_app.runs) is None:
            self.action_check_again()

    # --- the checks ---------------------------------------------------------------------------------------------

    def action_check_again(self) -> None:
        """Make all checks again, with the waivers given so far."""
        self._verdicts, self._trouble, self._state = {}, "", "checking"
        self._show()
        self._check()

    @work(exclusive=True, group="checks", exit_on_error=False)
    async def _check(self) -> None:
        """Post each verdict as it comes; a newer call or the end of the screen ends the process."""
        verdicts = self.room_app.bridge.checks(dict(self._waivers))
        try:
            async for check in verdicts:
                self.post_message(CheckVerdictArrived(check))
            self.post_message(ChecksEnded())
        except (EngineError, OSError) as error:
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(ChecksEnded(title, remedy))
        finally:
            await verdicts.aclose()

    @on(CheckVerdictArrived)
    def _take_verdict(self, message: CheckVerdictArrived) -> None:
        self._verdicts[message.check.id] = message.check
        self._show()

    @on(ChecksEnded)
    def _end_checks(self, message: ChecksEnded) -> None:
        self._state = "idle" if message.title else "checked"
        self._trouble = fmt.clean(f"{message.title} {message.remedy}".strip())
        blocking = next((index for index, check in enumerate(self._ordered()) if check.blocking), None)
        self._show()
        if blocking is not None:
            self.checklist.highlighted = blocking

    def _ordered(self) -> list[Check]:
        order = [*EXPECTED, *(check_id for check_id in self._verdicts if check_id not in EXPECTED)]
        return [self._verdicts[check_id] for check_id in order if check_id in self._verdicts]

    # --- what is shown ------------------------------------------------------------------------------------------

    def _show(self) -> None:
        self.checklist.show(self._verdicts, self._state == "checking")
        self.query_one("#plan", FactsPanel).show(self._summary())
        live = live_run(self.room_app.runs)
        self.start_line.show(self._state, self._ordered(), self._trouble, live.id if live else "")
        self._show_detail()

    def _summary(self) -> list[Fact]:
        facts: list[Fact] = []
        for label, check_id in _SUMMARY:
            check = self._verdicts.get(check_id)
            if check is not None and check.evidence:
                facts.append((label, fmt.clean(check.evidence), TEXT))
            else:
                facts.append((label, fmt.UNKNOWN, MUTED))
        return facts

    @on(OptionList.OptionHighlighted)
    def _show_detail(self) -> None:
        check = self._verdicts.get(self.checklist.selected_id or "")
        if check is None:
            self.detail.show([("No verdict on this check yet.", MUTED)])
        else:
            word = f"{check.status.upper()}{', blocks the start' if check.blocking else ''}"
            style = BAD if check.blocking else STRONG
            remedy = f"What to do: {fmt.clean(check.remedy, keep_newlines=True)}" if check.remedy else ""
            evidence = fmt.clean(check.evidence, keep_newlines=True)
            title = f"{fmt.clean(check.title)} ({fmt.clean(check.id)})"
            self.detail.show([(title, STRONG), (word, style), (evidence, TEXT), (remedy, TEXT)])
        self.offer(self._state, self._is_unlocked, check is not None and check.blocking)

    def panel_to_maximise(self) -> Panel | None:
        """The detail, which is what may be longer than its place."""
        return super().panel_to_maximise() or self.detail

    # --- waive and start ----------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Start is dim while something locks it; waive is there for a check that blocks."""
        if action == "start_run":
            return True if self._is_unlocked else None
        if action == "waive_check":
            check = self._verdicts.get(self.checklist.selected_id or "") if self.is_mounted else None
            return check is not None and check.blocking
        if action == "check_again":
            return self._state in ("idle", "checked")
        return super().check_action(action, parameters)

    @property
    def _is_unlocked(self) -> bool:
        return self._state == "checked" and not any(check.blocking for check in self._verdicts.values())

    def action_waive_check(self) -> None:
        """Ask for the reason to pass over the selected check."""
        check = self._verdicts[self.checklist.selected_id or ""]

        def waive(reason: str | None) -> None:
            if reason is None:
                return
            self._waivers[check.id] = reason
            evidence = f"{check.evidence} Waived: {reason}"
            self._verdicts[check.id] = replace(check, status="waived", blocking=False, evidence=evidence)
            self._show()

        self.app.push_screen(WaiveDialog(fmt.clean(check.title), fmt.clean(check.evidence)), waive)

    def action_start_run(self) -> None:
        """Start the run."""
        self._state = "starting"
        self._show()
        self._start()

    @work(exclusive=True, group="start", exit_on_error=False)
    async def _start(self) -> None:
        try:
            run_id = await in_thread(self.room_app.bridge.start, dict(self._waivers))
        except EngineError as error:
            self.post_message(RunStartRefused(error.title, error.remedy))
        else:
            self.post_message(RunStarted(run_id))

    @on(RunStartRefused)
    def _tell_refusal(self, message: RunStartRefused) -> None:
        self._state = "checked"
        self._trouble = fmt.clean(f"Not started. {message.title} {message.remedy}".strip())
        self._show()

    @on(RunStarted)
    def _clear(self) -> None:
        """The app goes to the run; what was found here no longer counts for the next one."""
        self._verdicts, self._waivers, self._state, self._trouble = {}, {}, "idle", ""
        self._show()
