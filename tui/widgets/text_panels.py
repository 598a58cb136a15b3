"""Panels of words: the newest sample of the model, the newest events, and the detail of a selected line."""

from __future__ import annotations

from engine.records import EventRow, TextSampleRow
from tui import format as fmt
from tui.language import tr
from tui.own_keys import key
from tui.widgets.lines import BAD, DOUBTFUL, MUTED, STRONG, TEXT, Line, cut, length, said_and_gone_on, wrap
from tui.widgets.panel import Panel

_MOST_CHARACTERS = 20_000
"""Of one text from outside: more than any screen holds."""
_TEXT_AT = 11
"""Where the words of an event begin, behind its time and sign."""
_LEVELS = {"warning": ("!", DOUBTFUL), "error": ("✗", BAD)}


class SamplePanel(Panel):
    """What the model said last: the prompt in grey, its own words after it."""

    HELP = "How the model goes on from the prompt (in grey), at the step that the title names."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Sample"), id=id)
        self._sample: TextSampleRow | None = None

    def show(self, sample: TextSampleRow | None) -> None:
        """Show another sample; None where there is none yet."""
        if sample == self._sample:
            return
        self._sample = sample
        self.border_title = tr("Sample") if sample is None else tr("Sample at step {step}", step=sample.step)
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The text, wrapped; an ellipsis where it is longer than the panel."""
        if self._sample is None:
            return [[(tr("No sample yet."), MUTED)]]
        prompt = fmt.clean(self._sample.prompt[:_MOST_CHARACTERS], keep_newlines=True)
        text = fmt.clean(self._sample.text[:_MOST_CHARACTERS], keep_newlines=True)
        lines = said_and_gone_on(prompt, text, width)
        if len(lines) > height > 0:
            last = lines[height - 1]
            is_full = length(last) + 2 > width
            lines[height - 1] = [
                *(cut(last, width - 1) if is_full else last),
                ("…" if is_full else " …", MUTED),
            ]
        return lines[:height]


class EventsPanel(Panel):
    """What happened, newest first."""

    HELP = "What the run's processes told, newest first: checkpoints, restarts, warnings, and what was asked of it."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Events"), id=id)
        self._events: tuple[EventRow, ...] = ()

    def show(self, events: tuple[EventRow, ...]) -> None:
        """Show other events, oldest first as the store has them."""
        self._events = events
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """One row an event where they are many, wrapped where there is room; a warning has all the rows it needs."""
        if not self._events:
            return [[(tr("Nothing happened yet."), MUTED)]]
        lines: list[Line] = []
        text_width = max(1, width - _TEXT_AT)
        for event in reversed(self._events[-height:] if height else ()):
            sign, style = _LEVELS.get(event.level, ("·", TEXT))
            rows = wrap(fmt.said(event.text[:_MOST_CHARACTERS]), text_width)
            most_rows = height - len(lines)
            if event.level not in _LEVELS:
                most_rows = min(most_rows, 1 if height < 4 else 3)
            if most_rows < 1:
                break
            if len(rows) > most_rows:
                rows = [*rows[: most_rows - 1], rows[most_rows - 1][: text_width - 1] + "…"]
            lines.append([(fmt.clock_s(event.at), MUTED), (f" {sign} ", style), (rows[0], style)])
            lines += [[(" " * _TEXT_AT + row, style)] for row in rows[1:]]
        return lines


class DetailPanel(Panel):
    """A heading and paragraphs on the selected line."""

    HELP = "What the selected line rests on, and what to do about it. z shows it on the whole screen."

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(title, id=id)
        self._paragraphs: list[tuple[str, str]] = []

    def show(self, paragraphs: list[tuple[str, str]]) -> None:
        """Show other paragraphs: text, cleaned, with its component class."""
        if paragraphs != self._paragraphs:
            self._paragraphs = paragraphs
            self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The paragraphs, wrapped, a blank row between them where the height allows it."""
        blocks = [[[(row, style)] for row in wrap(text, width)] for text, style in self._paragraphs if text]
        is_roomy = sum(map(len, blocks)) + len(blocks) - 1 <= height
        lines: list[Line] = []
        for block in blocks:
            if lines and is_roomy:
                lines.append([])
            lines += block
        if len(lines) > height > 0:
            lines = [*lines[: height - 1], [(tr("… {key} shows all of it", key=key("app.zoom")), STRONG)]]
        return lines
