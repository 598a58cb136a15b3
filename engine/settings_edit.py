"""settings.toml as a form: every key with what it is and may be, and a save that leaves the rest of the file alone."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from engine import atomic
from engine.errors import SettingsError
from engine.settings import Settings
from engine.settings_file import find_line, parse, reason_of, to_toml
from engine.settings_words import Literals, describe, literals, ordered

ORIGIN = ""
"""Where messages say that a value which was typed into the form stands: one sees that."""
_UNITS = (
    ("_s", "s"),
    ("_gib", "GiB"),
    ("_mib", "MiB"),
    ("_celsius", "°C"),
    ("_watts", "W"),
    ("hours", "h"),
    ("tokens", "tokens"),
    ("tokens_per_step", "tokens"),
    ("context", "tokens"),
    ("grams_co2_per_kwh", "g"),
)
"""Keys carry their units in their names; this is how the names end."""
_UNSET = "llm-tui: this key is left out"


class FileChangedError(SettingsError):
    """settings.toml is not what it was when the form was read."""


class KeyForm(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the form."""

    dotted: str
    """section.key"""
    value: str
    """What the file has, or the default where it has none, as TOML; empty: neither."""
    default: str
    """As TOML; empty: without a value the engine decides."""
    is_in_file: bool
    expected: str
    """What values it takes, in words, its range among them."""
    reason: str
    unit: str
    """Empty where it has none."""
    choices: tuple[str, ...]
    """Every value it takes, as TOML, where they are few; else empty."""
    is_secret: bool = False
    """Whether its value is not to be shown."""

    @property
    def section(self) -> str:
        """The table that it stands in."""
        return self.dotted.partition(".")[0]

    @property
    def key(self) -> str:
        """Its name within the table."""
        return self.dotted.partition(".")[2]


class SettingsForm(msgspec.Struct, frozen=True, kw_only=True):
    """settings.toml as it was read."""

    path: str
    text: str | None
    """None: there is no file."""
    sections: dict[str, str]
    """Name to what it is about."""
    keys: tuple[KeyForm, ...]
    """Empty where the file is no TOML."""
    problem: str = ""
    """Why the file as it stands is refused, with the remedy; empty where it is not."""


def read_form(path: Path) -> SettingsForm:
    """The form of a settings file; one that is absent or refused has a form too.

    Raises: SettingsError where the file cannot be read at all.
    """
    text = _read(path)
    fields = msgspec.structs.fields(Settings)
    form = SettingsForm(
        path=str(path), text=text, sections={f.name: _first_line(f.type) for f in fields}, keys=()
    )
    try:
        tables = tomllib.loads(text or "")
    except (ValueError, RecursionError) as error:
        problem = f"{path.name} is not TOML: {error}\nMend it in an editor; nothing is written over it here."
        return msgspec.structs.replace(form, problem=problem)
    keys = tuple(
        _key(section.name, field, tables.get(section.name))
        for section in fields
        for field in msgspec.structs.fields(section.type)
    )
    try:
        parse(text or "", path.name)
        problem = ""
    except SettingsError as error:
        problem = str(error)
    return msgspec.structs.replace(form, keys=keys, problem=problem)


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read: {error}", "Make it a readable UTF-8 text file."
        ) from error


def _first_line(kind: Any) -> str:
    return str(kind.__doc__).strip().splitlines()[0]


def _key(section: str, field: msgspec.structs.FieldInfo, table: Any) -> KeyForm:
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    written = "" if default is None else _written(default)
    is_in_file = isinstance(table, dict) and field.encode_name in table
    return KeyForm(
        dotted=f"{section}.{field.encode_name}",
        value=_written(table[field.encode_name]) if is_in_file else written,
        default=written,
        is_in_file=is_in_file,
        expected=describe(field.type),
        reason=reason_of(field.type),
        unit=_unit(field.encode_name),
        choices=_choices(types.type_info(field.type), literals(field.type)),
        is_secret=_is_secret(types.type_info(field.type)),
    )


def _written(value: Any) -> str:
    """As TOML on one line, tables of a list too."""
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_name(key)} = {_written(part)}' for key, part in value.items())}}}"
    return to_toml(value)


def _name(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else to_toml(key)


def _unit(name: str) -> str:
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "")


