"""Documents that occur more than once, found by their hashes in memory that does not grow with their number.

The hashes go to the disk, into 256 files by their highest byte, and each file is sorted by itself. Two documents count
as one where a 64-bit hash and their length agree: among a billion of them, one is lost by chance with a probability of
less than a thousandth.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from engine.corpus.split import NUM_BUCKETS

_NUM_FILES = 256
_FLUSH_DOCUMENTS = 1 << 16
_RECORD = np.dtype([("digest", "<u8"), ("num_bytes", "<u4"), ("index", "<u8")])


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """What a corpus consists of, once every document was looked at."""

    num_documents: int
    """All of them, in the order of reading; those that are dropped have a number too."""
    num_duplicates: int
    duplicate_bytes: int
    bucket_bytes: list[int]
    """Bytes of the documents that are kept, by the buckets of `SplitChooser`."""


class DuplicateFinder:
    """First `add` every document, then `finish`; `read_flags` then tells."""

    def __init__(self, folder: Path, flags: Path) -> None:
        self._folder = folder
        self._flags = flags
        self._pending: list[tuple[int, int, int]] = []
        self._num_documents = 0
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)

    def add(self, document_digest: int, num_bytes: int) -> None:
        """Note the next document."""
        self._pending.append((document_digest, num_bytes, self._num_documents))
        self._num_documents += 1
        if len(self._pending) == _FLUSH_DOCUMENTS:
            self._flush()

    def _flush(self) -> None:
        records = np.array(self._pending, dtype=_RECORD)
        self._pending = []
        groups = records["digest"] >> np.uint64(56)
        order = np.argsort(groups, kind="stable")
        bounds = np.searchsorted(groups[order], np.arange(_NUM_FILES + 1))
        for group in range(_NUM_FILES):
            part = records[order[bounds[group] : bounds[group + 1]]]
            if len(part):
                with (self._folder / f"{group:02x}").open("ab") as file:
                    file.write(part.tobytes())

    def finish(self) -> Census:
        """Write the flags, a byte a document, 1 where it is a copy of an earlier one; the hashes are deleted."""
        self._flush()
        bucket_bytes = np.zeros(NUM_BUCKETS, dtype=np.int64)
        num_duplicates = duplicate_bytes = 0
        with self._flags.open("wb") as file:
            file.truncate(max(1, self._num_documents))
        flags = np.memmap(self._flags, dtype=np.uint8, mode="r+")
        for path in sorted(self._folder.iterdir()):
            records = np.fromfile(path, dtype=_RECORD)
            # Stable: of equals, the one that was read first comes first.
            records = records[np.lexsort((records["num_bytes"], records["digest"]))]
            is_copy = np.zeros(len(records), dtype=bool)
            is_copy[1:] = (records["digest"][1:] == records["digest"][:-1]) & (
                records["num_bytes"][1:] == records["num_bytes"][:-1]
            )
            flags[records["index"][is_copy]] = 1
            num_duplicates += int(is_copy.sum())
            duplicate_bytes += int(records["num_bytes"][is_copy].sum(dtype=np.int64))
            kept = records[~is_copy]
            np.add.at(bucket_bytes, (kept["digest"] % NUM_BUCKETS).astype(np.int64), kept["num_bytes"])
        flags.flush()
        shutil.rmtree(self._folder)
        return Census(
            num_documents=self._num_documents,
            num_duplicates=num_duplicates,
            duplicate_bytes=duplicate_bytes,
            bucket_bytes=bucket_bytes.tolist(),
        )


def read_flags(path: Path, start: int) -> Iterator[bool]:
    """Whether each document, from number `start` on, is a copy of an earlier one."""
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_FLUSH_DOCUMENTS):
            yield from (flag == 1 for flag in block)
