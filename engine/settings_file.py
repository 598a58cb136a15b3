"""settings.toml: reading it with errors that help, writing it documented, freezing it with a run."""

from __future__ import annotations

import collections
import difflib
import inspect
import math
import re
import textwrap
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

from engine import atomic
from engine.currency import CODES, nearest_code
from engine.errors import SettingsError
from engine.settings import NotifySettings, Settings
from engine.settings_words import describe

FILE_NAME = "settings.toml"


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a settings file; `overrides` are `section.key=value` and win over it.

    Raises: SettingsError with file, line where known, dotted key, value, nearest key and remedy.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path} is not there.", "`llm-tui init` writes a documented one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read: {error}", "Make it a readable UTF-8 text file."
        ) from error
    return parse(text, str(path), overrides)


def parse(
    text: str,
    file: str,
    overrides: Sequence[str] = (),
    *,
    without: Sequence[str] = (),
    origin: str = "--set",
) -> Settings:
    """Turn the text of a settings file into settings; `file` is the name that messages use.

    `without` are dotted keys that are taken as absent; `origin` is where messages say that an override comes from.
    Raises: as `load`.
    """
    try:
        data = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError: also a number of more digits than Python reads
        raise SettingsError(
            f"{file} is not TOML: {error}", "Mend that line; text values need quotes."
        ) from error
    reader = _Reader(file, text, origin)
    for dotted in without:
        section, _, key = dotted.partition(".")
        if isinstance(table := data.get(section), dict):
            table.pop(key, None)
    for override in overrides:
        reader.override(data, override)
    return reader.settings(data)


class _Reader:
    """Turns the tables of one file into settings, and says where something is wrong."""

    def __init__(self, file: str, text: str, origin: str) -> None:
        self._file = file
        self._origin = origin
        self._lines = text.splitlines()
        self._overridden: set[str] = set()

    def override(self, data: dict[str, Any], override: str) -> None:
        """Put one `section.key=value` into the tables."""
        dotted, equals, raw = override.partition("=")
        section, dot, key = dotted.strip().partition(".")
        if not equals or not dot or not key or not section:
            raise SettingsError(
                f"{self._origin} {override}: not of the form section.key=value.",
                "For example --set training.tokens=200000",
            )
        self._overridden.add(f"{section}.{key}")
        table = data.setdefault(section, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{self._file}: {section} is not a table.", f"Write it as [{section}].")
        table[key] = _override_value(raw.strip())

    def settings(self, data: dict[str, Any]) -> Settings:
        """Check every table and key."""
        sections: dict[str, Any] = {}
        known = {field.name: field for field in msgspec.structs.fields(Settings)}
        for name, table in data.items():
            if name not in known:
                raise self._unknown(name, list(known))
            if not isinstance(table, dict):
                raise self._error(name, table, "a table", f"Write it as [{name}].")
            sections[name] = self._section(name, table, known[name].type)
        settings = Settings(**sections)
        self._check_currency(settings.energy.currency)
        limits = settings.limits
        if limits.max_gpu_celsius and limits.resume_gpu_celsius >= limits.max_gpu_celsius:
            raise self._error(
                "limits.resume_gpu_celsius",
                limits.resume_gpu_celsius,
                f"less than limits.max_gpu_celsius ({limits.max_gpu_celsius:g})",
                "Leave some degrees between the two, or the run would pause and go on without end.",
            )
        return settings

    def _check_currency(self, code: str) -> None:
        if code not in CODES:
            near = nearest_code(code)
            hint = f"Did you mean {near}? " if near else ""
            raise self._error(
                "energy.currency",
                code,
                "a currency of ISO 4217",
                f"{hint}Use its three letters, like USD, EUR, AZN.",
            )

    def _section(self, section: str, table: dict[str, Any], kind: Any) -> Any:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        values: dict[str, Any] = {}
        for key, value in table.items():
            dotted = f"{section}.{key}"
            if key not in fields:
                raise self._unknown(dotted, [f"{section}.{name}" for name in fields])
            field = fields[key]
            item = _item_struct(field.type)
            if item is not None and isinstance(value, list):
                values[field.name] = [
                    self._item(f"{dotted}.{number}", part, item) for number, part in enumerate(value, start=1)
                ]
            else:
                values[field.name] = self._value(dotted, value, field.type)
        return kind(**values)

    def _item(self, dotted: str, item: Any, kind: Any) -> Any:
        """One table of a list of tables; `dotted` ends with its number, from 1."""
        if not isinstance(item, dict):
            name = dotted.rpartition(".")[0]
            raise self._error(dotted, item, "a table", f"Write it as [[{name}]].")
        for field in msgspec.structs.fields(kind):
            if field.required and field.encode_name not in item:
                wanted = field.encode_name
                raise self._error(dotted, item, f"a table with {wanted}", f"Add {wanted} to it.")
        return self._section(dotted, item, kind)

    def _value(self, dotted: str, value: Any, kind: Any) -> Any:
        expected = describe(kind)
        remedy = f"Set {dotted.rpartition('.')[2]} to {expected}, or leave it out for its default."
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            raise self._error(dotted, value, expected, remedy)
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise self._error(dotted, value, expected, remedy) from None

    def _unknown(self, dotted: str, known: list[str]) -> SettingsError:
        near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.0)[0]
        kind = "key" if "." in dotted else "section"
        return SettingsError(
            f"{self._where(dotted)}: {dotted} is not a {kind} that llm-tui knows.",
            f"Did you mean {near}? `llm-tui init DIR` writes a file with every {kind} explained.",
        )

    def _error(self, dotted: str, value: Any, expected: str, remedy: str) -> SettingsError:
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        if dotted.startswith("notify."):
            shown = "(a secret)"
        where = self._where(dotted)
        title = (
            f"{where}: {dotted} = {shown} is not {expected}."
            if where
            else f"{dotted} = {shown} is not {expected}."
        )
        return SettingsError(title, remedy, dotted=dotted, expected=expected)

    def _where(self, dotted: str) -> str:
        if dotted in self._overridden:
            return self._origin
        line = find_line(self._lines, dotted)
        return f"{self._file}:{line}" if line else self._file


