"""The language of what people read: which one it is, and every text in it.

Texts stand in the code in English and are looked up where they are shown, so that a class may hold them before the
language is known. What the engine says in sentences is recognised by its fixed words and said anew around its figures.
Nothing is looked up in English, and nothing is loaded for it.
"""

from __future__ import annotations

import contextlib
import gettext
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

from engine.appearance import read_appearance

DOMAIN = "llm-tui"
FOLDER = Path(__file__).with_name("locale")
LANGUAGES = ("en", "az")
ENGINE = "engine"
"""The context in the catalogue of what the engine says."""
_MOST_CHARACTERS = 2000
"""A longer text is no sentence of the engine."""
_DEEPEST = 3
"""How often a sentence is looked for within a sentence."""
_FEW_CHARACTERS, _SURE_BEGINNING = 7, 3
_SHORT_HOLE = re.compile(r"|\S{1,12}|[<~≥]? ?\d[\d.,]*( ?\S{1,6})?")
_HOLE = re.compile(r"\{\d+\}")
_FIGURE = re.compile(r"(?<![\w.-])[-+]?\d[\d,]*(\.\d+)?(?![\w.])")
_SENTENCE_END = re.compile(r"(?<=[.!?;]) (?=\S)|\n")
_PART_END = re.compile(r"(?<=[.!?;,]) (?=\S)|\n")
"""Within a sentence, where parts of it are told one after the other."""
_ENDS = (".", ";", ",")


class _Pattern(NamedTuple):
    """A sentence of the engine with holes: the words around them in English, and the whole in the language."""

    pieces: tuple[str, ...]
    translated: str

    @property
    def is_vague(self) -> bool:
        """Whether it fixes so little that many a sentence of another kind would fit."""
        fixed = sum(not character.isspace() for character in "".join(self.pieces))
        return fixed < _FEW_CHARACTERS and len(self.pieces[0].strip()) < _SURE_BEGINNING

    def fill(self, text: str) -> list[str] | None:
        """What stands in the holes, None where the words are others; each hole is as short as it can be."""
        first, *between = self.pieces
        if not text.startswith(first) or not text.endswith(self.pieces[-1]):
            return None
        at, found = len(first), []
        for index, piece in enumerate(between, start=1):
            is_last = index == len(between)
            end = len(text) - len(piece) if is_last else text.find(piece, at)
            if end < at:
                return None
            found.append(text[at:end])
            at = end + len(piece)
        if self.is_vague and not all(map(_SHORT_HOLE.fullmatch, found)):
            return None
        return found


class _Catalogue(gettext.GNUTranslations):
    """The texts of one language; the engine's sentences by the words they begin with."""

    @cached_property
    def patterns(self) -> dict[str, list[_Pattern]]:
        """By their first letter, empty for those that begin with a hole; the more words one fixes, the earlier."""
        found: list[tuple[str, str]] = []
        for key, translated in self._catalog.items():  # type: ignore[attr-defined]
            if isinstance(key, str) and key.startswith(f"{ENGINE}\x04") and "{0}" in key:
                found.append((key.partition("\x04")[2], translated))
        sorted_by_letter: dict[str, list[_Pattern]] = {}
        for msgid, translated in sorted(found, key=lambda pair: -len(_HOLE.sub("", pair[0]))):
            pieces = [piece.replace("{{", "{").replace("}}", "}") for piece in _HOLE.split(msgid)]
            pattern = _Pattern(tuple(pieces), translated)
            sorted_by_letter.setdefault(pattern.pieces[0][:1], []).append(pattern)
        return sorted_by_letter


class _Formatted(Protocol):
    """Anything that a text may hold."""

    def __format__(self, spec: str, /) -> str: ...


_code = "en"
_catalogue: _Catalogue | None = None


def code() -> str:
    """The language that is in use, by ISO 639."""
    return _code


