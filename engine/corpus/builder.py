"""One build of a cache entry: count the text, train the tokenizer, write the shards. Imports numpy and tokenizers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engine.corpus import tokenizer
from engine.corpus.document import DocumentReader, Tally, find_cut
from engine.corpus.manifest import (
    MANIFEST_NAME,
    SPLITS,
    TOKENIZER_NAME,
    CorpusManifest,
    Split,
    save_manifest,
)
from engine.corpus.progress import Meter
from engine.corpus.recipe import Recipe
from engine.corpus.shard import ShardWriter
from engine.corpus.source import Listing, shown
from engine.corpus.split import SplitChooser, digest, validation_bytes
from engine.errors import CorpusError

_PIECE_CHARS = 1 << 13
_BATCH_BYTES = 1 << 20
_PESSIMISTIC_BYTES_PER_TOKEN = 3


class Builder:
    """Builds in a folder aside."""

    def __init__(self, recipe: Recipe, listing: Listing, folder: Path, meter: Meter) -> None:
        self._recipe = recipe
        self._listing = listing
        self._folder = folder
        self._meter = meter
        self._split = SplitChooser()
        self._tally = Tally()

    def run(self, min_tokens: int) -> None:
        """Leave tokenizer, shards and manifest in the folder, synced.

        Raises: CorpusError where the text can by no means yield `min_tokens`, or the disk is too small.
        """
        began_s = time.monotonic()
        sample = self._scan()
        self._require_text(min_tokens)
        self._require_space()
        recipe = self._recipe
        self._split.choose(
            validation_bytes(self._split.total_bytes, recipe.validation_frac, recipe.window_bytes)
        )
        self._train_tokenizer(sample)
        del sample
        manifest = self._tokenize()
        manifest = msgspec.structs.replace(manifest, build_s=time.monotonic() - began_s)
        save_manifest(manifest, self._folder / MANIFEST_NAME)

    def _documents(self, reader: DocumentReader) -> Iterator[tuple[str, int, int]]:
        """Every document with its digest and its UTF-8 bytes."""
        for file in self._listing.files:
            for text in reader.read(file, self._meter.advance):
                data = text.encode()
                yield text, digest(data), len(data)
        self._meter.end()

    def _reader(self) -> DocumentReader:
        return DocumentReader(self._recipe.text_field, self._recipe.section_chars)

    def _scan(self) -> list[tuple[int, str]]:
        """Count the documents, and take the tokenizer's sample from all over them: (digest, text)."""
        self._meter.begin("reading the corpus", "tokenizer", self._listing.total_bytes)
        reader = self._reader()
        share = min(1.0, self._recipe.sample_bytes / self._listing.total_bytes)
        sample: list[tuple[int, str]] = []
        due_bytes = 0.0
        for text, document_digest, num_bytes in self._documents(reader):
            self._split.add(document_digest, num_bytes)
            due_bytes += num_bytes * share
            if due_bytes > 0:
                taken = text if share == 1.0 else _window(text, document_digest)
                sample.append((document_digest, taken))
                due_bytes -= len(taken.encode())
        self._tally = reader.tally
        return sample

    def _require_text(self, min_tokens: int) -> None:
        # A token stands for a byte at least, and an end-of-text follows every document.
        num_documents, num_bytes = self._tally.num_documents, self._split.total_bytes
        if num_bytes + num_documents < min_tokens or num_documents < 2:
            raise CorpusError(
                f"The corpus is too small: {num_bytes:,} bytes of text in {num_documents:,} documents, and "
                f"{min_tokens:,} tokens in two documents at least are needed.",
                "Add text, or lower model.context or training.micro_batch.",
            )

    def _require_space(self) -> None:
        token_bytes = 2 if self._recipe.vocab_size <= 1 << 16 else 4
        needed_bytes = self._split.total_bytes * token_bytes // _PESSIMISTIC_BYTES_PER_TOKEN
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < needed_bytes:
            raise CorpusError(
                f"The tokens of this corpus take about {needed_bytes / 1e9:.1f} GB in {shown(self._folder.parent)}, "
                f"where {free_bytes / 1e9:.1f} GB are free.",
                "Free some space, or move the workspace to a larger disk.",
            )

    def _train_tokenizer(self, sample: list[tuple[int, str]]) -> None:
        texts = [text for document_digest, text in sample if not self._split.is_validation(document_digest)]
        # A sample of a few KiB may have caught validation alone; a tokenizer must come of something.
        texts = texts or [text for _, text in sample]
        self._meter.begin("training the tokenizer", "tokenizer", sum(len(text.encode()) for text in texts))

        def batches() -> Iterator[list[str]]:
            for text in texts:
                yield list(pieces(text))
                self._meter.advance(len(text.encode()))

        tokenizer.train(batches(), self._recipe.vocab_size, self._folder / TOKENIZER_NAME)
        self._meter.end()

    def _tokenize(self) -> CorpusManifest:
        self._meter.begin("tokenizing", "tokens", self._listing.total_bytes)
        encoder = tokenizer.Encoder(self._folder / TOKENIZER_NAME)
        is_small = encoder.vocab_size <= 1 << 16
        writers = {
            split: ShardWriter(self._folder, split, "uint16" if is_small else "uint32") for split in SPLITS
        }
        num_bytes: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        num_documents: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        batch = _Batch(encoder)
        for text, document_digest, document_bytes in self._documents(self._reader()):
            split: Split = "validation" if self._split.is_validation(document_digest) else "train"
            num_bytes[split] += document_bytes
            num_documents[split] += 1
            batch.add(text, document_bytes, writers[split].write)
        batch.flush()
        shards = {split: writer.close() for split, writer in writers.items()}
        return CorpusManifest(
            version=self._recipe.version,
            key=self._recipe.key,
            folder="",
            description=self._listing.description,
            vocab_size=self._recipe.vocab_size,
            tokenizer_vocab_size=encoder.vocab_size,
            dtype="uint16" if is_small else "uint32",
            end_of_text_id=tokenizer.END_OF_TEXT_ID,
            train_tokens=writers["train"].num_tokens,
            train_bytes=num_bytes["train"],
            validation_tokens=writers["validation"].num_tokens,
            validation_bytes=num_bytes["validation"],
            num_files=len(self._listing.files),
            num_documents=sum(num_documents.values()),
            num_validation_documents=num_documents["validation"],
            text_bytes=sum(num_bytes.values()),
            num_invalid_sequences=self._tally.num_invalid_sequences,
            num_bad_lines=self._tally.num_bad_lines,
            build_s=0.0,
            shards=shards,
        )


