"""What one step of the checklist rests on: the verdict, its numbers in rows, what to do, and with which key."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from tui import format as fmt
from tui import own_keys
from tui.language import mark, tr
from tui.widgets.checklist import SIGNS, Standing, short_age
from tui.widgets.lines import BAD, FAINT, MUTED, STRONG, TEXT, Line, crop, length, wrap
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from engine.records import Check, CheckStep, Figure

_MOST_CHARACTERS = 20_000
"""Of one text: more than anybody reads here."""
_LEAST_LABEL_WIDTH = 9
_COMMANDS = re.compile(r": (?:--tick \S+|llm-tui close)$| \(llm-tui close\)")
_REMEDY_KEYS = {
    "close-apps": ("preflight.close", mark("choose what to close")),
    "write-settings": ("preflight.apply", mark("write a documented settings.toml")),
    "enable-linger": ("preflight.apply", mark("let runs outlive the logout (enable-linger)")),
    "tick": ("preflight.tick", mark("tick it, once it is so")),
}


class CheckDetail(Panel):
    """Evidence, figures, remedy and keys of the selected step; PgUp and PgDn move where it is longer."""

    HELP = "What the verdict rests on, what to do about it, and the key that does it. PgUp and PgDn move the text."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Detail"), id=id)
        self._step: CheckStep | None = None
        self._check: Check | None = None
        self._is_before = False
        self._state = "unknown"
        self._running_s: float | None = None
        self._first = 0
        self.is_large = False
        """Whether it has the place of the list, too."""

    def show(self, step: CheckStep | None, standing: Standing) -> None:
        """Show another step, None: there is none yet."""
        if (step and step.id) != (self._step and self._step.id):
            self._first = 0
        self._step = step
        if step is not None:
            found = standing.verdicts.get(step.id)
            self._check, self._is_before = found or standing.known.get(step.id), found is None
            self._state, self._running_s = standing.state_of(step.id), standing.running_s
            title = wrap(fmt.said(step.title[:200]), max(8, self.size.width - 2))[0]
            if self.border_title != title:
                self.border_title = title
        self.redraw()

    def scroll_text(self, pages: int) -> None:
        """Move the text by so many heights of the panel."""
        self._first = max(0, self._first + pages * max(1, self.size.height - 1))
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The text from where it was moved to; the frame says how much is left."""
        lines = self._text(width)
        self._first = max(0, min(self._first, len(lines) - height))
        left = len(lines) - self._first - height
        turns = tr("PgDn: {left} more", left=left) if left > 0 else tr("PgUp: up") if self._first else ""
        self.set_subtitle(
            "  ".join(part for part in (turns, tr("Enter: back") if self.is_large else "") if part)
        )
        return lines[self._first :]

    def _text(self, width: int) -> list[Line]:
        if self._step is None:
            return [[(tr("Reading the checklist …"), MUTED)]]
        blocks = [self._verdict(width)]
        if self._check is not None:
            blocks += [_rows(self._check.evidence, width, MUTED if self._is_before else TEXT)]
            blocks += [figure_rows(self._check.figures, width)]
            if self._check.remedy:
                remedy = without_commands(fmt.said(self._check.remedy[:_MOST_CHARACTERS], keep_newlines=True))
                blocks += [[[(tr("What to do"), STRONG)], *_wrapped(remedy, width, TEXT)]]
            blocks += [[] if self._is_before else _key_rows(keys_of(self._check), width)]
        lines: list[Line] = []
        for block in blocks:
            lines += [[], *block] if lines and block else block
        return lines

    def _verdict(self, width: int) -> list[Line]:
        """The state in its word, and how old and how long in the making it is."""
        sign, word, style = SIGNS[self._state]
        head = f"{sign} {tr(word)}"
        if self._check is None or self._is_before:
            running_s = self._running_s or 0
            if self._state == "running" and running_s >= 1:
                head = tr("{head} for {seconds} s", head=head, seconds=round(running_s))
            lines: list[Line] = [[(head, style)]]
            if self._check is not None:
                lines += _rows(self._before_text(), width, FAINT)
            return lines
        if self._check.blocking:
            head, style = tr("{head}, blocks the start", head=head), BAD
        took_s = self._check.seconds
        took = (
            "" if took_s is None or took_s < 0.05 else tr("took {seconds} s", seconds=fmt.number(took_s, 1))
        )
        line: Line = [(head, style)]
        gap = width - length(line) - len(took)
        return [[*line, (" " * gap, TEXT), (took, FAINT)] if took and gap >= 2 else line]

    def _before_text(self) -> str:
        """What the verdict of before was, and how old it is."""
        assert self._check is not None
        sign, word, _ = SIGNS[self._check.status]
        verdict = f"{sign} {tr(word)}"
        if self._check.at is None:
            return tr("{verdict}; this no longer counts:", verdict=verdict)
        age = short_age(time.time() - self._check.at)
        return tr("{verdict} {age} ago; this no longer counts:", verdict=verdict, age=age)


