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
_MOST_CHARACTERS = 700
"""A longer text is no sentence of the engine."""
_MOST_CUTS = 6
"""Ends of sentences that are tried for one sentence from the left; a text of more is told sentence by sentence."""
_DEEPEST = 5
"""How often a sentence is looked for within a sentence."""
_FEW_CHARACTERS, _SURE_BEGINNING = 7, 3
_SHORT_HOLE = re.compile(r"|[A-Z]{2,4}|[<~≥]? ?\d[\d.,]*( ?\S{1,6})?")
"""A figure with its unit, a code, or nothing."""
_HOLE = re.compile(r"\{\d+\}")
_FIGURE = re.compile(r"(?<![\w.-])[-+]?\d[\d,]*(\.\d+)?(?![\w.])")
_SENTENCE_END = re.compile(r"(?<=[.!?;]) (?=\S)|\n")
_PART_END = re.compile(r"(?<=[.!?;,]) (?=\S)|\n")
"""Within a sentence, where parts of it are told one after the other."""
_NAMES_LEFT = 3
"""So many single words may be names."""
_WITHIN = re.compile(r"[.!?;:,] ")
_ENDS = (".", ";", ",")


class Said(NamedTuple):
    """A reading of a text."""

    text: str
    num_left: int
    """Letters of sentences that stayed English; names and figures count as nothing."""


def _num_left(said: Said) -> int:
    return said.num_left


def _num_letters(text: str) -> int:
    """Letters of a text of several words; 1 where it is one word, perhaps a name, and 0 where it is a figure."""
    words = [word for word in text.split() if len(word) > 3 and any(map(str.isalpha, word))]
    return sum(map(len, words)) if len(words) > 1 else len(words)


def _joined(head: Said, between: str, rest: Said) -> Said:
    return Said(head.text + between + rest.text, head.num_left + rest.num_left)


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
        return text if len(text) > _MOST_CHARACTERS else self._known_before(text, 0).text

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

    def _told(self, text: str, depth: int) -> Said:
        """The reading that leaves the fewest letters in English: as a whole, or part by part."""
        if not text:
            return Said("", 0)
        readings = list(self._matches(text, depth))
        if any(not reading.num_left for reading in readings):
            return min(readings, key=_num_left)
        title, colon, rest = text.partition(": ")
        if colon and (said := self._exact(title)) is not None:
            readings.append(_joined(Said(said, 0), colon, self._known_before(rest, depth)))
        cuts = [match.span() for match in (_PART_END if depth else _SENTENCE_END).finditer(text)]
        for start, end in reversed(cuts[:_MOST_CUTS]):
            for head in self._matches(text[:start], depth):
                readings.append(_joined(head, text[start:end], self._known_before(text[end:], depth)))
        if cuts:
            start, end = cuts[0]
            unknown = Said(text[:start], sum(map(str.isalpha, text[:start])))
            readings.append(_joined(unknown, text[start:end], self._known_before(text[end:], depth)))
        readings.append(Said(self.local_figures(text) if depth else text, _num_letters(text)))
        return min(readings, key=_num_left)

    def _exact(self, text: str) -> str | None:
        """What stands in the catalogue without a hole, None where it does not."""
        return next(
            (said for said in (self.pgettext(ENGINE, text), self.gettext(text)) if said != text), None
        )

    def _matches(self, text: str, depth: int) -> Iterable[Said]:
        """The readings of one or more sentences that stand in the catalogue together, with or without their end."""
        if (said := self._exact(text)) is not None:
            yield Said(said, 0)
            return
        for pattern in self._candidates(text):
            holes = pattern.fill(text)
            if holes is not None and depth < _DEEPEST:
                told = [self._known_before(hole, depth + 1) for hole in holes]
                # Half a sentence that is not known before words that are would be neither language.
                before = list(zip(told, holes, strict=True))[: -1 if not pattern.pieces[-1] else None]
                if any(said.num_left > _NAMES_LEFT and _WITHIN.search(hole) for said, hole in before):
                    continue
                yield Said(
                    pattern.translated.format(*(hole.text for hole in told)), sum(map(_num_left, told))
                )
        if text[-1:] in _ENDS and len(text) > 1:
            yield from (Said(bare.text + text[-1], bare.num_left) for bare in self._matches(text[:-1], depth))

    def _candidates(self, text: str) -> Iterable[Pattern]:
        yield from self._patterns.get(text[:1], ())
        yield from self._patterns.get("", ())
