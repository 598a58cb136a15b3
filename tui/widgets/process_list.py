"""The programs that hold GPU memory or should be closed: which they are, and which of them are marked."""

from __future__ import annotations

from collections.abc import Sequence

from engine.records import OpenProcess
from tui import format as fmt
from tui.language import tr
from tui.widgets.checklist import short_age
from tui.widgets.lines import BLUE, FAINT, MUTED, TEXT, Line, Lines, crop, length
from tui.widgets.pick_list import PickList

_WIDE_FROM = 84
"""Width from which resident memory has a column beside GPU memory; the reason why not has what is left over."""
_LEAST_REASON_WIDTH = 20
_NAME_WIDTH = 26


class ProcessHeads(Lines):
    """The headings above the list, which stay where they are."""

    DEFAULT_CSS = "ProcessHeads { height: 1; padding: 0 1; }"
    has_gpu = True
    """Whether the driver tells of any program what it holds."""

    def draw(self, width: int, height: int) -> list[Line]:
        """One row, in the columns of the list."""
        has_ram, name_width, reason_width = _columns(width - 3, self.has_gpu)
        gpu = f"{tr('GPU memory'):>12}" if self.has_gpu else ""
        ram = f"  {'RAM':>9}" if has_ram else ""
        reason = f"  {tr('why it stays')}" if reason_width else ""
        head = f"      {tr('program').ljust(name_width)}{'pid':>9}  {tr('user'):<10}"
        return [[(f"{head}{gpu}{ram}  {tr('age'):>8}{reason}", FAINT)]]


class ProcessList(PickList):
    """A row a program, in the engine's order: the most GPU memory first. What may not be closed cannot be marked."""

    HELP = "Programs that hold GPU memory, or that preflight.close_apps names. Space marks one, a all that may close."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Programs"), id=id)
        self._processes: tuple[OpenProcess, ...] = ()
        self._marked: set[tuple[int, float | None]] = set()

    def show(self, processes: Sequence[OpenProcess]) -> None:
        """Show another list; nothing is marked in it."""
        self._processes, self._marked = tuple(processes), set()
        self.show_anew(0)

    @property
    def has_gpu(self) -> bool:
        """Whether the driver tells of any program what it holds."""
        return any(process.gpu_bytes is not None for process in self._processes)

    @property
    def marked(self) -> tuple[OpenProcess, ...]:
        """The programs that are marked, in the order of the list."""
        return tuple(process for process in self._processes if _key(process) in self._marked)

    @property
    def selected(self) -> OpenProcess | None:
        """The program under the cursor."""
        return self._processes[self.cursor] if self._processes else None

    def mark(self) -> bool:
        """Mark the program under the cursor, or take its mark back; False where it may not be closed."""
        process = self.selected
        if process is None or not process.may_close:
            return False
        self._marked ^= {_key(process)}
        self.redraw()
        self.post_message(self.Moved(self))
        return True

    def mark_all(self) -> None:
        """Mark all that may be closed; where they all are, none."""
        allowed = {_key(process) for process in self._processes if process.may_close}
        self._marked = set() if allowed == self._marked else allowed
        self.redraw()
        self.post_message(self.Moved(self))

    @property
    def num_rows(self) -> int:
        """A row a program."""
        return len(self._processes)

    def draw_row(self, index: int, width: int) -> Line:
        """Mark, name, pid, user, memory, age; the reason why it stays where there is room."""
        process = self._processes[index]
        has_ram, name_width, reason_width = _columns(width, self.has_gpu)
        style = TEXT if process.may_close else MUTED
        box = "[x]" if _key(process) in self._marked else "[ ]" if process.may_close else " – "
        line: Line = [(f"{box} ", BLUE if box == "[x]" else style)]
        line += _cell(fmt.clean(process.name[: 4 * name_width]), name_width, style)
        line += [(f"{process.pid:>9}  ", MUTED)]
        line += _cell(fmt.UNKNOWN if process.user is None else fmt.clean(process.user), 10, MUTED)
        if self.has_gpu:
            line += [(f"{gpu_text(process.gpu_bytes):>12}", style)]
        if has_ram:
            line += [(f"  {fmt.size(process.rss_bytes):>9}", MUTED if self.has_gpu else style)]
        age = fmt.UNKNOWN if process.age_s is None else short_age(process.age_s)
        line += [(f"  {age:>8}", MUTED)]
        if reason_width and process.why_not:
            line += [("  ", TEXT), (fmt.said(process.why_not), MUTED)]
        return line


def gpu_text(num_bytes: int | None) -> str:
    """GPU memory as the driver tells it; None: it does not."""
    return tr("not told") if num_bytes is None else fmt.size(num_bytes) if num_bytes else tr("none")


def _key(process: OpenProcess) -> tuple[int, float | None]:
    return process.pid, process.started_s


def _columns(width: int, has_gpu: bool) -> tuple[bool, int, int]:
    """Whether RAM has its column, how wide the names are, and what is left for the reason."""
    has_ram = width >= _WIDE_FROM or not has_gpu
    fixed = 4 + 9 + 2 + 10 + (12 if has_gpu else 0) + 10 + (11 if has_ram else 0)
    name_width = max(8, min(_NAME_WIDTH, width - fixed))
    left = width - fixed - name_width - 2
    return has_ram, name_width, left if left >= _LEAST_REASON_WIDTH else 0


def _cell(text: str, width: int, style: str) -> Line:
    kept = crop([(text, style)], width)
    return [*kept, (" " * (width - length(kept)), TEXT)]
