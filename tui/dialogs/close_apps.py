"""Closing programs before a run: who holds GPU memory, which of them to close, what became of them, what came free."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.errors import EngineError
from engine.records import Closing, ClosingReport, OpenProcess, OpenProcesses
from tui import format as fmt
from tui.dialogs.close_questions import CloseQuestion, KillQuestion, name_of, programs
from tui.dialogs.dialog import Dialog, Question
from tui.dialogs.key_row import key_row
from tui.language import mark, tr
from tui.messages import CallFailed, OpenProcessesArrived, ProcessesClosed
from tui.threads import in_thread
from tui.widgets.lines import wrap
from tui.widgets.process_list import ProcessHeads, ProcessList, gpu_text
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from tui.bridge import Bridge

Phase = Literal["listing", "choosing", "closing", "told", "failed"]
_MOST_WIDTH = 132
MOST_S = 8
"""Seconds that closing takes at most: 5 for the programs, 3 to see who comes back."""
_KEYS: dict[Phase, str] = {
    "listing": mark("Esc  leave"),
    "choosing": mark("space  mark    a  all    Enter  close the marked    r  list again    Esc  leave"),
    "closing": "",
    "told": mark("Enter  back to the checks    r  list again"),
    "failed": mark("r  try again    Esc  leave"),
}
_OUTCOMES = {
    "closed": (mark("✓ closed"), "$success"),
    "still-there": (mark("✗ still there"), "$error"),
    "gone": (mark("– was gone"), "$muted"),
    "refused": (mark("! refused"), "$warning"),
    "came-back": (mark("! came back"), "$warning"),
}
_OUTCOME_WIDTH = 15


class CloseAppsDialog(Question[bool]):
    """A list to choose from, then what came of it; the answer is whether anything was asked to end."""

    DEFAULT_CSS = """
    CloseAppsDialog {
        align: center middle;
        background: $background 60%;
        & > #box {
            width: 96%; max-width: 132; height: auto; max-height: 96%;
            background: $surface; border: round $primary; border-title-color: $foreground;
            border-title-style: bold; padding: 0 1;
        }
        & Static { width: 100%; height: auto; }
        & ProcessHeads { margin-top: 1; }
        & ProcessList { max-height: 42vh; margin-bottom: 1; }
        & #about { max-height: 4; color: $muted; }
        & #outcome { height: auto; max-height: 60vh; margin: 1 0; }
        & #said { color: $warning; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="close.mark"),
        Binding("a", "mark_all", "All", id="close.all"),
        Binding("enter", "go_on", "Close", id="close.go"),
        Binding("r", "list_again", "List again", id="close.again"),
        Binding("K", "kill", "Kill", id="close.kill"),
        Binding("escape,q", "leave", "Leave", id="close.leave"),
    ]
    processes = getters.query_one(ProcessList)

    def __init__(self, bridge: Bridge, needed_bytes: float | None = None) -> None:
        """`needed_bytes` are of GPU memory, for the run; None: that is not known."""
        super().__init__()
        self._needed_bytes = needed_bytes
        self._bridge = bridge
        self._phase: Phase = "listing"
        self._found: OpenProcesses | None = None
        self._told: ClosingReport | None = None
        self._began_s = 0.0
        self._num_asked = 0
        self._was_tried = False

    def compose(self) -> ComposeResult:
        """The head, the list and what stands under it; what came of it takes their place."""
        with Vertical(id="box") as box:
            box.border_title = Content(tr("Close applications"))
            yield Static(id="head")
            yield ProcessHeads()
            yield ProcessList()
            with VerticalScroll(id="outcome", can_focus=False):
                yield Static(id="told")
            yield Static(id="about")
            yield Static(id="said")
            yield Static(id="keys")

    def on_mount(self) -> None:
        """Look who is there."""
        self._clock = self.set_interval(1.0, self._show_head)
        self.action_list_again()

    # --- the list -----------------------------------------------------------------------------------------------

    def action_list_again(self) -> None:
        """Look who is there now."""
        if self._phase != "closing":
            self._enter("listing")
            self._look()

    @work(exclusive=True, group="list", exit_on_error=False)
    async def _look(self) -> None:
        try:
            self.post_message(OpenProcessesArrived(await in_thread(self._bridge.open_processes)))
        except (EngineError, OSError) as error:
            self._enter("failed")
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(CallFailed(title, remedy))

    @on(OpenProcessesArrived)
    def _take(self, message: OpenProcessesArrived) -> None:
        self._found, self._told = message.found, None
        self.processes.show(message.found.processes)
        self.query_one(ProcessHeads).has_gpu = self.processes.has_gpu
        self.query_one(ProcessHeads).redraw()
        self._enter("choosing")

    def action_mark(self) -> None:
        """Mark the program under the cursor; of one that may not be closed, it stands below why."""
        if self._phase == "choosing" and not self.processes.mark() and self.processes.selected:
            self._say(tr("This one stays, for the reason above."))

    def action_mark_all(self) -> None:
        """Mark all that may be closed, or none."""
        if self._phase == "choosing":
            self.processes.mark_all()

    # --- closing ------------------------------------------------------------------------------------------------

    def action_go_on(self) -> None:
        """Ask, and close what is marked; back to the checks once it is told what came of it."""
        if self._phase == "told":
            self.dismiss(self._was_tried)
        if self._phase != "choosing":
            return
        marked = self.processes.marked
        if not marked:
            self._say(tr("Mark programs with space first; a marks all that may be closed."))
            return
        self._ask(CloseQuestion(marked), marked, kill=False)

    def action_kill(self) -> None:
        """Ask once more whether what is still there is to be killed."""
        left = [closing.process for closing in self._still_there()]
        if left:
            self._ask(KillQuestion(left), left, kill=True)

    def _ask(self, question: Dialog[bool], processes: Sequence[OpenProcess], kill: bool) -> None:
        def answer(is_yes: bool | None) -> None:
            if is_yes:
                self._begin(processes, kill)

        self.app.push_screen(question, answer)

    def _still_there(self) -> list[Closing]:
        return [c for c in self._told.closings if c.outcome == "still-there"] if self._told else []

    def _begin(self, processes: Sequence[OpenProcess], kill: bool) -> None:
        self._was_tried, self._num_asked, self._began_s = True, len(processes), time.monotonic()
        self._enter("closing")
        self._close(processes, kill)

    @work(exclusive=True, group="close", exit_on_error=False)
    async def _close(self, processes: Sequence[OpenProcess], kill: bool) -> None:
        try:
            report = await in_thread(self._bridge.close_processes, processes, kill)
        except (EngineError, OSError) as error:
            self._enter("failed")
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(CallFailed(title, remedy))
        else:
            self.post_message(ProcessesClosed(report))

    @on(ProcessesClosed)
    def _tell(self, message: ProcessesClosed) -> None:
        """Show what came of it, a kill together with what went before; ask a second time about what is still there."""
        is_first = self._told is None
        self._told = message.report if self._told is None else merged(self._told, message.report)
        self._enter("told")
        if is_first:
            self.action_kill()

    def action_leave(self) -> None:
        """Back to the checks; not while programs are closing, which is over in seconds."""
        if self._phase == "closing" and time.monotonic() - self._began_s < MOST_S + 2:
            self._say(tr("What becomes of them is told within {most_s} s.", most_s=MOST_S))
        else:
            self.dismiss(self._was_tried)

    # --- what is shown ------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        """Answer a key that did nothing, until the next thing happens."""
        said = self.query_one("#said", Static)
        said.display = bool(text)
        said.update(Content(text))

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        has_rows = bool(self._found and self._found.processes)
        self.processes.display = has_rows and phase in ("choosing", "closing")
        self.query_one(ProcessHeads).display = self.processes.display
        self.query_one("#about").display = has_rows and phase == "choosing"
        self.query_one("#outcome").display = phase == "told"
        self.query_one("#head").display = phase != "told"
        keys = tr(_KEYS[phase]) if has_rows or phase != "choosing" else tr("r  list again    Esc  leave")
        if phase == "told" and self._still_there():
            keys = tr("{keys}    K  kill what is still there", keys=keys)
        width = min(_MOST_WIDTH, self.app.size.width * 96 // 100) - 6
        self.query_one("#keys", Static).update(key_row(self, keys, width))
        if phase == "told" and self._told is not None:
            told = told_content(self._told, width, self._needed_bytes)
            self.query_one("#told", Static).update(told)
        if self.processes.display:
            self.processes.focus()
        self._say("")
        self._show_head()
        self._show_about()

    def _show_head(self) -> None:
        self.query_one("#head", Static).update(Content(self._head()))

    def _head(self) -> str:
        if self._phase == "listing":
            return tr("Looking who holds GPU memory …")
        if self._phase == "closing":
            waited_s = time.monotonic() - self._began_s
            return tr(
                "Waiting for {programs} to end: {waited_s:.0f} s of at most {most_s} s …",
                programs=programs(self._num_asked),
                waited_s=waited_s,
                most_s=MOST_S,
            )
        if self._phase == "failed":
            return tr("It cannot be told who is there.")
        if self._found is None or self._phase == "told":
            return ""
        free = self._found.free_bytes
        vram = (
            tr("No GPU can be read here.") if free is None else tr("VRAM free: {free}.", free=fmt.size(free))
        )
        note = fmt.said(self._found.note)
        if not self._found.processes:
            nobody = tr("No program holds GPU memory, and none of preflight.close_apps is open.")
            return f"{vram} {nobody} {note}".strip()
        order = tr(" The most GPU memory comes first.") if self.processes.has_gpu else ""
        return f"{vram}{order} {note}".strip()

    @on(Rows.Moved)
    def _move_on(self) -> None:
        self._say("")
        self._show_about()

    def _show_about(self) -> None:
        process, marked = self.processes.selected, self.processes.marked
        if process is None:
            return
        named = tr("preflight.close_apps names it.") if process.is_unwanted else tr("It holds GPU memory.")
        about = fmt.said(process.why_not) or named
        free_bytes = self._found.free_bytes if self._found else None
        summed = marked_text(marked, free_bytes, self._needed_bytes)
        self.query_one("#about", Static).update(Content(f"{name_of(process)}: {about}\n{summed}"))


def marked_text(marked: Sequence[OpenProcess], free_bytes: int | None, needed_bytes: float | None) -> str:
    """How many programs are marked, what would be free without them as far as that is known, and what is needed."""
    known = [process.gpu_bytes for process in marked if process.gpu_bytes is not None]
    held, is_all = sum(known), len(known) == len(marked)
    needed = "" if needed_bytes is None else tr("; the run needs {size}", size=fmt.size(needed_bytes))
    if not marked:
        text = tr("None is marked")
    elif not held:
        text = tr("{programs} marked", programs=programs(len(marked)))
    elif free_bytes is None:
        amount = gpu_text(held) if is_all else tr("at least {amount}", amount=gpu_text(held))
        text = tr("{programs} marked, {amount} of GPU memory", programs=programs(len(marked)), amount=amount)
    else:
        after = fmt.size(free_bytes + held)
        text = tr(
            "{programs} marked, {before} → {after} free",
            programs=programs(len(marked)),
            before=fmt.size(free_bytes),
            after=after if is_all else tr("at least {amount}", amount=after),
        )
    return f"{text}{needed}."


def merged(first: ClosingReport, second: ClosingReport) -> ClosingReport:
    """Two attempts as one: of each program the later outcome, memory from before the first to after the second."""
    later = {closing.process: closing for closing in second.closings}
    return ClosingReport(
        closings=tuple(later.get(closing.process, closing) for closing in first.closings),
        free_before_bytes=first.free_before_bytes,
        free_after_bytes=second.free_after_bytes,
        came_back=(*first.came_back, *(back for back in second.came_back if back not in first.came_back)),
    )


def told_content(report: ClosingReport, width: int, needed_bytes: float | None = None) -> Content:
    """What became of each program, who came back, what came free and whether it is enough; rows of `width` cells."""
    parts: list[Content | str | tuple[str, str]] = []
    for closing in report.closings:
        after = ""
        if closing.outcome == "closed":
            after = tr(" after {seconds} s", seconds=fmt.number(closing.waited_s, 1))
        reason = f": {fmt.said(closing.reason)}" if closing.reason else ""
        parts += _outcome(closing.outcome, f"{name_of(closing.process)}{after}{reason}", width)
    for back in report.came_back:
        told = tr("{back}: something starts it anew; close that first.", back=name_of(back))
        parts += _outcome("came-back", told, width)
    return Content.assemble(*parts, f"\n{freed_text(report)}", *_enough(report, needed_bytes))


def _enough(report: ClosingReport, needed_bytes: float | None) -> list[str | tuple[str, str]]:
    """Whether a run has the GPU memory now that it needs; nothing where either is unknown."""
    free_bytes = report.free_after_bytes
    if needed_bytes is None or free_bytes is None:
        return []
    needed = fmt.size(needed_bytes)
    if free_bytes >= needed_bytes:
        return ["\n", (tr("✓ enough: the run needs {needed}", needed=needed), "$success")]
    short = fmt.size(needed_bytes - free_bytes)
    text = tr("✗ not enough: the run needs {needed}, {short} more", needed=needed, short=short)
    return ["\n", (text, "$error")]


def _outcome(outcome: str, text: str, width: int) -> list[Content | str | tuple[str, str]]:
    word, style = tr(_OUTCOMES[outcome][0]), _OUTCOMES[outcome][1]
    rows = wrap(text, max(20, width - _OUTCOME_WIDTH))
    indented = f"\n{' ' * _OUTCOME_WIDTH}".join(rows)
    return [(word.ljust(_OUTCOME_WIDTH), style), f"{indented}\n"]


def freed_text(report: ClosingReport) -> str:
    """The memory before and after, and what really came free."""
    freed = report.freed_bytes
    if freed is None:
        return tr("No GPU can be read here: what came free is not known.")
    before_after = tr(
        "VRAM free {before} → {after}",
        before=fmt.size(report.free_before_bytes),
        after=fmt.size(report.free_after_bytes),
    )
    if freed > 0:
        return tr("{before_after}: {freed} came free.", before_after=before_after, freed=fmt.size(freed))
    if freed < 0:
        return tr(
            "{before_after}: {freed} less, others took it.", before_after=before_after, freed=fmt.size(-freed)
        )
    return tr("{before_after}: nothing came free.", before_after=before_after)
