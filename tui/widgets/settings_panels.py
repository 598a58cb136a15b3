"""The form of settings.toml in three panels: its keys, more on one of them, and what the changes do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from tui import format as fmt
from tui.language import told, tr, trn
from tui.plan_text import hours_range
from tui.widgets.lines import (
    BAD,
    DOUBTFUL,
    FAINT,
    GOOD,
    MUTED,
    ORANGE,
    STRONG,
    TEXT,
    Line,
    crop,
    length,
    ruled,
    wrap,
)
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from engine.estimate import Estimate
    from engine.settings_edit import KeyForm, SettingsForm

_RANGE_FROM = 86
"""Width from which a row says what its key takes."""
_VALUE_WIDTH = 30
Changes = Mapping[str, str | None]
"""Dotted key to what it is to be, as TOML; None: left out of the file."""


class Heading(NamedTuple):
    """A section, above its keys."""

    name: str
    about: str


def value_of(key: KeyForm, changes: Changes) -> str:
    """What a key is in the form, as TOML; empty: nothing."""
    changed = changes.get(key.dotted, key.value)
    return key.default if changed is None else changed


def shown(key: KeyForm, value: str) -> str:
    """A value as it may be on a screen; empty: nothing is set."""
    return "••••••••" if key.is_secret and value not in ("", '""') else fmt.clean(value)


def why_none(form: SettingsForm | None, title: str, remedy: str) -> str:
    """What stands in the place of the keys where there are none; title and remedy tell why there is no form."""
    if form is None:
        why = fmt.said(f"{title}\n{remedy}", keep_newlines=True)
        return tr("{why}\nr reads it again.", why=why)
    if form.text is None:
        return tr("There is no settings.toml here yet.\nEnter writes one, with every setting explained.")
    return tr("{why}\nr reads it again.", why=fmt.said(form.problem, keep_newlines=True))


def saved_text(num_changes: int, live_run: str) -> str:
    """What was saved; `live_run` is the id of a run that goes on with its own settings, empty where there is none."""
    saved = trn(
        "{num} key written into settings.toml.", "{num} keys written into settings.toml.", num_changes
    )
    frozen = tr("Run {run_id} goes on with its own.", run_id=fmt.clean(live_run)) if live_run else ""
    return f"{saved} {frozen}".rstrip()


class SettingsRows(Rows):
    """Every key with its value, by section; those that were changed here are marked."""

    HELP = (
        "Every key of settings.toml. ● was changed here and is not saved, · is set in the file to other than its "
        "default. Enter edits it, space takes the next value where there are few."
    )

    VALUE_AT: ClassVar[int] = 28
    """Cells from the edge to the value."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Settings"), id=id)
        self._entries: list[Heading | KeyForm] = []
        self._changes: Changes = {}
        self._is_filtered = False

    def show(self, form: SettingsForm, changes: Changes, wanted: str = "") -> None:
        """Show a form, of it the keys that hold `wanted` in their name or reason; the cursor stays on its key."""
        stands_on = self.selected.dotted if self.selected else ""
        self._changes, self._is_filtered = dict(changes), bool(wanted)
        entries: list[Heading | KeyForm] = []
        for name, about in form.sections.items():
            keys = [key for key in form.keys if key.section == name and _holds(key, wanted)]
            entries += [Heading(name, about), *keys] if keys else []
        self._entries = entries
        places = [
            index
            for index, entry in enumerate(entries)
            if not isinstance(entry, Heading) and entry.dotted == stands_on
        ]
        self.move_to(places[0] if places else min(self.cursor, len(entries) - 1))

    @property
    def selected(self) -> KeyForm | None:
        """The key under the cursor."""
        entry = self._entries[self.cursor] if self.cursor < len(self._entries) else None
        return None if entry is None or isinstance(entry, Heading) else entry

    @property
    def num_rows(self) -> int:
        """Headings and keys."""
        return len(self._entries)

    def can_rest(self, index: int) -> bool:
        """On keys only."""
        return not isinstance(self._entries[index], Heading)

    def when_empty(self) -> list[Line]:
        """A filter may leave nothing."""
        return [[(tr("No key holds this.") if self._is_filtered else "", MUTED)]]

    def row(self, index: int, width: int) -> Line:
        """A section with what it is about, or a key with its value."""
        entry = self._entries[index]
        if isinstance(entry, Heading):
            return [(f"[{entry.name}] ", STRONG), (told(entry.about), FAINT)]
        value, is_changed = value_of(entry, self._changes), entry.dotted in self._changes
        is_own = entry.is_in_file and entry.value != entry.default
        mark = "●" if is_changed else "·" if is_own else " "
        style = ORANGE if is_changed else TEXT if is_own else MUTED
        stands: Line = [(shown(entry, value) or tr("not set"), style if value else FAINT)]
        if value and entry.unit and value not in ('"auto"', "true", "false"):
            stands.append((f" {tr(entry.unit)}", FAINT))
        line: Line = [(f" {mark} ", ORANGE), (entry.key.ljust(self.VALUE_AT - 4) + " ", TEXT)]
        if width < _RANGE_FROM:
            return [*line, *stands]
        stands = crop(stands, _VALUE_WIDTH)
        gap = " " * (_VALUE_WIDTH + 2 - length(stands))
        return [*line, *stands, (gap, TEXT), (told(entry.expected), FAINT)]


def _holds(key: KeyForm, wanted: str) -> bool:
    """Whether every word is in the key's name, its value or its reason."""
    text = f"{key.dotted} {key.reason} {told(key.reason)} {key.value}".casefold()
    return all(word in text for word in wanted.casefold().split())