class _Batch:
    """Pieces of documents on their way through the tokenizer, a bounded number of bytes at a time."""

    def __init__(self, encoder: tokenizer.Encoder) -> None:
        self._encoder = encoder
        self._texts: list[str] = []
        self._writes: list[tuple[Callable[[npt.NDArray[np.uint32]], None], bool]] = []
        self._num_bytes = 0
        self._end_of_text = np.array([tokenizer.END_OF_TEXT_ID], dtype=np.uint32)

    def add(self, document: str, num_bytes: int, write: Callable[[npt.NDArray[np.uint32]], None]) -> None:
        """Take a document; its ids and an end-of-text reach `write` by the next `flush` at the latest."""
        before = len(self._texts)
        self._texts.extend(pieces(document))
        last = len(self._texts) - 1
        self._writes.extend((write, index == last) for index in range(before, last + 1))
        self._num_bytes += num_bytes
        if self._num_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Encode and hand over all that was taken."""
        for ids, (write, is_end) in zip(self._encoder.encode(self._texts), self._writes, strict=True):
            write(ids)
            if is_end:
                write(self._end_of_text)
        self._texts, self._writes, self._num_bytes = [], [], 0


def pieces(text: str) -> Iterable[str]:
    """A document in stretches that keep all cores busy and the tokenizer's memory small."""
    start = 0
    while len(text) - start > _PIECE_CHARS:
        cut = find_cut(text, start + _PIECE_CHARS // 2, start + _PIECE_CHARS)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _window(text: str, document_digest: int) -> str:
    """A stretch from anywhere in a document: its beginning may be a licence like all others."""
    if len(text) <= _PIECE_CHARS:
        return text
    start = document_digest % (len(text) - _PIECE_CHARS)
    start = find_cut(text, start, start + _PIECE_CHARS // 2)
    return text[start : start + _PIECE_CHARS]
