"""Keys of one's own: which bindings there are by their names, what a table of keys makes of them, and how help and
questions tell of it.

Reading every screen takes a while: only who has keys of their own, or asks for the names, waits for it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from textual.binding import Binding
from textual.keys import KEY_DISPLAY_ALIASES, Keys, format_key, key_to_character

from tui.language import mark, tr

_MODIFIERS = frozenset({"ctrl", "shift", "alt", "meta", "super"})
_NAMED = frozenset(key.value for key in Keys)
_RESERVED = {
    "ctrl+q": mark("to leave the app"),
    "ctrl+p": mark("the command palette"),
    "ctrl+c": mark("to copy"),
}
"""Textual's own, before all others."""
_FAMILIES = {"tui.app": "app", "tui.screens": "screen", "tui.widgets": "widget", "tui.dialogs": "dialog"}


class Bound(NamedTuple):
    """One binding that has a name."""

    id: str
    keys: tuple[str, ...]
    about: str
    owner: type
    """The class that has it; what a dialog has is alone while it is open."""
    family: str
    """app, screen, widget or dialog."""


class Keymap(NamedTuple):
    """What a table of keys comes to."""

    keys: dict[str, str]
    """Binding to its keys, as Textual takes them; of the alternatives on one key all."""
    problems: tuple[str, ...]
    """What of the table is not used, and why."""


@cache
def known_bindings() -> tuple[Bound, ...]:
    """Every named binding of the app, the screens, the dialogs and the widgets."""
    found: list[Bound] = []
    for room, family in _FAMILIES.items():
        package = importlib.import_module(room)
        names = [name for _, name, _ in pkgutil.iter_modules(getattr(package, "__path__", []), f"{room}.")]
        for module in (package, *map(importlib.import_module, names)):
            for owner in vars(module).values():
                if isinstance(owner, type) and owner.__module__ == module.__name__:
                    found += _of(owner, family)
    return tuple(found)


def _of(owner: type, family: str) -> Iterable[Bound]:
    for binding in owner.__dict__.get("BINDINGS", ()):
        if isinstance(binding, Binding) and binding.id:
            keys = tuple(_normal(key) for key in binding.key.split(","))
            yield Bound(binding.id, keys, binding.tooltip or binding.description, owner, family)


def resolve(wanted: Mapping[str, str]) -> Keymap:
    """The keymap of a table of keys; an entry that cannot be used is left out and told."""
    known, problems, keys = known_bindings(), [], {}
    by_id: dict[str, list[Bound]] = {}
    for bound in known:
        by_id.setdefault(bound.id, []).append(bound)
    for name, text in wanted.items():
        problem = _why_not(name, text, by_id)
        if problem:
            problems.append(problem)
        else:
            given = tuple(_normal(key.strip()) for key in text.split(","))
            keys[name] = given
            keys |= {other: given for other in _alternatives(by_id[name], known) if other not in wanted}
    for name in [name for name in wanted if name in keys]:
        if name in keys and (rival := _rival(name, keys, known)):
            problems.append(
                tr(
                    "ui.keys.{name}: {keys} is {rival} already ({about}). Give that one another key too.",
                    name=name,
                    keys=", ".join(map(shown, keys[name])),
                    rival=rival.id,
                    about=tr(rival.about),
                )
            )
            for other in [name, *_alternatives(by_id[name], known)]:
                keys.pop(other, None)
    return Keymap({name: ",".join(given) for name, given in keys.items()}, tuple(problems))


def _why_not(name: str, text: str, by_id: Mapping[str, Sequence[Bound]]) -> str:
    """What is wrong with one entry by itself; empty where nothing is."""
    if name not in by_id:
        near = difflib.get_close_matches(name, by_id, n=1, cutoff=0.0)[0]
        return tr(
            "ui.keys.{name} is no key that llm-tui knows. Did you mean {near}? `llm-tui keys` lists all.",
            name=name,
            near=near,
        )
    for key in text.split(","):
        if (what := _RESERVED.get(key.strip())) is not None:
            return tr(
                "ui.keys.{name}: {key} is {what}, always. Choose another key.",
                name=name,
                key=key.strip(),
                what=tr(what),
            )
        if not _is_key(key.strip()):
            near = difflib.get_close_matches(key.strip(), sorted(_NAMED), n=1, cutoff=0.0)[0]
            return tr(
                'ui.keys.{name} = "{given}": {key} is no key. Did you mean {near}? A key is a character '
                'like "P", or like "ctrl+p", "f5", "pagedown"; commas part several.',
                name=name,
                given=text,
                key=key.strip() or "nothing",
                near=near,
            )
    return ""


