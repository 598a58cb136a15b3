"""What the engine says in sentences, in another language: found by its fixed words, and said anew around its figures.

Only a language other than English imports this.
"""

from __future__ import annotations

import gettext
import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import NamedTuple

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


class Pattern(NamedTuple):
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


class Catalogue(gettext.GNUTranslations):
    """The texts of one language; `figure` writes a figure as it does."""

    def __init__(self, file: gettext._TranslationsReader, figure: Callable[[str], str]) -> None:
        super().__init__(file)
        self._figure = figure
        self._known_before = lru_cache(maxsize=4096)(self._told)

    def told(self, text: str) -> str:
        """What the engine says, sentence by sentence; one that is not known stays as it is."""
        return text if len(text) > _MOST_CHARACTERS else self._known_before(text, 0)

    def local_figures(self, text: str) -> str:
        """Figures as the language writes them: `1,234.5` is `1.234,5`; versions and names stay."""
        return _FIGURE.sub(lambda match: self._figure(match[0]), text)

    @cached_property
    def _patterns(self) -> dict[str, list[Pattern]]:
        """By their first letter, empty for those that begin with a hole; the more words one fixes, the earlier."""
        found: list[tuple[str, str]] = []
        for key, translated in self._catalog.items():  # type: ignore[attr-defined]
            if isinstance(key, str) and key.startswith(f"{ENGINE}\x04") and "{0}" in key:
                found.append((key.partition("\x04")[2], translated))
        by_letter: dict[str, list[Pattern]] = {}
        for msgid, translated in sorted(found, key=lambda pair: -len(_HOLE.sub("", pair[0]))):
            pieces = [piece.replace("{{", "{").replace("}}", "}") for piece in _HOLE.split(msgid)]
            by_letter.setdefault(pieces[0][:1], []).append(Pattern(tuple(pieces), translated))
        return by_letter

    def _told(self, text: str, depth: int) -> str:
        """The whole where it is known, else the longest run of sentences from the left that is, and then the rest."""
        if not text:
            return ""
        if (whole := self._known(text, depth)) is not None:
            return whole
        cuts = [match.span() for match in (_PART_END if depth else _SENTENCE_END).finditer(text)]
        for start, end in reversed(cuts):
            if (head := self._known(text[:start], depth)) is not None:
                return head + text[start:end] + self._told(text[end:], depth)
        if (whole := self._filled(text, depth, is_strict=False)) is not None:
            return whole
        if cuts:
            start, end = cuts[0]
            return text[:end] + self._told(text[end:], depth)
        return self.local_figures(text) if depth else text

    def _known(self, text: str, depth: int) -> str | None:
        """One or more sentences that stand in the catalogue as a whole, with or without their end; else None."""
        if not text:
            return None
        for said in (self.pgettext(ENGINE, text), self.gettext(text)):
            if said != text:
                return said
        if (filled := self._filled(text, depth, is_strict=True)) is not None:
            return filled
        if text[-1] in _ENDS and (bare := self._known(text[:-1], depth)) is not None:
            return bare + text[-1]
        return None

    def _filled(self, text: str, depth: int, *, is_strict: bool) -> str | None:
        """A sentence with holes, said anew; if strict, no hole takes in the end of a sentence. None: there is none."""
        for pattern in self._candidates(text):
            holes = pattern.fill(text)
            if holes is not None and not (is_strict and any(map(_SENTENCE_END.search, holes))):
                filled = [self._told(hole, depth + 1) if depth < _DEEPEST else hole for hole in holes]
                return pattern.translated.format(*filled)
        return None

    def _candidates(self, text: str) -> Iterable[Pattern]:
        yield from self._patterns.get(text[:1], ())
        yield from self._patterns.get("", ())
