"""The form of settings.toml in three panels: its keys, more on one of them, and what the changes do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.geometry import Size

from tui import format as fmt
from tui.language import code, told, tr, trn
from tui.own_keys import key as own_key
from tui.widgets.lines import (
    BAD,
    FAINT,
    MUTED,
    ORANGE,
    STRONG,
    TEXT,
    Line,
    crop,
    length,
    wrap,
)
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from engine.settings_edit import KeyForm, SettingsForm

_RANGE_FROM = 86
"""Width from which a row says what its key takes."""
_VALUE_WIDTH = 30
_LONG_DIGITS = 4
_CURRENCY = "energy.currency"
_MONEY = ("limits.max_cost", "energy.price_per_kwh")
"""Keys whose unit is the currency."""
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


def settled(key: KeyForm, value: str | None) -> str | None:
    """What a value that was given comes to: none is the default, and quotes that were left out are no difference."""
    value = value or key.default or None
    return key.value if value is not None and f'"{value}"' == key.value else value


def still_changed(form: SettingsForm, changes: Changes) -> dict[str, str | None]:
    """The changes that are other than what the file has."""
    keys = {key.dotted: key for key in form.keys}
    return {
        name: value for name, value in changes.items() if value_of(keys[name], changes) != keys[name].value
    }


def next_choice(key: KeyForm, changes: Changes) -> str:
    """The value after the one that a key has, of the few that it takes."""
    now = value_of(key, changes)
    at = key.choices.index(now) + 1 if now in key.choices else 0
    return key.choices[at % len(key.choices)]


def shown(key: KeyForm, value: str) -> str:
    """A value as it may be on a screen; empty: nothing is set."""
    return "••••••••" if key.is_secret and value not in ("", '""') else readable(value)


_LOCAL_FIGURE = re.compile(r"(?<![\w.,-])(?:[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?|\d+,\d+)(?![\w.,]\w|\w)")
_TO_TYPE = str.maketrans({".": ",", ",": "."})


def told_to_type(text: str) -> str:
    """What the engine says in the language, its figures as they are typed: 0.5 is TOML in every language."""
    said = told(text)
    return said if code() == "en" else _LOCAL_FIGURE.sub(lambda match: match[0].translate(_TO_TYPE), said)


def readable(value: str) -> str:
    """A value as TOML, with the thousands of a long number set apart."""
    is_long = value.isascii() and value.isdigit() and len(value) > _LONG_DIGITS
    return f"{int(value):,}" if is_long else fmt.clean(value)


def why_none(form: SettingsForm | None, title: str, remedy: str) -> str:
    """What stands in the place of the keys where there are none; title and remedy tell why there is no form."""
    if form is None:
        why = fmt.said(f"{title}\n{remedy}", keep_newlines=True)
        return tr("{why}\nr reads it again.", why=why)
    if form.text is None:
        return tr("There is no settings.toml here yet.\nEnter writes one, with every setting explained.")
    return tr("{why}\nr reads it again.", why=fmt.said(form.problem, keep_newlines=True))


def changed_text(old: SettingsForm, form: SettingsForm) -> str:
    """What others have written into the file since; empty where that is nothing."""
    were = {key.dotted: key.value for key in old.keys}
    named = [key.dotted for key in form.keys if were and were.get(key.dotted) != key.value]
    keys = ", ".join(named[:6]) + " …" * (len(named) > 6)
    return tr("Changed on the disk: {keys}", keys=keys) if named else ""


def saved_text(num_changes: int, live_run: str) -> str:
    """What was saved; `live_run` is the id of a run that goes on with its own settings, empty where there is none."""
    saved = trn(
        "{num} key written into settings.toml.", "{num} keys written into settings.toml.", num_changes
    )
    frozen = tr("Run {run_id} goes on with its own.", run_id=fmt.clean(live_run)) if live_run else ""
    return f"{saved} {frozen}".rstrip()


def frame_text(num_changes: int, num_hidden: int, *, is_editing: bool) -> str:
    """How the form differs from the file; `num_hidden` changed keys are not among those that are shown."""
    if is_editing:
        told = tr("editing")
    elif num_changes:
        told = tr("{number} not saved: {save}", number=num_changes, save=own_key("settings.save"))
    else:
        told = tr("as on the disk")
    hidden = trn("{num} changed is hidden", "{num} changed are hidden", num_hidden)
    return f"{hidden} · {told}" if num_hidden else told


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
        self._currency = ""
        self.num_hidden = 0
        """Changed keys that the filter does not let through."""

    def show(self, form: SettingsForm, changes: Changes, wanted: str = "") -> None:
        """Show a form, of it the keys that hold `wanted` in their name or reason; the cursor stays on its key."""
        stands_on = self.selected.dotted if self.selected else ""
        self._changes, self._is_filtered = dict(changes), bool(wanted)
        entries: list[Heading | KeyForm] = []
        for name, about in form.sections.items():
            keys = [key for key in form.keys if key.section == name and _holds(key, wanted)]
            entries += [Heading(name, about), *keys] if keys else []
        self._entries = entries
        self._currency = next(
            (value_of(k, changes).strip('"') for k in form.keys if k.dotted == _CURRENCY), ""
        )
        self.num_hidden = sum(key.dotted in self._changes and not _holds(key, wanted) for key in form.keys)
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

    def _unit(self, key: KeyForm) -> str:
        return fmt.clean(self._currency) if key.dotted in _MONEY else tr(key.unit)

    @property
    def num_keys(self) -> int:
        """Keys that the filter lets through."""
        return sum(not isinstance(entry, Heading) for entry in self._entries)

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
        if is_unlimited(entry, value):
            stands.append((tr(" (no limit)"), FAINT))
        elif value and (unit := self._unit(entry)) and value not in ('"auto"', "true", "false"):
            stands.append((f" {unit}", FAINT))
        line: Line = [(f" {mark} ", ORANGE), (entry.key.ljust(self.VALUE_AT - 4) + " ", TEXT)]
        if width < _RANGE_FROM:
            return [*line, *stands]
        stands = crop(stands, _VALUE_WIDTH)
        gap = " " * (_VALUE_WIDTH + 2 - length(stands))
        return [*line, *stands, (gap, TEXT), (told_to_type(entry.expected), FAINT)]


def is_unlimited(key: KeyForm, value: str) -> bool:
    """Whether a value of a limit means that there is none."""
    return key.section == "limits" and key.reason.endswith("0 = none") and value in ("0", "0.0")


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
        self._problem = self._wants = ""

    def show(self, key: KeyForm | None, changes: Changes, problem: str = "", wants: str = "") -> None:
        """Show another key; `problem` is why what stands there is refused, `wants` what it is not, if only that."""
        self._key, self._changes, self._problem, self._wants = key, dict(changes), problem, wants
        self.border_title = key.dotted if key else tr("Key")
        self.redraw()
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As high as what there is to say."""
        problem, reason, takes, known = self._blocks(width)
        return max(3, len(problem) + len(reason) + len(takes) + len(known))

    def _blocks(self, width: int) -> tuple[list[Line], list[Line], list[Line], list[Line]]:
        """A problem that is more than a wrong value, what the key is for, what it takes, and its values."""
        key = self._key
        takes = key.expected if key is not None else ""
        is_wrong = bool(self._problem) and self._wants == takes
        problem = (
            [] if is_wrong else _wrapped(fmt.said(self._problem, keep_newlines=True), width, is_bad=True)
        )
        if key is None:
            return problem, [], [], []
        expected = told_to_type(takes)
        text = (
            tr("not {expected}", expected=expected) if is_wrong else tr("takes {expected}", expected=expected)
        )
        return (
            problem,
            [[(row, TEXT)] for row in wrap(told_to_type(key.reason), width)],
            _wrapped(text, width, is_bad=is_wrong),
            [crop(self._values(key), width)],
        )

    def _values(self, key: KeyForm) -> Line:
        """The default, and what file and form have in its place."""
        line: Line = [(tr("default "), MUTED), (readable(key.default) or tr("none"), TEXT)]
        if key.is_in_file and key.value != key.default:
            line += [(tr("  file "), MUTED), (shown(key, key.value), TEXT)]
        if key.dotted in self._changes:
            value = shown(key, value_of(key, self._changes)) or tr("none")
            line += [(tr("  unsaved "), MUTED), (value, ORANGE)]
        return line

    def draw(self, width: int, height: int) -> list[Line]:
        """What is wrong first, then reason, range and values; of a long problem or reason what there is room for."""
        problem, reason, takes, known = self._blocks(width)
        if self._problem and not problem:
            problem, takes = takes, []
        problem = _cropped(problem, max(1, height - len(takes) - len(known)), width)
        reason = _cropped(reason, height - len(problem) - len(takes) - len(known), width)
        return [*problem, *reason, *takes, *known]


def _wrapped(text: str, width: int, *, is_bad: bool) -> list[Line]:
    if not is_bad:
        return [[(row, MUTED)] for row in wrap(text, width)]
    rows = wrap(text, max(1, width - 2)) if text else []
    return [[("✗ " if number == 0 else "  ", BAD), (row, BAD)] for number, row in enumerate(rows)]


def _cropped(lines: list[Line], height: int, width: int) -> list[Line]:
    """The first of the lines, with an ellipsis where there are more."""
    if len(lines) <= height or height < 1:
        return lines[: max(0, height)]
    last = lines[height - 1]
    return [*lines[: height - 1], crop([*last, (" …", last[-1][1])], width)]
