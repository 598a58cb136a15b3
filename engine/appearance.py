"""What the first paint needs of settings.toml: the [ui] table, read without the rest of the engine.

Nothing here is refused: what is wrong is told by the check of the settings, once the screens stand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Appearance(NamedTuple):
    """How the screens are to look."""

    theme: str = ""
    """Empty: nothing was chosen."""
    characters: str = "auto"
    keys: Mapping[str, str] = {}
    """Name of a binding to its keys, separated by commas."""


def read_appearance(path: Path) -> Appearance:
    """The [ui] table of a settings file; what is absent or unusable has its default."""
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("ui", {})
    except (OSError, ValueError):
        return Appearance()
    if not isinstance(table, dict):
        return Appearance()
    keys = table.get("keys")
    return Appearance(
        theme=_text(table.get("theme")),
        characters=_text(table.get("characters")) or "auto",
        keys=dict(_flat("", keys)) if isinstance(keys, dict) else {},
    )


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
