"""The log screen: events and output of the followed run as one story, filtered, searched and copied.

The engine holds a window onto the output, however large that is; everything that reads goes into a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from engine.errors import EngineError
from engine.story import BEFORE, OUTPUT, LogLine, LogView
from tui import format as fmt
from tui.language import mark, tr, trn
from tui.late_messages import LogArrived, LogSearchEnded
from tui.messages import CallFailed
from tui.screens.room import RoomScreen, no_run_yet
from tui.threads import in_thread
from tui.widgets.line_input import LineInput, PromptLine
from tui.widgets.log_frame import end_text, search_text, size_text
from tui.widgets.log_panels import GAPS, LinePanel, LogRows, chosen, place_of, plain
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from tui.bridge import LogReader

POLL_EVERY_S = 1.0
Wanted = Callable[[LogLine], bool]
LEVELS: tuple[tuple[str, Wanted], ...] = (
    (mark("all levels"), lambda line: True),
    (mark("warnings and errors"), lambda line: line.level in ("warning", "error")),
    (mark("errors"), lambda line: line.level == "error"),
)
"""Output has no level: only the first lets it through."""
SOURCES: tuple[tuple[str, Wanted], ...] = (
    (mark("all sources"), lambda line: True),
    (mark("events"), lambda line: line.source != OUTPUT),
    *((name, lambda line, name=name: line.source == name) for name in ("supervisor", "trainer", "corpus")),
    (mark("output"), lambda line: line.source == OUTPUT),
)


class LogScreen(RoomScreen):
    """Follows the log while it is looked at."""

    MODE = "log"
    CSS_PATH = "log.tcss"
    AUTO_FOCUS = "LogRows"
    HELP_TEXT = """
