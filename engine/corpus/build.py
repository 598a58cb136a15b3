"""From the settings to token shards: a quick look (`inspect`), and the build or the cache entry (`prepare`).

A build reads the corpus three times: to hash it (remembered by the files' stat, so that a second run reads nothing),
to count it and take the tokenizer's sample, and to tokenize it. Only the sample is held in memory. One that is stopped
is gone on with by the next, from a few seconds before the stop.
numpy and tokenizers are imported when something has to be built, never with this module.
"""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.atomic import make_private
from engine.corpus import cache
from engine.corpus.document import DocumentReader, section_chars
from engine.corpus.manifest import (
    MANIFEST_NAME,
    CorpusManifest,
    CorpusReport,
    Progress,
    is_intact,
    load_manifest,
)
from engine.corpus.progress import Meter
from engine.corpus.recipe import BuildJob, recipe_of
from engine.corpus.source import Listing, list_files, shown
from engine.errors import CorpusError
from engine.settings import CorpusSettings

__all__ = ["CorpusManifest", "CorpusReport", "Progress", "inspect", "prepare"]

_BYTES_PER_TOKEN = 3.4
_MAX_PEEKED_FILES = 500
_MIN_BYTES = 64


def inspect(settings: CorpusSettings, workspace: Path) -> CorpusReport:
    """A quick look at the corpus: what there is, and whether anything keeps it from being read.

    Of many files, 500 evenly spread are peeked into.
    Raises: CorpusError where a source is absent, empty, unreadable, binary or too small to be a corpus.
    """
    return _look(settings, list_files(settings, workspace))


def _look(settings: CorpusSettings, listing: Listing) -> CorpusReport:
    total_bytes = listing.total_bytes
    if total_bytes < _MIN_BYTES:
        raise CorpusError(
            f"corpus.source = {listing.description!r} holds {total_bytes} bytes: nothing can be learnt from it.",
            "Add text: a million characters are a beginning.",
        )
    reader = DocumentReader(settings.text_field, section_chars(total_bytes))
    stride = math.ceil(len(listing.files) / _MAX_PEEKED_FILES)
    peeked = listing.files[::stride]
    unpacked_bytes = sum(reader.peek(file) for file in peeked)
    total_bytes = total_bytes * unpacked_bytes // max(1, sum(file.size_bytes for file in peeked))
    return CorpusReport(
        description=listing.description,
        num_files=len(listing.files),
        total_bytes=total_bytes,
        estimated_tokens=int(total_bytes / _BYTES_PER_TOKEN),
    )


def prepare(
    settings: CorpusSettings,
    *,
    vocab_size: int,
    context: int,
    workspace: Path,
    on_progress: Callable[[Progress], None],
    min_train_tokens: int | None = None,
) -> CorpusManifest:
    """The tokenized corpus, from the cache where the same text was tokenized the same way before.

    `min_train_tokens` is what one batch takes, None: a context and a token. `on_progress` is called a few times a
    second from this thread; what it raises ends the preparation, and the next one goes on from there.
    Raises: CorpusError where the corpus cannot be used, is too small, or the cache cannot be written.
    """
    folder = cache.cache_folder(workspace.resolve())
    min_train = max(min_train_tokens or 0, context + 1)
    try:
        make_private(folder)
        found = _find_or_build(
            settings, vocab_size, context, min_train, workspace, folder, Meter(on_progress)
        )
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CorpusError(
            f"The token cache {shown(folder)} cannot be written: {error.strerror or error}.",
            "Free some space, and start again." if is_full else "Make that folder writable, and start again.",
        ) from error
    _require_tokens(found, min_train, context + 1)
    return found


def _find_or_build(
    settings: CorpusSettings,
    vocab_size: int,
    context: int,
    min_train_tokens: int,
    workspace: Path,
    folder: Path,
    meter: Meter,
) -> CorpusManifest:
    listing = list_files(settings, workspace)
    meter.begin("hashing the corpus", "tokenizer", listing.total_bytes)
    hashes, files = cache.content_hashes(listing, folder, meter.advance)
    listing = msgspec.structs.replace(listing, files=files)
    recipe = recipe_of(settings, listing, hashes, vocab_size, context)
    entry = folder / recipe.key
    found = _cached(entry)
    if found is None:
        report = _look(settings, listing)
        cache.remove_leftovers(folder, recipe.key)
        with cache.exclusive(
            folder, recipe.key, lambda: meter.begin("waiting for another build", "tokenizer")
        ):
            found = _cached(entry)
            if found is None:
                job = BuildJob(recipe, listing, report.total_bytes, min_train_tokens + context + 1)
                _build(job, entry, meter)
                found = load_manifest(entry / MANIFEST_NAME)
    parts = tuple(
        msgspec.structs.replace(part, weight=weight)
        for part, weight in zip(found.parts, listing.weights, strict=True)
    )
    return msgspec.structs.replace(found, folder=str(entry), description=listing.description, parts=parts)


def _build(job: BuildJob, entry: Path, meter: Meter) -> None:
    from engine.corpus.builder import Builder

    aside = cache.build_folder(entry.parent, job.recipe.key)
    try:
        Builder(job, aside, meter).run()
        cache.publish(aside, entry)
    except CorpusError:
        # A corpus that cannot be used is another one once it was mended; whatever else ended it, it is gone on with.
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _cached(entry: Path) -> CorpusManifest | None:
    try:
        manifest = load_manifest(entry / MANIFEST_NAME)
    except CorpusError:
        return None
    return manifest if is_intact(manifest, entry) else None


def _require_tokens(found: CorpusManifest, min_train_tokens: int, min_validation_tokens: int) -> None:
    copies = f", {found.num_duplicates:,} copies left out," if found.num_duplicates else ""
    text = f"The corpus is too small: its {found.text_bytes:,} bytes of text{copies} give"
    if found.train_tokens < min_train_tokens:
        raise CorpusError(
            f"{text} {found.train_tokens:,} tokens to train on, and one batch takes {min_train_tokens:,}.",
            "Add text, or lower model.context or training.micro_batch.",
        )
    if found.validation_tokens < min_validation_tokens:
        raise CorpusError(
            f"{text} {found.validation_tokens:,} tokens to validate with, and one context takes "
            f"{min_validation_tokens:,}.",
            "Add text, lower model.context, or raise corpus.validation_frac.",
        )
