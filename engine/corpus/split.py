"""Which documents are kept aside for validation: by a hash of their text, so that copies stay on one side.

The documents are counted into buckets by hash, and whole buckets go to validation: memory is the same for ten
documents and for a billion, and the choice depends on the text alone, not on its order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

NUM_BUCKETS = 1 << 16
_MIN_VALIDATION_BYTES = 64 << 10
_BYTES_PER_TOKEN = 8


def digest(data: bytes) -> int:
    """A 64-bit hash of a document."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def window_bytes(total_bytes: int, context: int) -> int:
    """Text that a context is likely to need; 0 where validation is larger than that in any case.

    Without the 0, a change of the context alone would tokenize a large corpus again.
    """
    window = _BYTES_PER_TOKEN * (context + 1)
    return window if window > min(_MIN_VALIDATION_BYTES, total_bytes // 100) else 0


def validation_bytes(total_bytes: int, validation_frac: float, needed_bytes: int) -> int:
    """How much text validation should get.

    The share that the settings ask for; where that is too little to measure with, 64 KiB or a tenth of the corpus,
    whichever is less, and `needed_bytes`; never more than half the corpus.
    """
    floor = min(_MIN_VALIDATION_BYTES, total_bytes // 10)
    return min(max(int(validation_frac * total_bytes), floor, needed_bytes), total_bytes // 2)


class SplitChooser:
    """First `add` every document, or give what they come to; then `choose`, then ask."""

    def __init__(self, bucket_bytes: Sequence[int] | None = None) -> None:
        """`bucket_bytes` None: nothing was counted yet."""
        self._bucket_bytes = list(bucket_bytes or [0] * NUM_BUCKETS)
        self._is_validation = bytearray(NUM_BUCKETS)
        self.total_bytes = sum(self._bucket_bytes)

    def add(self, document_digest: int, num_bytes: int) -> None:
        """Count a document."""
        self._bucket_bytes[document_digest % NUM_BUCKETS] += num_bytes
        self.total_bytes += num_bytes

    def choose(self, target_bytes: int) -> None:
        """Fill validation up to about `target_bytes`.

        A bucket that would overshoot by half is passed over while others remain. Where all documents are in one
        bucket, validation stays empty.
        """
        filled = 0
        for bucket, num_bytes in enumerate(self._bucket_bytes):
            if filled >= target_bytes:
                break
            if num_bytes and filled + num_bytes <= target_bytes + target_bytes // 2:
                self._is_validation[bucket] = 1
                filled += num_bytes
        if not filled:
            occupied = [(size, bucket) for bucket, size in enumerate(self._bucket_bytes) if size]
            if len(occupied) > 1:
                self._is_validation[min(occupied)[1]] = 1

    def is_validation(self, document_digest: int) -> bool:
        """Whether a document is kept aside."""
        return bool(self._is_validation[document_digest % NUM_BUCKETS])