Events of the run and what its processes have printed, oldest
first, followed to the newest. Printed lines have no level and
no time of their own: theirs is when the supervisor saw them.

  j k ↑ ↓  another line; it stands whole below
  g G      the first, the last; on the last one it follows
  f        follow on or off
  l        level: all, warnings and errors, errors
  o        source: all, events, one process, output
  /        search, backwards from the newest line; n goes on to
           older ones, N back, through all of the output and round
  y Y      copy the selected line; all lines on the screen
  escape   end the search
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow(True)", "Follow", tooltip="Stay at the newest line", id="log.follow"),
        Binding("f", "follow(False)", "Stop following", tooltip="Stay where one is", id="log.stay"),
        Binding("l", "next_level", "Level", tooltip="All, warnings and errors, errors", id="log.level"),
        Binding("o", "next_source", "Source", tooltip="Events or output, or one process", id="log.source"),
        Binding("slash", "search", "Search", key_display="/", id="log.search"),
        Binding("n", "find(1)", "Next", tooltip="On to older ones", id="log.next"),
        Binding("N", "find(-1)", "Back", tooltip="Back to newer ones", id="log.before"),
        Binding("y", "copy", "Copy", tooltip="The selected line", id="log.copy"),
        Binding("Y", "copy_screen", "Copy all", show=False, tooltip="All on the screen", id="log.copy-all"),
        Binding("escape", "end_search", "End search", id="log.end-search"),
    ]
    rows = getters.query_one("#rows", LogRows)
    line_panel = getters.query_one("#line", LinePanel)
    search_line = getters.query_one("#search", LineInput)

    def compose_room(self) -> ComposeResult:
        """The lines, the selected one, and the line to search with."""
        yield Static(no_run_yet(), id="nothing")
        yield LogRows(id="rows")
        yield LinePanel(id="line")
        yield PromptLine("/", tr("search for"), id="search")

    def on_mount(self) -> None:
        """Nothing was read yet."""
        super().on_mount()
        self.watch(self.app, "runs", self._tell, init=False)
        self._reader: LogReader | None = None
        self._run_id: str | None = None
        self._view: LogView | None = None
        self._level = 0
        self._source = 0
        self._follows = True
        self._ended: Content | None = None
        """How a run that tells nothing more has ended."""
        self._wanted = ""
        self._reading = asyncio.Lock()
        self._cancelled = threading.Event()
        self._is_searching = False

    # --- reading ------------------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        """Follow while it is looked at."""
        self._poll()

    def on_screen_suspend(self) -> None:
        """Nobody looks."""
        self._cancelled.set()
        self.workers.cancel_group(self, "log")

    @work(exclusive=True, group="log", exit_on_error=False)
    async def _poll(self) -> None:
        """Read what is new once a second; the run may change. A failure is told once, and may pass."""
        told, may_lack = "", True
        while True:
            try:
                await self._open()
                if (reader := self._reader) is not None and self._run_id is not None:
                    async with self._reading:
                        view = await in_thread(reader.poll)
                        if view is None and may_lack:
                            # What a look that failed or was left has read is news no more, yet was not shown.
                            view = await in_thread(reader.view)
                    if view is not None:
                        self.post_message(LogArrived(self._run_id, view))
                told, may_lack = "", False
            except (EngineError, OSError) as error:
                failure = _failure(error)
                if failure.title != told:
                    self.app.post_message(failure)
                told, may_lack = failure.title, True
            await asyncio.sleep(POLL_EVERY_S)

    async def _open(self) -> None:
        """Take up the followed run."""
        run_id = self.room_app.followed_id
        self.set_class(run_id is None, "-empty")
        if run_id == self._run_id and (run_id is None or self._reader is not None):
            return
        self._run_id, self._reader, self._view = run_id, None, None
        self._follows = True
        if run_id is not None:
            self.rows.border_title = tr("Log of {run_id}", run_id=fmt.clean(run_id))
            self._reader = await in_thread(self.room_app.bridge.log, run_id)

    @work(exclusive=True, group="window", exit_on_error=False)
    async def _move_window(self, kind: str) -> None:
        """Read on where the window ends, or anew at the end where `kind` is empty.

        The cursor stays beside what it stood at.
        """
        reader, run_id = self._reader, self._run_id
        if reader is None or run_id is None:
            return
        try:
            async with self._reading:
                if kind:
                    view = await in_thread(reader.earlier if kind == BEFORE else reader.later)
                else:
                    view = await in_thread(reader.go_to, None)
            self.post_message(LogArrived(run_id, view))
        except (EngineError, OSError) as error:
            self.app.post_message(_failure(error))

    @on(LogArrived)
    def _take(self, message: LogArrived) -> None:
        if message.run_id == self._run_id:
            self._view = message.view
            self._show(message.cursor)

    # --- showing ------------------------------------------------------------------------------------------------

    def _show(self, cursor: tuple[bool, int] | None = None) -> None:
        """Show what the filters let through; the cursor follows the end, or stays on its line."""
        view = self._view
        if view is None:
            return
        keeps_at = self.rows.cursor - self.rows.top
        name = cursor or self._name_to_keep()
        lines = chosen(view.lines, LEVELS[self._level][1], SOURCES[self._source][1])
        self.rows.show(lines, view, self._wanted)
        if self._follows and cursor is None:
            self.rows.move_to(len(lines) - 1, -1)
        else:
            index = place_of(lines, name)
            self.rows.top = max(0, index - keeps_at)
            self.rows.centre_on(index)
        self._tell()
        self._show_line()

    def _name_to_keep(self) -> tuple[bool, int] | None:
        """The line to stay on: that beside a gap, where the cursor stands on one that is being filled."""
        lines, at = self.rows.lines, self.rows.cursor
        if not 0 <= at < len(lines):
            return None
        if lines[at].kind in GAPS:
            at = at + 1 if lines[at].kind == BEFORE else at - 1
        return lines[at].name if 0 <= at < len(lines) else None

    def _tell(self) -> None:
        """Say in the frame what is shown of how much."""
        self._ended = ended = end_text(
            next((run for run in self.room_app.runs if run.id == self._run_id), None)
        )
        parts: list[Content] = []
        if self._is_searching:
            parts.append(Content(fmt.clean(tr("searching '{wanted}'", wanted=self._wanted))))
        elif self._wanted:
            parts.append(Content(fmt.clean(search_text(self._wanted, self.rows, self._view))))
        if ended is not None or self._follows:
            parts.append(ended or Content(tr("following")))
        if not self._follows:
            parts.append(Content(tr("line {number}", number=self.rows.cursor + 1)))
        parts += [Content(tr(LEVELS[self._level][0]))] * bool(self._level)
        parts += [Content(tr(SOURCES[self._source][0]))] * bool(self._source)
        is_filtered = bool(self._level or self._source)
        parts.append(Content(size_text(self.rows.num_rows, self._view, is_filtered=is_filtered)))
        self.rows.tell(Content(" · ").join(parts))
        num_rows, is_open = self.rows.num_rows, self.search_line.is_open
        self.offer(self._wanted, self._is_searching, num_rows > 0, is_open, self._follows, ended is None)

    @on(Rows.Moved)
    def _cursor_moved(self) -> None:
        """Away from the last line it follows no longer; on a gap, what is missing is read."""
        line = self.rows.selected
        is_last = self.rows.cursor == self.rows.num_rows - 1
        if line is not None and line.kind in GAPS:
            self._follows = False
            self._move_window(line.kind)
        elif self._follows != is_last:
            self._follows = is_last
        self._tell()
        self._show_line()

    def _show_line(self) -> None:
        self.line_panel.show(self.rows.selected)

    # --- what may be asked --------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense now."""
        if not self.is_mounted or not hasattr(self, "_view"):
            return super().check_action(action, parameters)
        is_typing = self.focused is self.search_line
        if action == "find":
            return bool(self._wanted) and not is_typing
        if action == "end_search":
            return (bool(self._wanted) or self.search_line.is_open) and not is_typing
        if action in ("copy", "copy_screen"):
            return self.rows.num_rows > 0 and not is_typing
        if action == "follow":
            can_grow = self._view is not None and self._ended is None
            return can_grow and not is_typing and parameters[0] is not self._follows
        if action in ("next_level", "next_source", "search"):
            return self._view is not None and not is_typing
        return super().check_action(action, parameters)

    def action_follow(self, follows: bool) -> None:
        """Stay at the newest line, or where one is."""
        self._follows = follows
        if self._follows and self._view is not None and self._view.bytes_after:
            self._move_window("")
        else:
            self._show()

    def action_next_level(self) -> None:
        """The next level filter."""
        self._level = (self._level + 1) % len(LEVELS)
        self._show()

    def action_next_source(self) -> None:
        """The next source filter."""
        self._source = (self._source + 1) % len(SOURCES)
        self._show()

    def action_copy(self) -> None:
        """The selected line, to the terminal's clipboard."""
        if (line := self.rows.selected) is not None:
            self.app.copy_to_clipboard(plain(line))
            self.notify(tr("The line was given to the terminal's clipboard."), title=tr("Copied"))

    def action_copy_screen(self) -> None:
        """All lines on the screen, to the terminal's clipboard."""
        lines = [plain(line) for line in self.rows.on_screen if line.kind not in GAPS]
        self.app.copy_to_clipboard("\n".join(lines))
        self.notify(
            trn(
                "{num} line was given to the terminal's clipboard.",
                "{num} lines were given to the terminal's clipboard.",
                len(lines),
            ),
            title=tr("Copied"),
        )

    # --- searching ----------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Open the line to search with."""
        self.search_line.open(self.search_line.value if self.search_line.is_open else self._wanted)
        self._tell()

    @on(Input.Submitted, "#search")
    def _begin_search(self, event: Input.Submitted) -> None:
        self.search_line.close()
        self.rows.focus()
        self._wanted = event.value.strip()
        self._show()
        if self._wanted:
            self.action_find(1, is_first=True)

    @on(LineInput.Left, "#search")
    def action_end_search(self) -> None:
        """Stop marking and searching."""
        self._cancelled.set()
        self._wanted, self._is_searching = "", False
        self.search_line.close()
        self.rows.focus()
        self._show()

    def action_find(self, by: int, is_first: bool = False) -> None:
        """Go on, 1, or back, -1; beyond what is held, the rest of the output is searched.

        A search goes backwards: it begins at the newest line, that under the cursor among them.
        """
        at = self.rows.cursor if is_first else self.rows.cursor - by
        if not self._go_from(at, -by):
            self._search_output(-by)

    def _go_from(self, at: int, direction: int) -> bool:
        """Go to the first place from a line on, unless lines that are not held come before it."""
        place = self.rows.place_from(at, direction)
        if place is None:
            return False
        self._follows = False
        self.rows.centre_on(place)
        self._tell()
        return True

    @work(exclusive=True, group="search", exit_on_error=False)
    async def _search_output(self, direction: int) -> None:
        """Search the output that is not held, from the edge of the window on, then from its other end."""
        reader, view, run_id, wanted = self._reader, self._view, self._run_id, self._wanted
        if reader is None or view is None or run_id is None:
            return
        is_backwards = direction < 0
        self._cancelled.set()
        cancelled = self._cancelled = threading.Event()
        self._is_searching = True
        self._tell()
        behind = max(0, view.total_bytes - view.bytes_after - 1)
        ways = (
            [(view.bytes_before, view.bytes_before), (view.bytes_after, view.total_bytes)]
            if is_backwards
            else [(view.bytes_after, behind), (view.bytes_before, 0)]
        )
        found = None
        try:
            if SOURCES[self._source][0] in ("all sources", OUTPUT) and not self._level:
                for has_more, edge in ways:
                    if has_more and found is None:
                        found = await in_thread(reader.find, wanted, edge, is_backwards, cancelled)
            if found is not None:
                async with self._reading:
                    moved = await in_thread(reader.go_to, found)
                self._follows = False
                self.post_message(LogArrived(run_id, moved, (True, found)))
            elif not cancelled.is_set():
                self.post_message(LogSearchEnded(wanted, direction))
        except (EngineError, OSError) as error:
            self.app.post_message(_failure(error))
        finally:
            if self._cancelled is cancelled and self.is_attached:  # no newer search has taken its place
                self._is_searching = False
                self._tell()

    @on(LogSearchEnded)
    def _go_round(self, message: LogSearchEnded) -> None:
        """Nothing more in this direction: go on from the other end of what is held."""
        if message.text != self._wanted:
            return
        far_end = self.rows.num_rows - 1 if message.direction < 0 else 0
        if not self._go_from(far_end, message.direction):
            self._tell()
            text = tr("'{wanted}' is nowhere in this log.", wanted=fmt.clean(message.text))
            self.notify(text, severity="warning", markup=False)

    def panel_to_maximise(self) -> Panel | None:
        """The selected line: the list has most of the screen already."""
        return self.line_panel if self.focused is self.rows else super().panel_to_maximise()


def _failure(error: Exception) -> CallFailed:
    """What to tell of a reading that failed."""
    return CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", ""))
