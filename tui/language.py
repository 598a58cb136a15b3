"""The language of what people read: which one it is, and every text in it.

Texts stand in the code in English and are looked up where they are shown, so that a class may hold them before the
language is known. Nothing is looked up in English, and nothing is loaded for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.appearance import read_appearance

if TYPE_CHECKING:
    from tui.sentences import Catalogue

DOMAIN = "llm-tui"
FOLDER = Path(__file__).with_name("locale")
LANGUAGES = ("en", "az")

_code = "en"
_catalogue: Catalogue | None = None


def code() -> str:
    """The language that is in use, by ISO 639."""
    return _code


def use(language: str) -> None:
    """Speak a language from now on: one of `LANGUAGES`; any other, or one whose catalogue is not there, is English."""
    global _code, _catalogue
    _code, _catalogue = "en", None
    if language in LANGUAGES and language != "en":
        from tui.sentences import Catalogue

        path = FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.mo"
        with contextlib.suppress(OSError), path.open("rb") as file:
            _code, _catalogue = language, Catalogue(file, figure)


def chosen(folder: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The language for a workspace: what its settings name, else that of the environment.

    Settings that cannot be read choose nothing; what is wrong with them is told elsewhere.
    """
    named = read_appearance(folder / "settings.toml").language
    if named in LANGUAGES:
        return named
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            spoken = value.partition(".")[0].partition("@")[0].partition("_")[0]
            return spoken if spoken in LANGUAGES else "en"
    return "en"


def mark(text: str) -> str:
    """Say that a text is to be translated; it is the caller who looks it up where it is shown."""
    return text


def tr(text: str, **parts: object) -> str:
    """A text in the language, with its `{parts}` filled in."""
    said = text if _catalogue is None or not text else _catalogue.gettext(text)
    return said.format(**parts) if parts else said


def trn(one: str, many: str, num: int, **parts: object) -> str:
    """A text that counts something, `{num}` in it being how many."""
    english = one if num == 1 else many
    said = english if _catalogue is None else _catalogue.ngettext(one, many, num)
    return said.format(num=num, **parts)


def told(text: str) -> str:
    """What the engine says, in the language: sentence by sentence; one that is not known stays as it is."""
    return text if _catalogue is None else _catalogue.told(text)


def figure(text: str) -> str:
    """One written figure as the language writes it: `1,234.5` is `1.234,5` in Azerbaijani."""
    return text if _code == "en" else text.translate(_SWAPPED)


_SWAPPED = str.maketrans({".": ",", ",": "."})


def capitals(text: str) -> str:
    """A text in capitals: in Azerbaijani that of i has its dot, and that of ı has none."""
    return (text if _code == "en" else text.replace("i", "İ")).upper()


_ALPHABET = "abcçdeəfgğhxıijkqlmnoöprsştuüvwyz"


def alphabetical(text: str) -> tuple[tuple[int, str], ...] | str:
    """What texts of people are sorted by: in Azerbaijani its own alphabet, in English as the machine has it."""
    if _code == "en":
        return text
    lower = text.replace("I", "ı").replace("İ", "i").lower()
    return tuple((_ALPHABET.find(letter) + 1, letter) for letter in lower)