def _is_secret(info: types.Type) -> bool:
    return isinstance(info, types.Metadata) and bool((info.extra or {}).get("is_secret"))


def _choices(info: types.Type, orders: Literals) -> tuple[str, ...]:
    match info:
        case types.Metadata():
            return _choices(info.type, orders)
        case types.BoolType():
            return ("true", "false")
        case types.LiteralType():
            return tuple(to_toml(value) for value in ordered(info, orders))
        case types.UnionType():
            known = [part for part in info.types if not isinstance(part, types.NoneType)]
            return _choices(known[0], orders) if len(known) == 1 else ()
    return ()


# --- changing it ----------------------------------------------------------------------------------------------


def check(form: SettingsForm, changes: Mapping[str, str | None]) -> Settings:
    """The settings that the form would be with these changes: dotted key to TOML, None: left out of the file.

    Text that is no TOML is taken as a text, as on the command line. Raises: SettingsError, as of the file.
    """
    overrides = [f"{dotted}={value}" for dotted, value in changes.items() if value is not None]
    without = [dotted for dotted, value in changes.items() if value is None]
    return parse(form.text or "", Path(form.path).name, overrides, without=without, origin=ORIGIN)


def save(form: SettingsForm, changes: Mapping[str, str | None]) -> None:
    """Write the changes into the file, which keeps its comments, its order and its line ends.

    Raises: FileChangedError where the file is not what the form was read from; SettingsError where a value is
    refused, or the file cannot be read, written or changed without losing something. It is then as it was.
    """
    path = Path(form.path).resolve()
    wanted = check(form, changes)
    if _read(path) != form.text:
        raise FileChangedError(
            f"{path.name} was changed on the disk since it was read here.",
            "r reads it again; what you changed here is kept and can be saved then.",
        )
    text = edited(form.text or "", changes)
    if parse(text, path.name) != wanted:
        raise SettingsError(
            f"{path.name} is written in a way that cannot be changed here without losing something.",
            "Change it in an editor.",
        )
    try:
        atomic.write_text(path, text, mode=path.stat().st_mode & 0o777 if path.exists() else 0o644)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}", "Make its folder writable.") from error


def edited(text: str, changes: Mapping[str, str | None]) -> str:
    """The text of a settings file with other values; comments, order and line ends stay."""
    import tomlkit

    set_keys = [dotted for dotted, value in changes.items() if value is not None]
    for dotted in set_keys:
        text = _waken(text, dotted)
    document = tomlkit.parse(text)
    for dotted, value in changes.items():
        section, _, key = dotted.partition(".")
        if section not in document:
            if value is None:
                continue
            document.add(section, tomlkit.table())
        table: Any = document[section]
        if value is not None:
            table[key] = _value(value)
        elif key in table:
            table[key] = _UNSET
    return _put_to_sleep(tomlkit.dumps(document), [d for d, value in changes.items() if value is None])


def _value(raw: str) -> Any:
    """As TOML reads it; what is no TOML is text. Lists stay on their line, so that no table ends up among keys."""
    import tomlkit

    try:
        return tomlkit.parse(f"value = {raw}")["value"]
    except tomlkit.exceptions.TOMLKitError:
        return tomlkit.string(raw)


def _waken(text: str, dotted: str) -> str:
    """Take the comment sign from `# key =`, as the documented file has keys without a default."""
    lines = text.splitlines(keepends=True)
    section, _, key = dotted.partition(".")
    current = ""
    for index, line in enumerate(lines):
        if header := re.match(r"\s*\[+\s*([\w.-]+)\s*\]", line):
            current = header.group(1)
        elif current == section and re.match(rf"#\s*{re.escape(key)}\s*=\s*$", line):
            if find_line(lines, dotted) is None:
                lines[index] = f"{key} = 0{line[len(line.rstrip()) :]}"
            break
    return "".join(lines)


def _put_to_sleep(text: str, dotted_keys: list[str]) -> str:
    """Make a comment again of what is left out, where it stands on a line; else take it away."""
    for dotted in dotted_keys:
        lines = text.splitlines(keepends=True)
        number = find_line(lines, dotted)
        if number is not None and _UNSET in (line := lines[number - 1]):
            lines[number - 1] = f"# {dotted.partition('.')[2]} ={line[len(line.rstrip()) :] or os.linesep}"
        text = "".join(lines)
    return text
