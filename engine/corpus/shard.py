"""Token ids on disk: written as a stream of bounded files, read back as one long array without loading it."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from engine.corpus.manifest import MANIFEST_NAME, SPLITS, CorpusManifest, Shard, Split, load_manifest
from engine.errors import CorpusError

SHARD_BYTES = 64 << 20
Tokens = npt.NDArray[np.unsignedinteger]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """How far a split is written."""

    shards: tuple[Shard, ...]
    """Those that are full."""
    num_open_tokens: int
    """In the shard after them."""


class ShardWriter:
    """Writes one split of a corpus into a folder; nothing counts before `close`."""

    def __init__(
        self,
        folder: Path,
        split: Split,
        dtype: str,
        shard_bytes: int = SHARD_BYTES,
        written: Written | None = None,
    ) -> None:
        """`written` is where another writer was, None: nothing is there; what was written after it is dropped."""
        self._folder = folder
        self._split = split
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._shard_tokens = shard_bytes // self._dtype.itemsize
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._num_in_shard = 0
        self._shards: list[Shard] = []
        self.num_tokens = 0
        """Written so far."""
        if written is not None:
            self._go_on(written)

    def written(self) -> Written:
        """Where it is; what is written up to here is on the disk when this returns."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return Written(shards=tuple(self._shards), num_open_tokens=self._num_in_shard if self._file else 0)

    def _go_on(self, written: Written) -> None:
        self._shards = list(written.shards)
        self.num_tokens = sum(shard.num_tokens for shard in self._shards) + written.num_open_tokens
        path = self._folder / self._name
        if not written.num_open_tokens:
            path.unlink(missing_ok=True)
            return
        os.truncate(path, written.num_open_tokens * self._dtype.itemsize)
        with path.open("rb") as file:
            self._hash = hashlib.file_digest(file, "sha256")
        self._num_in_shard = written.num_open_tokens
        self._file = path.open("ab", buffering=1 << 20)

    def write(self, ids: npt.NDArray[np.uint32]) -> None:
        """Append ids; a shard that is full is synced and the next begun."""
        done = 0
        while done < len(ids):
            file = self._file or self._begin()
            part = ids[done : done + self._shard_tokens - self._num_in_shard].astype(self._dtype)
            data = part.tobytes()
            file.write(data)
            self._hash.update(data)
            done += len(part)
            self._num_in_shard += len(part)
            self.num_tokens += len(part)
            if self._num_in_shard == self._shard_tokens:
                self._end()

    def close(self) -> tuple[Shard, ...]:
        """Sync what is open; the shards in order."""
        if self._file:
            self._end()
        return tuple(self._shards)

    @property
    def _name(self) -> str:
        return f"{self._split}-{len(self._shards):05d}.bin"

    def _begin(self) -> BinaryIO:
        self._hash = hashlib.sha256()
        self._num_in_shard = 0
        self._file = (self._folder / self._name).open("wb", buffering=1 << 20)
        return self._file

    def _end(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._shards.append(
            Shard(name=self._name, num_tokens=self._num_in_shard, sha256=self._hash.hexdigest())
        )


class TokenStore:
    """One split of a cached corpus as a read-only sequence of token ids; documents end with end-of-text."""

    def __init__(self, folder: Path, manifest: CorpusManifest, split: Split) -> None:
        self.manifest = manifest
        self._folder = folder
        self._records = manifest.shards[split]
        self._shards = [self._map(shard) for shard in self._records]
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]

    @classmethod
    def open(cls, folder: Path, split: Split) -> TokenStore:
        """Open a split of the corpus in a cache folder.

        Raises: CorpusError where the manifest or a shard is absent or damaged; delete the folder, and the next start
        tokenizes again.
        """
        assert split in SPLITS
        return cls(folder, load_manifest(folder / MANIFEST_NAME), split)

    def _map(self, shard: Shard) -> Tokens:
        path = self._folder / shard.name
        try:
            mapped: Tokens = np.memmap(path, dtype=np.dtype(self.manifest.dtype).newbyteorder("<"), mode="r")
        except (OSError, ValueError) as error:
            raise self._damaged(path, str(error)) from error
        if len(mapped) != shard.num_tokens:
            raise self._damaged(path, f"it has {len(mapped):,} tokens, not {shard.num_tokens:,}")
        return mapped

    def _damaged(self, path: Path, reason: str) -> CorpusError:
        return CorpusError(
            f"{path} is damaged: {reason}.", f"Delete {self._folder}: the corpus is then tokenized again."
        )

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, length: int) -> Tokens:
        """The ids `start` to `start + length`, across shards; a view of the file where one shard holds them all.

        Raises: IndexError where they are not all within the split.
        """
        end = start + length
        if not 0 <= start <= end <= len(self):
            raise IndexError(f"tokens {start} to {end} of {len(self)}")
        parts = []
        index = bisect_right(self._starts, start) - 1
        while start < end:
            shard = self._shards[index]
            low = start - self._starts[index]
            part = shard[low : low + end - start]
            parts.append(part)
            start += len(part)
            index += 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=self.manifest.dtype)

    def verify(self) -> None:
        """Read everything and compare with the hashes of the manifest.

        Raises: CorpusError where a shard is damaged.
        """
        for shard in self._records:
            path = self._folder / shard.name
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                    raise self._damaged(path, "its content is not what was written")
