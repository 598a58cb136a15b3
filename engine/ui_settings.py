"""The table [ui] of settings.toml: how the screens look, and their keys."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class UiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the screens look, and their keys; no run is touched by it."""

    language: Annotated[
        Literal["auto", "en", "az"],
        Meta(
            description="what people read; auto: by LC_ALL, LC_MESSAGES or LANG, az where that is Azerbaijani, else "
            "en; takes effect at the next start"
        ),
    ] = "auto"
    theme: Annotated[
        str,
        Meta(
            max_length=100,
            description="colours; ctrl+p, Theme shows them all; takes effect at the next start",
        ),
    ] = "llm-tui-night"
    characters: Annotated[
        Literal["auto", "unicode", "ascii"],
        Meta(description="auto: what the terminal can show; ascii: frames, bars and curves in ASCII alone"),
    ] = "auto"
    keys: Annotated[
        dict[str, str | dict[str, str]],
        Meta(
            description="keys of your own, as [ui.keys]: the name of a key, then one or more keys; "
            "`llm-tui keys` lists the names",
            extra={"example": '[ui.keys]\nrun.pause = "P"\nrows.down = "j,down,ctrl+n"'},
        ),
    ] = {}
    """Last: in the file, keys that follow a table would belong to it."""