def _is_key(key: str) -> bool:
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    if not last or not set(modifiers) <= _MODIFIERS:
        return False
    return len(last) == 1 or last in _NAMED or key_to_character(last) is not None


def _normal(key: str) -> str:
    """As Textual names it: `question_mark` for `?`."""
    if len(key) != 1 or key.isalnum():
        return key
    import unicodedata

    return unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")


def _alternatives(bounds: Sequence[Bound], known: Sequence[Bound]) -> list[str]:
    """What shares the key by design, as pause and go on do: only one of them is possible at a time."""
    return [
        other.id
        for bound in bounds
        for other in known
        if other.owner is bound.owner and other.keys == bound.keys and other.id != bound.id
    ]


def _rival(name: str, keys: Mapping[str, tuple[str, ...]], known: Sequence[Bound]) -> Bound | None:
    """Another binding that has one of the keys where this one is in force; None where none has."""
    own = [bound for bound in known if bound.id == name]
    allowed = {name, *_alternatives(own, known)}
    for bound in own:
        for other in known:
            if other.id in allowed or not _meets(bound, other):
                continue
            # What meets by design, as j in a list and on its screen, does so still.
            if set(keys.get(other.id, other.keys)) & (set(keys[name]) - set(bound.keys)):
                return other
    return None


def _meets(one: Bound, other: Bound) -> bool:
    """Whether both may be in force at once."""
    if one.owner is other.owner:
        return True
    families = {one.family, other.family}
    if families == {"screen", "widget"}:
        screen, widget = (one, other) if one.family == "screen" else (other, one)
        return _uses(screen.owner, widget.owner)
    return len(families) == 2 and "dialog" not in families


def _uses(screen: type, widget: type) -> bool:
    """Whether a screen's module knows the widget, or one made from it."""
    known = vars(sys.modules[screen.__module__]).values()
    return any(isinstance(value, type) and issubclass(value, widget) for value in known)


# --- how it is told -------------------------------------------------------------------------------------------


def shown(key: str) -> str:
    """A key as it is told: `?`, `^s`, `↑`."""
    *modifiers, last = key.split("+") if len(key) > 1 else [key]
    last = KEY_DISPLAY_ALIASES.get(last) or format_key(last)
    return "+".join([*modifiers, last])


def retold(text: str, bindings: Iterable[Binding], own: Mapping[str, str]) -> str:
    """A text that begins its lines with keys, with the person's own keys in their places."""
    renamed: dict[str, str] = {}
    for binding in bindings:
        if binding.id is not None and binding.id in own:
            for old in binding.key.split(","):
                for spelt in {shown(_normal(old)), old, shown(_normal(old)).lower()}:
                    renamed[spelt.lower() if len(spelt) > 1 else spelt] = " ".join(
                        shown(key) for key in own[binding.id].split(",")
                    )
    if not renamed:
        return text
    return "\n".join(_retold_line(line, renamed) for line in text.split("\n"))


def _retold_line(line: str, renamed: Mapping[str, str]) -> str:
    found = re.match(r"(\s*)((?:\S+ )*\S+)(\s{2,})", line)
    if found is None:
        return line
    before, cell, gap = found.groups()
    told: list[str] = []
    for key in cell.split(" "):
        name = renamed.get(key.lower() if len(key) > 1 else key, key)
        told += [name] if name not in told else []
    fresh = " ".join(told)
    return f"{before}{fresh}{' ' * max(2, len(cell) + len(gap) - len(fresh))}{line[found.end() :]}"