def keys_of(check: Check) -> list[tuple[str, str]]:
    """The keys that do something about a verdict, and what each does."""
    binding, does = _REMEDY_KEYS.get(check.remedy_action, ("", ""))
    keys = [(own_keys.key(binding), tr(does))] if binding else []
    if check.blocking and check.is_waivable:
        keys.append((own_keys.key("preflight.waive"), tr("waive it for the next start, with a reason")))
    if check.status == "waived":
        keys.append((own_keys.key("preflight.waive"), tr("take the waiver back")))
    return keys


def without_commands(remedy: str) -> str:
    """A remedy without what to type on the command line: here, keys do it, and they stand below."""
    return _COMMANDS.sub(lambda match: "." if match[0].startswith(":") else "", remedy)


def _key_rows(keys: list[tuple[str, str]], width: int) -> list[Line]:
    lines: list[Line] = []
    key_width = max((len(key) for key, _ in keys), default=0) + 2
    for key, does in keys:
        for index, row in enumerate(wrap(does, max(1, width - key_width))):
            lines.append([((key if index == 0 else "").ljust(key_width), STRONG), (row, TEXT)])
    return lines


def _rows(text: str, width: int, style: str) -> list[Line]:
    return _wrapped(fmt.said(text[:_MOST_CHARACTERS], keep_newlines=True), width, style)


def _wrapped(cleaned: str, width: int, style: str) -> list[Line]:
    return [[(row, style)] for row in wrap(cleaned, width)] if cleaned else []


def figure_rows(figures: tuple[Figure, ...], width: int) -> list[Line]:
    """A row a figure under its headings, right-aligned; a column that no figure has is left out.

    Where that is too wide, labels are cut; where too little of them is left, they stand above their numbers.
    """
    if not figures:
        return []
    columns = [
        (heading, [_told(figure, value(figure), heading) for figure in figures])
        for heading, value in ((mark("before"), _before), (mark("now"), _now), (mark("limit"), _needed))
        if heading == "now" or any(value(figure) is not None for figure in figures)
    ]
    widths = [max(len(tr(heading)), *map(len, texts)) for heading, texts in columns]
    labels = [fmt.said(figure.label) for figure in figures]
    wanted = max(length([(label, MUTED)]) for label in labels)
    gap = 2 if wanted + sum(widths) + 2 * len(widths) <= width else 1
    label_width = min(wanted, width - sum(widths) - gap * len(widths))
    is_stacked = label_width < min(wanted, _LEAST_LABEL_WIDTH)
    label_width = 2 if is_stacked else label_width
    cells = [f"{tr(heading):>{size + gap}}" for (heading, _), size in zip(columns, widths, strict=True)]
    lines: list[Line] = [[(" " * label_width + "".join(cells), FAINT)]]
    for index, label in enumerate(labels):
        row: Line = [(" " * label_width, TEXT)]
        if is_stacked:
            lines.append([(label, MUTED)])
        else:
            row = crop([(label, MUTED)], label_width)
            row += [(" " * (label_width - length(row)), TEXT)]
        for (heading, texts), size in zip(columns, widths, strict=True):
            row.append((f"{texts[index]:>{size + gap}}", STRONG if heading == "now" else MUTED))
        lines.append(row)
    return lines


def _before(figure: Figure) -> float | None:
    return figure.before


def _now(figure: Figure) -> float | None:
    return figure.now


def _needed(figure: Figure) -> float | None:
    return figure.needed


def _told(figure: Figure, value: float | None, heading: str) -> str:
    """The value; where there is no limit and nothing was before, there is nothing to tell."""
    return "" if value is None and heading != "now" else figure_text(figure, value)


def figure_text(figure: Figure, value: float | None) -> str:
    """A value in its figure's unit."""
    if value is None:
        return fmt.UNKNOWN
    if figure.unit == "bytes":
        return fmt.size(value)
    if figure.unit == "celsius":
        return fmt.whole(value, "°C")
    if figure.unit == "frac":
        return fmt.percent(value)
    if figure.unit == "s":
        return f"{fmt.figures(value)} {tr('s')}" if value < 60 else fmt.duration(value)
    return tr("{speed} tok/s", speed=fmt.count(value)) if figure.unit == "tokens_per_s" else fmt.count(value)
