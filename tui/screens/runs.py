"""The runs screen: every run of the workspace, newest first."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Input, Static

from engine.errors import EngineError
from engine.records import DamagedRun, RunSummary
from tui import format as fmt
from tui.dialogs.confirm import StopRunDialog
from tui.language import mark, tr
from tui.late_messages import ComparisonArrived, RemovalWeighed, RunRemoved, RunTagged
from tui.messages import CallFailed, RunOpenRequested, VerbRequested
from tui.screens.room import RoomScreen, no_run_yet
from tui.threads import in_thread
from tui.verbs import possible_verbs
from tui.widgets.line_input import LineInput, PromptLine
from tui.widgets.overlay_panels import LETTERS, MOST_RUNS, OverlayChart
from tui.widgets.panel import Panel
from tui.widgets.run_facts import RunFacts
from tui.widgets.run_table import Listed, RunTable, columns, matches

if TYPE_CHECKING:
    from engine.shelf import RemovalKind


_WHILE_TYPING = ("show_help", "toggle_maximised")
"""Actions of the screen that are other than what its rows are for."""


class RunsScreen(RoomScreen):
    """Shows the app's `runs`; the selected one can be opened, stopped and gone on with."""

    MODE = "runs"
    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RecordTable"
    HELP_TEXT = """
Every run of this workspace, newest first.

  enter    show the selected run on the run screen
  p r      pause it, or go on with it
  x        stop it (asks first)

  space    mark it or not; escape unmarks all, ends the filter
  o        the marked runs in one chart, with what differs
  /        filter by words of name, state, model and tags;
           -word leaves out
  s S      sort by the next column; the other way round
  t        its tags
  a D      archive or delete it: asks, and says what it frees
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "ask('pause')", "Pause", id="runs.pause"),
        Binding("r", "ask('resume')", "Resume", tooltip="Go on with it", id="runs.resume"),
        Binding("x", "stop_run", "Stop", tooltip="Write a checkpoint and end", id="runs.stop"),
        Binding("space", "mark", "Mark", tooltip="For the comparison", id="runs.mark"),
        Binding("o", "overlay", "Overlay", tooltip="The marked runs in one chart", id="runs.overlay"),
        Binding("slash", "filter", "Filter", tooltip="Only some of the runs", id="runs.filter"),
        Binding("t", "tag", "Tags", tooltip="Words to find it by", id="runs.tag"),
        Binding("a", "remove('archive')", "Archive", tooltip="Delete its checkpoints", id="runs.archive"),
        Binding("D,delete", "remove('delete')", "Delete", tooltip="Delete its folder", id="runs.delete"),
        Binding("escape", "clear", "Clear", tooltip="No mark, no filter", id="runs.clear"),
    ]
    table = getters.query_one("#table", RunTable)
    about = getters.query_one("#about", RunFacts)
    filter_line = getters.query_one("#filter", LineInput)
    tags_line = getters.query_one("#tags", LineInput)

    def __init__(self) -> None:
        super().__init__()
        self._marked: dict[str, None] = {}
        """In the order of marking."""
        self._wanted = ""
        """What the runs are filtered by; empty: all are shown."""
        self._tagged_id = ""
        self._previewed: tuple[object, ...] = ()
        """The runs of the preview and the steps they had made."""

    def compose_room(self) -> ComposeResult:
        """The table, and more on the selected run."""
        yield RunTable(columns(self._letter_of), id="table")
        yield Static(no_run_yet(), id="nothing")
        with Horizontal(id="below"):
            yield RunFacts(id="about")
            yield OverlayChart(is_preview=True, id="preview")
        yield PromptLine("/", tr("words of name, state, model and tags; -word leaves out"), id="filter")
        yield PromptLine("", tr("tags, a blank between them; empty takes all away"), id="tags")

    def on_mount(self) -> None:
        """Follow the list of runs."""
        super().on_mount()
        self.watch(self.app, "runs", self._show)
        self.watch(self.app, "damaged", self._show)

    def _show(self) -> None:
        runs: tuple[Listed, ...] = (*self.room_app.runs, *self.room_app.damaged)
        self.set_class(not runs, "-empty")
        shown = {run.id: run for run in runs if matches(run, self._wanted)}
        known = {run.id for run in self.room_app.runs}
        self._marked = {run_id: None for run_id in self._marked if run_id in known}
        self.table.show(shown)
        self.filter_line.tell(tr("{shown} of {num}", shown=len(shown), num=len(runs)))
        told = ""
        if self._marked:
            told = (
                tr("{marked} marked, o compares", marked=len(self._marked))
                if len(self._marked) > 1
                else tr("{marked} marked", marked=len(self._marked))
            )
        self.about.set_subtitle(told)
        self._show_selected()

    @on(DataTable.RowHighlighted)
    def _show_selected(self) -> None:
        run, listed = self._selected, self.table.selected
        self.about.show_run(listed)
        verbs = possible_verbs(run.status) if run else None
        self.offer(listed and listed.id, verbs, len(self._marked), self._wanted)
        self._preview()

    @on(OverlayChart.Resized)
    def _preview(self) -> None:
        """Draw the marked runs, else the selected one, where the screen has room for it."""
        chart, selected = self.query_one("#preview", OverlayChart), self._selected
        wanted = tuple(self._marked) if len(self._marked) > 1 else (selected.id,) if selected else ()
        steps = {run.id: run.status.step for run in self.room_app.runs}
        key = tuple((run_id, steps.get(run_id)) for run_id in wanted)
        if chart.display and chart.size.width and key != self._previewed:
            self._previewed = key
            if wanted:
                self._read_preview(wanted, chart.size.width)
            else:
                chart.show((), False)

    @work(exclusive=True, group="preview", exit_on_error=False)
    async def _read_preview(self, run_ids: tuple[str, ...], num_columns: int) -> None:
        # A run that cannot be read is told of where it is opened.
        with contextlib.suppress(EngineError, OSError):
            found = await in_thread(self.room_app.bridge.compare, run_ids, num_columns)
            self.post_message(ComparisonArrived(found))

    @on(ComparisonArrived)
    def _show_preview(self, message: ComparisonArrived) -> None:
        if self._previewed:
            self.query_one("#preview", OverlayChart).show(message.found.runs, False)

    @property
    def _selected(self) -> RunSummary | None:
        run = self.table.selected if self.is_mounted else None
        return run if isinstance(run, RunSummary) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense for the selected run."""
        run = self._selected
        if isinstance(self.focused, LineInput) and action not in _WHILE_TYPING:
            return False
        if action in ("ask", "stop_run"):
            verb = parameters[0] if action == "ask" else "stop"
            if isinstance(self.table.selected, DamagedRun):
                return verb == "resume"
            return run is not None and verb in possible_verbs(run.status)
        if action == "remove":
            is_whole = run is not None and run.status.state.is_over
            return is_whole or (parameters[0] == "delete" and isinstance(self.table.selected, DamagedRun))
        if action in ("mark", "tag"):
            return run is not None
        if action == "overlay":
            return 2 <= len(self._marked) <= MOST_RUNS
        if action == "clear":
            return bool(self._marked or self._wanted)
        return super().check_action(action, parameters)

    @on(DataTable.RowSelected)
    def _open_run(self) -> None:
        """Show the selected run on the run screen."""
        if run := self._selected:
            self.app.post_message(RunOpenRequested(run.id))

    def action_ask(self, verb: str) -> None:
        """Ask the selected run for something; to go on with a damaged one makes its store anew."""
        if run := self.table.selected:
            self.app.post_message(VerbRequested(run.id, verb))

    def action_stop_run(self) -> None:
        """Stop the selected run, once that is confirmed."""
        run = self._selected
        if run is None:
            return

        def stop(is_sure: bool | None) -> None:
            if is_sure:
                self.app.post_message(VerbRequested(run.id, "stop"))

        self.app.push_screen(StopRunDialog(run.id), stop)

    def _letter_of(self, run_id: str) -> str:
        """As the chart names a marked run."""
        return LETTERS[list(self._marked).index(run_id)] if run_id in self._marked else " "

    # --- finding and comparing ----------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the selected run, or no longer, and go on to the next."""
        run = self._selected
        if run is None:
            return
        if run.id in self._marked:
            del self._marked[run.id]
        elif len(self._marked) < MOST_RUNS:
            self._marked[run.id] = None
        else:
            self.notify(tr("At most {most} runs can be compared.", most=MOST_RUNS), severity="warning")
        self._show()
        self.table.action_cursor_down()

    def action_overlay(self) -> None:
        """The marked runs in one chart."""
        from tui.screens.compare import CompareScreen

        self.app.push_screen(CompareScreen(tuple(self._marked)))

    def action_clear(self) -> None:
        """No mark and no filter."""
        self._marked = {}
        self._end_filter()

    def action_filter(self) -> None:
        """Type what the runs are to have."""
        self.filter_line.open(self._wanted)

    @on(Input.Changed, "#filter")
    def _filter(self, event: Input.Changed) -> None:
        if self.filter_line.is_open:
            self._wanted = event.value.strip()
            self._show()

    @on(Input.Submitted, "#filter")
    def _take_filter(self) -> None:
        """The filter stands as long as it is in force."""
        if not self._wanted:
            self.filter_line.close()
        self.table.focus()

    @on(LineInput.Left, "#filter")
    def _end_filter(self) -> None:
        self._wanted = ""
        self.filter_line.close()
        self.table.focus()
        self._show()

    @on(Input.Submitted, "#tags")
    @on(LineInput.Left, "#tags")
    def _close_tags(self) -> None:
        self.tags_line.close()
        self.table.focus()

    def action_tag(self) -> None:
        """Type the selected run's tags."""
        if run := self._selected:
            self._tagged_id = run.id
            self.tags_line.open(" ".join(run.tags), tr("tags of {run_id}:", run_id=fmt.clean(run.id)))

    @on(Input.Submitted, "#tags")
    def _take_tags(self, event: Input.Submitted) -> None:
        self._set_tags(self._tagged_id, event.value.split())

    @work(group="shelf", exit_on_error=False)
    async def _set_tags(self, run_id: str, tags: list[str]) -> None:
        try:
            kept = await in_thread(self.room_app.bridge.set_tags, run_id, tags)
        except (EngineError, OSError) as error:
            self.app.post_message(
                CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", ""))
            )
        else:
            self.post_message(RunTagged(run_id, kept))

    @on(RunTagged)
    def _tell_tags(self) -> None:
        self.room_app.follower.wake()

    # --- what may go --------------------------------------------------------------------------------------------

    @work(exclusive=True, group="shelf", exit_on_error=False)
    async def action_remove(self, kind: RemovalKind) -> None:
        """Weigh what archiving or deleting the selected run would free; the question comes with the answer."""
        if (run := self.table.selected) is None:
            return
        try:
            self.post_message(RemovalWeighed(await in_thread(self.room_app.bridge.removal, run.id, kind)))
        except (EngineError, OSError) as error:
            self.app.post_message(
                CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", ""))
            )

    @on(RemovalWeighed)
    def _ask_removal(self, message: RemovalWeighed) -> None:
        from tui.dialogs.remove_run import RemoveRunDialog

        told = message.told

        def remove(is_sure: bool | None) -> None:
            if is_sure:
                self._remove(told.run_id, told.kind)

        self.app.push_screen(RemoveRunDialog(told), remove)

    @work(group="removal", exit_on_error=False)
    async def _remove(self, run_id: str, kind: RemovalKind) -> None:
        try:
            self.post_message(RunRemoved(await in_thread(self.room_app.bridge.remove, run_id, kind)))
        except (EngineError, OSError) as error:
            self.app.post_message(
                CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", ""))
            )

    @on(RunRemoved)
    def _tell_removal(self, message: RunRemoved) -> None:
        told = message.told
        is_deletion = told.kind == "delete"
        self.notify(
            tr(
                mark("{run_id} deleted: {freed} freed.")
                if is_deletion
                else mark("{run_id} archived: {freed} freed."),
                run_id=fmt.clean(told.run_id),
                freed=fmt.size(told.freed_bytes),
            ),
            markup=False,
        )
        if is_deletion and self.room_app.followed_id == told.run_id:
            self.room_app.look_at(None)
        self.room_app.follower.wake()

    def panel_to_maximise(self) -> Panel | None:
        """The facts of the selected run."""
        return super().panel_to_maximise() or self.about
