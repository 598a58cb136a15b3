"""The lines of a run's log, and the selected one whole."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content
from textual.geometry import Size

from engine.story import AFTER, BEFORE, OUTPUT, LogLine, LogView
from tui import format as fmt
from tui.language import mark, tr
from tui.own_keys import key
from tui.widgets.lines import BAD, DOUBTFUL, FAINT, GOOD, MUTED, ORANGE, TEXT, Line, wrap
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

LEVELS = {mark("warning"): ("!", DOUBTFUL), mark("error"): ("✗", BAD)}
FOUND = "log-rows--found"
GAPS = (BEFORE, AFTER)
COLOURS = {GOOD: "$success", DOUBTFUL: "$warning", BAD: "$error", ORANGE: "$accent"}
"""What words in a frame are coloured by, by the component class that they have elsewhere."""
_MOST_CHARACTERS = 20_000
"""Of one line, shown at most."""
_WIDE_ROW = 90
_SOURCE_WIDTH = 11


class LogRows(Rows):
    """One line an event or a line of output; what is searched for is marked."""

    has_own_place = True
    HELP = (
        "Events and the output of the run's processes, oldest first. ! is a warning, ✗ an error, | a line that a "
        "process has printed, whose time is that of the next look at it. What is not read of a large log is a line "
        "that tells how much: going there reads it."
    )
    COMPONENT_CLASSES = {FOUND}
    GROUNDED = frozenset((FOUND,))
    DEFAULT_CSS = """
    LogRows > .log-rows--found { color: $background; background: $warning; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Log"), id=id)
        self._lines: list[LogLine] = []
        self._view: LogView | None = None
        self._found = ""
        self.places: list[int] = []
        """The lines that hold what is searched for."""

    def show(self, lines: list[LogLine], view: LogView, found: str) -> None:
        """Show other lines; `found` is what is searched for, marked where it stands. The cursor is not moved."""
        self._lines, self._view, self._found = lines, view, found.casefold()
        self.places = [index for index, line in enumerate(lines) if self._holds(line)] if found else []
        self.redraw()

    def _holds(self, line: LogLine) -> bool:
        """Whether what is searched for stands in a line, as it came or as it is shown."""
        if line.kind in GAPS:
            return False
        is_there = self._found in line.text.casefold()
        return is_there or (line.source != OUTPUT and self._found in shown_text(line).casefold())

    def place_from(self, at: int, direction: int) -> int | None:
        """The first place from a line on; None: there is none before the end, or before lines that are not held."""
        found = set(self.places)
        while 0 <= at < len(self._lines):
            if at in found:
                return at
            kind = self._lines[at].kind
            if kind in GAPS and (kind == BEFORE) == (direction < 0):
                return None
            at += direction
        return None

    def tell(self, text: Content) -> None:
        """Write into the lower frame; the same text again sends nothing."""
        if self.border_subtitle != text.markup:
            self.border_subtitle = text

    @property
    def lines(self) -> list[LogLine]:
        """What is shown, oldest first."""
        return self._lines

    @property
    def selected(self) -> LogLine | None:
        """The line under the cursor."""
        return self._lines[self.cursor] if 0 <= self.cursor < len(self._lines) else None

    @property
    def on_screen(self) -> list[LogLine]:
        """The lines that can be seen."""
        return self._lines[self.top : self.top + self.size.height]

    @property
    def num_rows(self) -> int:
        """One a line."""
        return len(self._lines)

    def when_empty(self) -> list[Line]:
        """A filter may leave nothing, and a run may have told nothing."""
        has_more = self._view is not None and self._view.lines
        return [[(tr("The filter leaves nothing.") if has_more else tr("Nothing was told yet."), MUTED)]]

    def row(self, index: int, width: int) -> Line:
        """Time, sign, source where there is room, text."""
        line = self._lines[index]
        if line.kind in GAPS:
            return [(f"  ⋯ {self._gap(line)}", FAINT)]
        sign, style = ("|", MUTED) if line.source == OUTPUT else LEVELS.get(line.level, ("·", TEXT))
        at = "        " if line.at is None else fmt.clock_s(line.at)
        row: Line = [(at, MUTED), (f" {sign} ", style)]
        if width >= _WIDE_ROW:
            row.append((tr(fmt.clean(line.source))[: _SOURCE_WIDTH - 1].ljust(_SOURCE_WIDTH), FAINT))
        return [*row, *self._marked(shown_text(line)[: width * 4], style)]

    def _gap(self, line: LogLine) -> str:
        assert self._view is not None
        is_before = line.kind == BEFORE
        num_bytes = self._view.bytes_before if is_before else self._view.bytes_after
        text = mark("{amount} of output before this") if is_before else mark("{amount} of output after this")
        return tr(text, amount=fmt.size_decimal(num_bytes))

    def _marked(self, text: str, style: str) -> Line:
        """The text with every place of what is searched for marked."""
        folded = text.casefold()
        if not self._found or self._found not in folded or len(folded) != len(text):
            return [(text, style)]
        pieces: Line = []
        start = 0
        while (at := folded.find(self._found, start)) >= 0:
            end = at + len(self._found)
            pieces += [(text[start:at], style), (text[at:end], FOUND)]
            start = end
        return [*pieces, (text[start:], style)]


class LinePanel(Panel):
    """The selected line, whole."""

    HELP = "The selected line whole, with its time, its source and its kind. y copies it."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Line"), id=id)
        self._line: LogLine | None = None

    def show(self, line: LogLine | None) -> None:
        """Show another line: in the frame where it comes from, and below it what it says."""
        if line == self._line:
            return
        self._line = line
        self.border_title = tr("Line") if line is None or line.kind in GAPS else _about(line)
        self.redraw()
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as the line needs."""
        return max(1, len(self._rows(width)))

    def _rows(self, width: int) -> list[str]:
        if self._line is None or self._line.kind in GAPS:
            return []
        return wrap(shown_text(self._line, keep_newlines=True), max(1, width))

    def draw(self, width: int, height: int) -> list[Line]:
        """Its text, wrapped."""
        rows = self._rows(width)
        if len(rows) > height:
            rows = [*rows[: max(0, height - 1)], tr("… {key} shows all of it", key=key("app.zoom"))]
        return [[(row, TEXT)] for row in rows]


def _about(line: LogLine) -> Content:
    """When and by whom a line was told, and how grave it is."""
    at = tr("time unknown") if line.at is None else fmt.date(line.at) + time_of(line)
    parts = [Content(at), Content.styled(tr(fmt.clean(line.source)), "$primary")]
    if line.level:
        _, style = LEVELS.get(line.level, ("", ""))
        parts.append(Content.styled(tr(fmt.clean(line.level)), COLOURS.get(style, "")))
    if line.kind:
        parts.append(Content.styled(fmt.clean(line.kind), "$muted"))
    return Content("  ").join(parts)


def shown_text(line: LogLine, *, keep_newlines: bool = False) -> str:
    """What a line says: events in the language, output as it came."""
    write = fmt.clean if line.source == OUTPUT else fmt.said
    return write(line.text[:_MOST_CHARACTERS], keep_newlines=keep_newlines)


def time_of(line: LogLine) -> str:
    """The seconds of a line's time."""
    return "" if line.at is None else fmt.clock_s(line.at)[-3:]


def plain(line: LogLine) -> str:
    """A line as it is copied."""
    at = "" if line.at is None else f"{fmt.date(line.at)}{time_of(line)} "
    return f"{at}{fmt.clean(line.source)} {fmt.clean(line.level)}".rstrip() + f" {fmt.clean(line.text)}"


def chosen(lines: tuple[LogLine, ...], *wanted: Callable[[LogLine], bool]) -> list[LogLine]:
    """The lines that every filter lets through."""
    return [line for line in lines if all(lets_through(line) for lets_through in wanted)]


def place_of(lines: list[LogLine], name: tuple[bool, int] | None) -> int:
    """Where a line is, or would be: of output the last that begins at or before it."""
    if name is None:
        return len(lines) - 1
    place = -1
    for index, line in enumerate(lines):
        if line.name == name:
            return index
        if line.kind not in GAPS and line.name[0] == name[0] and line.number <= name[1]:
            place = index
    return place if place >= 0 else 0