def use(language: str) -> None:
    """Speak a language from now on: one of `LANGUAGES`; any other, or one whose catalogue is not there, is English."""
    global _code, _catalogue
    _code, _catalogue = "en", None
    _told.cache_clear()
    if language in LANGUAGES and language != "en":
        with (
            contextlib.suppress(OSError),
            (FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.mo").open("rb") as file,
        ):
            _code, _catalogue = language, _Catalogue(file)


def chosen(folder: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The language for a workspace: what its settings name, else that of the environment.

    Settings that cannot be read choose nothing; what is wrong with them is told elsewhere.
    """
    named = read_appearance(folder / "settings.toml").language
    if named in LANGUAGES:
        return named
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            spoken = re.split(r"[_.@]", value)[0]
            return spoken if spoken in LANGUAGES else "en"
    return "en"


# --- texts of ours ----------------------------------------------------------------------------------------------


def mark(text: str) -> str:
    """Say that a text is to be translated; it is the caller who looks it up where it is shown."""
    return text


def tr(text: str, **parts: _Formatted) -> str:
    """A text in the language, with its `{parts}` filled in."""
    said = text if _catalogue is None or not text else _catalogue.gettext(text)
    return said.format(**parts) if parts else said


def trn(one: str, many: str, num: int, **parts: _Formatted) -> str:
    """A text that counts something, `{num}` in it being how many."""
    english = one if num == 1 else many
    said = english if _catalogue is None else _catalogue.ngettext(one, many, num)
    return said.format(num=num, **parts)


_ALPHABET = "abcçdeəfgğhxıijkqlmnoöprsştuüvwyz"


def capitals(text: str) -> str:
    """A text in capitals: in Azerbaijani that of i has its dot, and that of ı has none."""
    return (text if _code == "en" else text.replace("i", "İ")).upper()


def alphabetical(text: str) -> tuple[tuple[int, str], ...] | str:
    """What texts of people are sorted by: in Azerbaijani its own alphabet, in English as the machine has it."""
    if _code == "en":
        return text
    lower = text.replace("I", "ı").replace("İ", "i").lower()
    return tuple((_ALPHABET.find(letter) + 1, letter) for letter in lower)


# --- texts of the engine ----------------------------------------------------------------------------------------


def told(text: str) -> str:
    """What the engine says, in the language: sentence by sentence; one that is not known stays as it is."""
    if _catalogue is None or not text or len(text) > _MOST_CHARACTERS:
        return text
    return _told(text, 0)


def local_figures(text: str) -> str:
    """Figures as the language writes them: `1,234.5` is `1.234,5` in Azerbaijani; versions and names stay."""
    return text if _code == "en" else _FIGURE.sub(lambda match: figure(match[0]), text)


def figure(text: str) -> str:
    """One written figure as the language writes it."""
    return text if _code == "en" else text.translate(_SWAPPED)


_SWAPPED = str.maketrans({".": ",", ",": "."})


@lru_cache(maxsize=4096)
def _told(text: str, depth: int) -> str:
    """The whole where it is known, else the longest run of sentences from the left that is, and then the rest."""
    if not text:
        return ""
    if (whole := _known(text, depth)) is not None:
        return whole
    cuts = [match.span() for match in (_PART_END if depth else _SENTENCE_END).finditer(text)]
    for start, end in reversed(cuts):
        if (head := _known(text[:start], depth)) is not None:
            return head + text[start:end] + _told(text[end:], depth)
    if (whole := _filled(text, depth, is_strict=False)) is not None:
        return whole
    if cuts:
        start, end = cuts[0]
        return text[:end] + _told(text[end:], depth)
    return local_figures(text) if depth else text


def _known(text: str, depth: int) -> str | None:
    """One or more sentences that stand in the catalogue as a whole, with or without their end; else None."""
    assert _catalogue is not None
    for said in (_catalogue.pgettext(ENGINE, text), _catalogue.gettext(text)):
        if said != text:
            return said
    if (filled := _filled(text, depth, is_strict=True)) is not None:
        return filled
    if text[-1] in _ENDS and len(text) > 1 and (bare := _known(text[:-1], depth)) is not None:
        return bare + text[-1]
    return None


def _filled(text: str, depth: int, *, is_strict: bool) -> str | None:
    """A sentence with holes, said anew; if strict, no hole takes in the end of a sentence. None: there is none."""
    for pattern in _candidates(text):
        holes = pattern.fill(text)
        if holes is not None and not (is_strict and any(map(_SENTENCE_END.search, holes))):
            filled = [_told(hole, depth + 1) if depth < _DEEPEST else hole for hole in holes]
            return pattern.translated.format(*filled)
    return None


def _candidates(text: str) -> Iterable[_Pattern]:
    assert _catalogue is not None
    yield from _catalogue.patterns.get(text[:1], ())
    yield from _catalogue.patterns.get("", ())