class KeyPanel(Panel):
    """What a key is for, what it takes, what it was and is; what the engine says against a value."""

    HELP = "What the selected key is for, what it takes, its default and what the file says."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Key"), id=id)
        self._key: KeyForm | None = None
        self._changes: Changes = {}
        self._problem = ""

    def show(self, key: KeyForm | None, changes: Changes, problem: str = "") -> None:
        """Show another key; `problem` is why what stands there is refused."""
        self._key, self._changes, self._problem = key, dict(changes), problem
        self.border_title = key.dotted if key else tr("Key")
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """The problem first, else reason, range, and the values one beside the other."""
        lines: list[Line] = []
        if self._problem:
            text = fmt.said(self._problem, keep_newlines=True)
            for number, row in enumerate(wrap(text, max(1, width - 2))):
                lines.append([("✗ " if number == 0 else "  ", BAD), (row, BAD)])
        key = self._key
        if key is None:
            return lines
        known: Line = [(tr("default "), MUTED), (fmt.clean(key.default) or tr("none"), TEXT)]
        if key.is_in_file and key.value != key.default:
            known += [(tr("  file "), MUTED), (shown(key, key.value), TEXT)]
        if key.dotted in self._changes:
            known += [
                (tr("  here "), MUTED),
                (shown(key, value_of(key, self._changes)) or tr("none"), ORANGE),
            ]
        about: list[Line] = [[(row, TEXT)] for row in wrap(told(key.reason), width)]
        takes = wrap(tr("takes {expected}", expected=told(key.expected)), width)
        room = max(1, height - len(lines) - len(takes) - 1)
        lines += [*about[:room], *([(row, MUTED)] for row in takes), known]
        return [crop(line, width) for line in lines]


class EffectPanel(Panel):
    """Memory, hours, energy, money and disk, before and after."""

    HELP = "What a run would take with what is on the disk, and with the changes that are not saved yet."

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("What a run of these takes"), id=id)
        self._before: Estimate | None = None
        self._after: Estimate | None = None
        self._note = ""
        self._is_bad = False

    def show(self, before: Estimate | None, after: Estimate | None, note: str, *, is_bad: bool) -> None:
        """Show an estimate, and another beside it; `note` stands above them, as a problem where `is_bad`."""
        self._before, self._after, self._note, self._is_bad = before, after, note, is_bad
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """A row a resource; two to a row where the height is short, save the last, which is long."""
        lines: list[Line] = []
        if self._note:
            style, text = BAD if self._is_bad else MUTED, fmt.said(self._note, keep_newlines=True)
            rows = wrap(text, max(1, width - 2))
            sign = "✗ " if self._is_bad else ""
            lines += [[(sign if n == 0 else "", style), (row, style)] for n, row in enumerate(rows)]
        if self._before is not None:
            facts = _facts(self._before, self._after)
            if len(facts) + len(lines) > height and width >= 70:
                half, last = width // 2, facts.pop()
                for left, right in zip(facts[::2], [*facts[1::2], []], strict=False):
                    lines.append(ruled(crop(left, half - 1), _padded(right, width - half), width))
                lines.append(last)
            else:
                lines += facts
        return [crop(line, width) for line in lines[:height]]


def _padded(line: Line, width: int) -> Line:
    shown = crop(line, width)
    return [*shown, (" " * (width - length(shown)), TEXT)]


Writer = Callable[["Estimate"], str]


def _facts(before: Estimate, after: Estimate | None) -> list[Line]:
    def fact(label: str, write: Writer, better: bool | None = None, short: Writer | None = None) -> Line:
        old = write(before)
        line: Line = [(label.ljust(8), MUTED)]
        if after is None or (new := write(after)) == old:
            return [*line, (old, TEXT)]
        old = short(before) if short else old
        style = {True: GOOD, False: DOUBTFUL, None: STRONG}[better]
        return [*line, (old, MUTED), (" → ", MUTED), (new, style)]

    def fits(found: Estimate) -> str:
        word = {True: tr("✓ fits"), False: tr("✗ does not fit"), None: tr("? unknown whether it fits")}
        return f"{fmt.size(found.memory.total_bytes)} {word[found.memory.fits]}"

    def money(found: Estimate) -> str:
        return fmt.money(found.cost.local, found.cost.currency)

    return [
        fact(
            tr("memory"),
            fits,
            None if after is None or after.memory.fits is not False else False,
            lambda found: fmt.size(found.memory.total_bytes),
        ),
        fact(tr("batch"), lambda found: tr("{micro_batch} at a time", micro_batch=found.memory.micro_batch)),
        fact(
            tr("model"),
            lambda found: tr("{parameters} parameters", parameters=fmt.count(found.model.parameters)),
        ),
        fact(tr("tokens"), lambda found: fmt.count(found.time.tokens)),
        fact(tr("energy"), lambda found: fmt.kwh(found.energy.kwh), _less(before, after, "energy", "kwh")),
        fact(tr("cost"), money, _less(before, after, "cost", "local")),
        fact(
            tr("disk"),
            lambda found: fmt.size(found.storage.total_bytes),
            _less(before, after, "storage", "total_bytes"),
        ),
        fact(
            tr("time"),
            hours_range,
            _less(before, after, "time", "hours"),
            lambda found: fmt.hours(found.time.hours),
        ),
    ]


def _less(before: Estimate, after: Estimate | None, part: str, name: str) -> bool | None:
    """Whether a figure becomes smaller; None where that cannot be told."""
    if after is None:
        return None
    old, new = getattr(getattr(before, part), name), getattr(getattr(after, part), name)
    return None if old is None or new is None else new < old
