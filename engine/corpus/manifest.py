"""The records of a corpus: what the preflight is told, what lies in the cache, and how far a build is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import msgspec

from engine import atomic
from engine.errors import CorpusError
from engine.records import ProgressRow

MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
Split = Literal["train", "validation"]
SPLITS: tuple[Split, Split] = ("train", "validation")


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One file of token ids, little-endian, without a header."""

    name: str
    """File name in the manifest's folder."""
    num_tokens: int
    sha256: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one source of a mix came to, in the order of the settings."""

    train_tokens: int
    """They follow those of the part before."""
    weight: float = 1.0
    """Times it is read while a part of weight 1 is read once; the cache entry has 1, the run what its settings say."""


class CorpusManifest(msgspec.Struct, frozen=True, kw_only=True):
    """A tokenized corpus: enough to read it, to measure bits per byte on it, and to know what it is."""

    version: int
    key: str
    """Name of the cache folder: the same text and settings have the same key."""
    folder: str
    """Absolute path of the folder with the shards and tokenizer.json."""
    description: str
    """The source as the settings name it; raw text from outside."""
    vocab_size: int
    """Rows of the model's embedding."""
    tokenizer_vocab_size: int
    """Ids that the tokenizer uses; fewer than `vocab_size` where the text yields no more merges."""
    dtype: Literal["uint16", "uint32"]
    end_of_text_id: int
    """Follows every document; counted in the tokens."""
    train_tokens: int
    train_bytes: int
    """UTF-8 bytes of the training text."""
    validation_tokens: int
    validation_bytes: int
    """UTF-8 bytes of the validation text: bits per byte = loss / ln 2 * validation_tokens / validation_bytes."""
    num_files: int
    num_documents: int
    num_validation_documents: int
    text_bytes: int
    """UTF-8 bytes of all documents: `train_bytes + validation_bytes`."""
    num_invalid_sequences: int
    """Places that were not UTF-8, each replaced by U+FFFD."""
    num_bad_lines: int
    """Lines of .jsonl that were skipped: not an object with the text field, or too long; rows of .parquet without
    text."""
    build_s: float
    """Seconds that the work took, in all where it was stopped and gone on with."""
    shards: dict[Split, tuple[Shard, ...]]
    num_duplicates: int | None = None
    """Documents that were dropped as copies of an earlier one; they are in no other figure. None: not looked for."""
    duplicate_bytes: int | None = None
    """UTF-8 bytes of those."""
    parts: tuple[Part, ...] = ()
    """Empty or one: no mix."""


class CorpusReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a quick look at a corpus tells."""

    description: str
    """The source as the settings name it; raw text from outside."""
    num_files: int
    total_bytes: int
    """Size of the files, unpacked as far as a quick look tells; of .jsonl the markup is in it."""
    estimated_tokens: int
    """Rough: by the bytes a token that a vocabulary of a few thousand yields on source code and English."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the preparation of a corpus is."""

    phase: str
    """In a word or two: "hashing the corpus", "training the tokenizer", "tokenizing", …"""
    kind: Literal["tokenizer", "tokens"]
    """Which of the two rows of the run's progress it belongs to."""
    done_bytes: int
    total_bytes: int | None
    """None while nothing is measured in bytes, as when waiting for another build."""
    bytes_per_s: float | None
    """Mean since the phase began; None in its first moment."""

    def row(self) -> ProgressRow:
        """The same for a run's store."""
        return ProgressRow(
            kind=self.kind,
            at=time.time(),
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            bytes_per_s=self.bytes_per_s,
        )


def save_manifest(manifest: CorpusManifest, path: Path) -> None:
    """Write a manifest whole."""
    atomic.write_bytes(path, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def load_manifest(path: Path) -> CorpusManifest:
    """Read a manifest.

    Raises: CorpusError where it is absent, damaged or of another version; the corpus is then to be built again.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=CorpusManifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise CorpusError(
            f"{path} cannot be read: {error}",
            "Delete the folder it lies in: the corpus is then tokenized again.",
        ) from error


def is_intact(manifest: CorpusManifest, folder: Path) -> bool:
    """Whether tokenizer and shards are there in full length; their content is not read (`TokenStore.verify` does)."""
    item_bytes = 2 if manifest.dtype == "uint16" else 4
    try:
        lengths = [
            (folder / shard.name).stat().st_size == shard.num_tokens * item_bytes
            for shards in manifest.shards.values()
            for shard in shards
        ]
        return all(lengths) and (folder / TOKENIZER_NAME).stat().st_size > 0
    except OSError:
        return False
