"""One build of a cache entry: count the text, train the tokenizer, write the shards. Imports numpy and tokenizers.

What a build has done lies in its folder, so that another goes on where it was stopped: once the text is counted and
the tokenizer trained, and then every few seconds of tokenizing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from engine import atomic
from engine.corpus import tokenizer
from engine.corpus.document import DocumentReader, Tally
from engine.corpus.duplicate import Census, DuplicateFinder, read_flags
from engine.corpus.encode import Encoding, find_window, pieces
from engine.corpus.manifest import (
    MANIFEST_NAME,
    SPLITS,
    TOKENIZER_NAME,
    CorpusManifest,
    Part,
    Split,
    save_manifest,
)
from engine.corpus.progress import Meter
from engine.corpus.recipe import BuildJob
from engine.corpus.shard import ShardWriter, Written
from engine.corpus.source import shown
from engine.corpus.split import SplitChooser, digest, validation_bytes
from engine.errors import CorpusError

_PESSIMISTIC_BYTES_PER_TOKEN = 3
_KEEP_EVERY_S = 5.0
_SCAN_NAME, _POSITION_NAME = "scan.json", "position.json"
_FLAGS_NAME, _HASHES_NAME = "duplicates", "hashes"

Kept = TypeVar("Kept", bound=msgspec.Struct)


class _Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What the first reading found; it counts once the tokenizer is trained."""

    tally: Tally
    census: Census
    seconds: float


