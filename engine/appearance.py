"""What the first paint needs of settings.toml: the [ui] table, read without the rest of the engine.

Nothing here is refused: what is wrong is told by the check of the settings, once the screens stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_AS_SHIPPED = frozenset({'language = "auto"', 'theme = "llm-tui-night"', 'characters = "auto"'})


class Appearance(NamedTuple):
    """How the screens are to look."""

    theme: str = ""
    """Empty: nothing was chosen."""
    characters: str = "auto"
    keys: Mapping[str, str] = {}
    """Name of a binding to its keys, separated by commas."""
    language: str = "auto"


def read_appearance(path: Path) -> Appearance:
    """The [ui] table of a settings file; what is absent or unusable has its default."""
    try:
        text = path.read_text("utf-8")
        if _is_as_shipped(text):
            return Appearance()
        # Not before it is needed: importing it takes a fiftieth of the first paint.
        import tomllib

        table = tomllib.loads(text).get("ui", {})
    except (OSError, ValueError):
        return Appearance()
    if not isinstance(table, dict):
        return Appearance()
    keys = table.get("keys")
    return Appearance(
        theme=_text(table.get("theme")),
        language=_text(table.get("language")) or "auto",
        characters=_text(table.get("characters")) or "auto",
        keys=dict(_flat("", keys)) if isinstance(keys, dict) else {},
    )


def _is_as_shipped(text: str) -> bool:
    """Whether the last table is [ui] as `llm-tui init` writes it, and nothing before it is about it."""
    before, _, table = text.partition("\n[ui]")
    lines = {line.split("#")[0].strip() for line in table.splitlines()[1:]} - {""}
    is_elsewhere = any(
        line.lstrip().startswith(("ui", "[ui", '"ui', "['ui", '["ui')) for line in before.splitlines()
    )
    return bool(table) and lines <= _AS_SHIPPED and not is_elsewhere


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _flat(prefix: str, table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`run.pause = "P"` is a table in a table for TOML, and one name for us."""
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _flat(f"{prefix}{name}.", value)
        elif isinstance(value, str):
            found.append((prefix + name, value))
    return found