def find_line(lines: Sequence[str], dotted: str) -> int | None:
    """The line, from 1, on which a dotted key or a section is set; None where it cannot be told."""
    section, _, key = dotted.rpartition(".")
    current = ""
    num_tables: collections.Counter[str] = collections.Counter()
    for number, line in enumerate(lines, start=1):
        header = re.match(r"\s*(\[\[?)\s*([\w.\"-]+)\s*\]?\]", line)
        if header:
            current = header.group(2)
            if header.group(1) == "[[":
                num_tables[current] += 1
                current = f"{current}.{num_tables[current]}"
                if current == dotted:
                    return number
            if not section and current.split(".")[0] == key:
                return number
            continue
        assigned = re.match(r"\s*([\w.\"-]+)\s*=", line)
        if assigned and f"{current}.{assigned.group(1)}".strip(".") == dotted:
            return number
        if assigned and not section and assigned.group(1) == key and not current:
            return number
    return None


def _override_value(raw: str) -> Any:
    """A value as TOML reads it; what is not TOML is text, so that quotes need no escaping in a shell."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):
        return raw


# --- writing --------------------------------------------------------------------------------------------------


def template() -> str:
    """The documented settings.toml that `llm-tui init` writes: every key with its default, range and reason."""
    parts = [
        "# llm-tui: what is trained, on what, how, and what it may cost.\n"
        "# Every key may be left out; it then has the value shown here.\n"
    ]
    for section in msgspec.structs.fields(Settings):
        parts.append("\n".join(_section_lines(section.name, section.type)))
    return "\n".join(parts) + "\n"


def _section_lines(name: str, kind: Any) -> Iterator[str]:
    yield f"\n[{name}]  # {inspect.cleandoc(kind.__doc__).splitlines()[0]}"
    for field in msgspec.structs.fields(kind):
        info = types.type_info(field.type)
        comment = reason_of(field.type)
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        expected = describe(field.type)
        for line in _wrapped(f"{comment} ({expected})"):
            yield f"# {line}"
        if example := _example(info):
            yield from (f"# {line}" for line in example.splitlines())
        elif default is None:
            yield f"# {field.name} ="
        else:
            yield f"{field.name} = {to_toml(default)}"


def reason_of(kind: Any) -> str:
    """What a key is for, its unit in it, as its type is annotated."""
    return _description(types.type_info(kind))


def _description(info: types.Type) -> str:
    if isinstance(info, types.Metadata):
        schema = info.extra_json_schema or {}
        return str(schema.get("description", "")) or _description(info.type)
    if isinstance(info, types.UnionType):
        return next((text for text in map(_description, info.types) if text), "")
    return ""


def _example(info: types.Type) -> str:
    """How a list of tables is written; empty for every other key."""
    return str((info.extra or {}).get("example", "")) if isinstance(info, types.Metadata) else ""


def _item_struct(kind: Any) -> Any:
    """The record of which a key takes a list of tables; None for every other key."""
    info = types.type_info(kind)
    if isinstance(info, types.Metadata):
        info = info.type
    if isinstance(info, types.ListType) and isinstance(info.item_type, types.StructType):
        return info.item_type.cls
    return None


def _wrapped(text: str, width: int = 108) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def to_toml(value: Any) -> str:
    """A value as it stands behind the equals sign, on one line; letters that steer a terminal are escaped."""
    import tomli_w

    written = (
        tomli_w.dumps({"value": value})
        .removeprefix("value = ")
        .strip()
        .replace("[\n    ", "[")
        .replace("\n    ", " ")
        .replace(",\n]", "]")
    )
    return "".join(_escaped(letter) for letter in written)


def _escaped(letter: str) -> str:
    is_risky = unicodedata.category(letter) in ("Cc", "Cf", "Cn", "Co", "Zl", "Zp")
    return f"\\U{ord(letter):08X}" if is_risky else letter


def write_template(folder: Path) -> Path:
    """Write a documented settings.toml into `folder`, making the folder; never overwrites.

    Raises: SettingsError where there is one already, or the folder cannot be written.
    """
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            raise SettingsError(
                f"{path} is there already; it was left as it is.", "Edit it, or choose another folder."
            )
        atomic.write_text(path, template())  # for its owner: notify.url may hold a secret
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error}", "Choose a folder that you may write to."
        ) from error
    return path


def freeze(settings: Settings, path: Path) -> None:
    """Write settings as they are in force, for the run's folder; defaults included; comments, looks, secrets not."""
    import tomli_w

    settings = msgspec.structs.replace(settings, notify=NotifySettings())
    tables = _without_none(msgspec.to_builtins(settings))
    del tables["ui"]
    atomic.write_text(path, tomli_w.dumps(tables))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value]
    return value