class _Position(msgspec.Struct, kw_only=True):
    """How far the tokenizing is."""

    file: int = 0
    """Files that are done."""
    num_in_file: int = 0
    """Documents done of the next, dropped ones too."""
    num_documents: int = 0
    """Documents done in all, dropped ones too."""
    num_bytes: dict[Split, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    num_kept: dict[Split, int] = msgspec.field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    part_tokens: list[int] = []
    """Training tokens up to the end of each part that is done."""
    written: dict[Split, Written] = {}
    seconds: float = 0.0


class Builder:
    """Builds in a folder aside."""

    def __init__(self, job: BuildJob, folder: Path, meter: Meter) -> None:
        self._recipe, self._listing, self._text_bytes, self._min_tokens = job
        self._folder = folder
        self._meter = meter
        self._num_to_skip = 0

    def run(self) -> None:
        """Leave tokenizer, shards and manifest in the folder, synced, and nothing else.

        Raises: CorpusError where the text can by no means yield the tokens that are needed, or the disk is too small.
        """
        scan = _load(self._folder / _SCAN_NAME, _Scan) or self._prepare()
        split = self._chosen(scan.census)
        manifest = self._tokenize(scan, split)
        save_manifest(manifest, self._folder / MANIFEST_NAME)
        for name in (_SCAN_NAME, _POSITION_NAME, _FLAGS_NAME):
            (self._folder / name).unlink(missing_ok=True)

    def _prepare(self) -> _Scan:
        """Count the text and train the tokenizer."""
        began_s = time.monotonic()
        shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700)
        sample, tally, census = self._count()
        self._require_text(census, tally)
        self._require_space(sum(census.bucket_bytes))
        self._train_tokenizer(sample, self._chosen(census))
        scan = _Scan(tally=tally, census=census, seconds=time.monotonic() - began_s)
        _keep(self._folder / _SCAN_NAME, scan)
        return scan

    def _chosen(self, census: Census) -> SplitChooser:
        split = SplitChooser(census.bucket_bytes)
        recipe = self._recipe
        split.choose(validation_bytes(split.total_bytes, recipe.validation_frac, recipe.window_bytes))
        return split

    def _reader(self) -> DocumentReader:
        return DocumentReader(self._recipe.text_field, self._recipe.section_chars)

    def _count(self) -> tuple[list[tuple[int, str]], Tally, Census]:
        """Count the documents, and take the tokenizer's sample from all over them: (digest, text)."""
        self._meter.begin("reading the corpus", "tokenizer", self._listing.total_bytes)
        reader = self._reader()
        finder = DuplicateFinder(self._folder / _HASHES_NAME, self._folder / _FLAGS_NAME)
        share = min(1.0, self._recipe.sample_bytes / max(1, self._text_bytes))
        sample: dict[int, str] = {}
        due_bytes = 0.0
        for file in self._listing.files:
            for text in reader.read(file, self._meter.advance):
                data = text.encode()
                document_digest = digest(data)
                finder.add(document_digest, len(data))
                due_bytes += len(data) * share
                if due_bytes > 0 and document_digest not in sample:
                    taken = text if share == 1.0 else find_window(text, document_digest)
                    sample[document_digest] = taken
                    due_bytes -= len(taken.encode())
        self._meter.end()
        return list(sample.items()), reader.tally, finder.finish()

    def _require_text(self, census: Census, tally: Tally) -> None:
        # A token stands for a byte at least, and an end-of-text follows every document.
        num_documents = census.num_documents - census.num_duplicates
        num_bytes = sum(census.bucket_bytes)
        if num_bytes + num_documents < self._min_tokens or num_documents < 2:
            without = f" once {census.num_duplicates:,} copies are left out" if census.num_duplicates else ""
            bad = (
                f"; {tally.num_bad_lines:,} lines or rows have no usable text" if tally.num_bad_lines else ""
            )
            raise CorpusError(
                f"The corpus is too small: {num_bytes:,} bytes of text in {num_documents:,} documents{without}{bad}, "
                f"and {self._min_tokens:,} tokens in two documents at least are needed.",
                "Add text, or lower model.context or training.micro_batch.",
            )

    def _require_space(self, text_bytes: int) -> None:
        token_bytes = 2 if self._recipe.vocab_size <= 1 << 16 else 4
        needed_bytes = text_bytes * token_bytes // _PESSIMISTIC_BYTES_PER_TOKEN
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < needed_bytes:
            raise CorpusError(
                f"The tokens of this corpus take about {needed_bytes / 1e9:.1f} GB in {shown(self._folder.parent)}, "
                f"where {free_bytes / 1e9:.1f} GB are free.",
                "Free some space, or move the workspace to a larger disk.",
            )

    def _train_tokenizer(self, sample: list[tuple[int, str]], split: SplitChooser) -> None:
        texts = [text for document_digest, text in sample if not split.is_validation(document_digest)]
        # A sample of a few KiB may have caught validation alone; a tokenizer must come of something.
        texts = texts or [text for _, text in sample]
        self._meter.begin("training the tokenizer", "tokenizer", sum(len(text.encode()) for text in texts))

        def batches() -> Iterator[list[str]]:
            for text in texts:
                yield list(pieces(text))
                self._meter.advance(len(text.encode()))

        tokenizer.train(batches(), self._recipe.vocab_size, self._folder / TOKENIZER_NAME)
        self._meter.end()

    def _tokenize(self, scan: _Scan, split: SplitChooser) -> CorpusManifest:
        self._meter.begin("tokenizing", "tokens", self._listing.total_bytes)
        encoder = tokenizer.Encoder(self._folder / TOKENIZER_NAME)
        position = _load(self._folder / _POSITION_NAME, _Position) or _Position()
        began_s, before_s = time.monotonic(), position.seconds
        writers = {
            name: ShardWriter(
                self._folder, name, _dtype(encoder.vocab_size), written=position.written.get(name, _NOTHING)
            )
            for name in SPLITS
        }
        with Encoding(encoder, writers) as encoding:
            kept_at = began_s
            for text, document_digest, num_bytes in self._documents(position, encoding, writers):
                name: Split = "validation" if split.is_validation(document_digest) else "train"
                position.num_bytes[name] += num_bytes
                position.num_kept[name] += 1
                encoding.add(text, num_bytes, name)
                if time.monotonic() - kept_at > _KEEP_EVERY_S:
                    encoding.flush()
                    position.written = {
                        split_name: writer.written() for split_name, writer in writers.items()
                    }
                    position.seconds = before_s + time.monotonic() - began_s
                    _keep(self._folder / _POSITION_NAME, position)
                    kept_at = time.monotonic()
            encoding.flush()
        position.written = {
            name: Written(shards=writer.close(), num_open_tokens=0) for name, writer in writers.items()
        }
        position.seconds = before_s + time.monotonic() - began_s
        return self._manifest(scan, position, encoder.vocab_size)

    def _manifest(self, scan: _Scan, position: _Position, tokenizer_vocab_size: int) -> CorpusManifest:
        """What came of it, all of it being written."""
        shards = {name: written.shards for name, written in position.written.items()}
        num_tokens = {name: sum(shard.num_tokens for shard in shards[name]) for name in SPLITS}
        ends = [*position.part_tokens, num_tokens["train"]]
        return CorpusManifest(
            version=self._recipe.version,
            key=self._recipe.key,
            folder="",
            description=self._listing.description,
            vocab_size=self._recipe.vocab_size,
            tokenizer_vocab_size=tokenizer_vocab_size,
            dtype=_dtype(tokenizer_vocab_size),
            end_of_text_id=tokenizer.END_OF_TEXT_ID,
            train_tokens=num_tokens["train"],
            train_bytes=position.num_bytes["train"],
            validation_tokens=num_tokens["validation"],
            validation_bytes=position.num_bytes["validation"],
            num_files=len(self._listing.files),
            num_documents=sum(position.num_kept.values()),
            num_validation_documents=position.num_kept["validation"],
            text_bytes=sum(position.num_bytes.values()),
            num_invalid_sequences=scan.tally.num_invalid_sequences,
            num_bad_lines=scan.tally.num_bad_lines,
            num_duplicates=scan.census.num_duplicates,
            duplicate_bytes=scan.census.duplicate_bytes,
            build_s=scan.seconds + position.seconds,
            shards=shards,
            parts=tuple(
                Part(train_tokens=end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)
            ),
        )

    def _documents(
        self, position: _Position, encoding: Encoding, writers: dict[Split, ShardWriter]
    ) -> Iterator[tuple[str, int, int]]:
        """The documents that are kept, from a position on, which moves with them: text, digest, UTF-8 bytes.

        Every document is counted in the position before it is given, so that what is kept of the position after a
        flush is right.
        """
        flags = read_flags(self._folder / _FLAGS_NAME, position.num_documents)
        reader = self._reader()
        self._num_to_skip = position.num_in_file
        for file in self._listing.files[: position.file]:
            self._meter.skip(file.size_bytes)
        for file in self._listing.files[position.file :]:
            while len(position.part_tokens) < file.part:
                encoding.flush()
                position.part_tokens.append(writers["train"].num_tokens)
            for text in reader.read(file, self._on_bytes):
                if self._num_to_skip:
                    self._num_to_skip -= 1
                    continue
                position.num_in_file += 1
                position.num_documents += 1
                if not next(flags):
                    data = text.encode()
                    yield text, digest(data), len(data)
            position.file += 1
            position.num_in_file = self._num_to_skip = 0
        self._meter.end()

    def _on_bytes(self, num_bytes: int) -> None:
        if self._num_to_skip:
            self._meter.skip(num_bytes)
        else:
            self._meter.advance(num_bytes)


_NOTHING = Written(shards=(), num_open_tokens=0)


def _dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def _load(path: Path, kind: type[Kept]) -> Kept | None:
    """What an earlier build kept; None where it kept nothing, or not to the end."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _keep(path: Path, what: msgspec.Struct) -> None:
    atomic.write_bytes(path, msgspec.json.encode(what))
