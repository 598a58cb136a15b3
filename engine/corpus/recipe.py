"""Everything that the shards of a corpus depend on; its hash is the name of the cache entry."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from engine.corpus.document import section_chars
from engine.corpus.source import Listing
from engine.corpus.split import window_bytes
from engine.settings import CorpusSettings

VERSION = 2
"""Raised when the same text and settings would yield other shards."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What one build is made from. Paths and times are not in it: a corpus that was moved is the same."""

    version: int
    vocab_size: int
    text_field: str
    section_chars: int
    validation_frac: float
    window_bytes: int
    """See `split.window_bytes`."""
    sample_bytes: int
    files: tuple[tuple[str, str, str, int], ...]
    """Kind, SHA-256, text field and part of each, in order."""

    @property
    def key(self) -> str:
        """A hash of it all."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:24]


class BuildJob(NamedTuple):
    """What one build has to do."""

    recipe: Recipe
    listing: Listing
    text_bytes: int
    """About how much text there is."""
    min_tokens: int
    """Fewer are of no use."""


def recipe_of(
    settings: CorpusSettings, listing: Listing, hashes: list[str], vocab_size: int, context: int
) -> Recipe:
    """The recipe for a listing whose files have these hashes, in the same order."""
    total_bytes = listing.total_bytes
    return Recipe(
        version=VERSION,
        vocab_size=vocab_size,
        text_field=settings.text_field,
        section_chars=section_chars(total_bytes),
        validation_frac=settings.validation_frac,
        window_bytes=window_bytes(total_bytes, context),
        sample_bytes=int(settings.tokenizer_sample_mib * (1 << 20)),
        files=tuple(
            (file.kind, sha256, file.text_field, file.part)
            for file, sha256 in zip(listing.files, hashes, strict=True)
        ),
    )
