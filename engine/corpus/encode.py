"""Documents on their way to token shards: cut into pieces, encoded on all cores while the next ones are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from engine.corpus import tokenizer
from engine.corpus.document import find_cut
from engine.corpus.manifest import Split
from engine.corpus.shard import ShardWriter

_PIECE_CHARS = 1 << 13
_BATCH_BYTES = 1 << 20

Ids = npt.NDArray[np.uint32]


class Encoding:
    """Encodes batch after batch in a thread, in the order in which they came; two are in memory at most."""

    def __init__(self, encoder: tokenizer.Encoder, writers: Mapping[Split, ShardWriter]) -> None:
        self._encoder = encoder
        self._writers = writers
        self._texts: list[str] = []
        self._targets: list[tuple[Split, bool]] = []
        """Of each text, its split, and whether it ends a document."""
        self._num_bytes = 0
        self._ahead: tuple[Future[list[Ids]], list[tuple[Split, bool]]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._end_of_text = np.array([tokenizer.END_OF_TEXT_ID], dtype=np.uint32)

    def __enter__(self) -> Encoding:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, document: str, num_bytes: int, split: Split) -> None:
        """Take a document; its ids and an end-of-text are written by the next `flush` at the latest."""
        before = len(self._texts)
        self._texts.extend(pieces(document))
        last = len(self._texts) - 1
        self._targets.extend((split, index == last) for index in range(before, last + 1))
        self._num_bytes += num_bytes
        if self._num_bytes >= _BATCH_BYTES:
            self._submit()

    def flush(self) -> None:
        """Encode and write all that was taken."""
        self._submit()
        self._write()

    def _submit(self) -> None:
        """Have a batch encoded, and write the one before it meanwhile."""
        batch = (self._thread.submit(self._encoder.encode, self._texts), self._targets)
        self._texts, self._targets, self._num_bytes = [], [], 0
        self._write()
        self._ahead = batch

    def _write(self) -> None:
        if self._ahead is None:
            return
        future, targets = self._ahead
        self._ahead = None
        for ids, (split, is_end) in zip(future.result(), targets, strict=True):
            self._writers[split].write(ids)
            if is_end:
                self._writers[split].write(self._end_of_text)


def pieces(text: str) -> Iterable[str]:
    """A document in stretches that keep all cores busy and the tokenizer's memory small."""
    start = 0
    while len(text) - start > _PIECE_CHARS:
        cut = find_cut(text, start + _PIECE_CHARS // 2, start + _PIECE_CHARS)
        yield text[start:cut]
        start = cut
    yield text[start:]


def find_window(text: str, document_digest: int) -> str:
    """A stretch from anywhere in a document: its beginning may be a licence like all others."""
    if len(text) <= _PIECE_CHARS:
        return text
    start = document_digest % (len(text) - _PIECE_CHARS)
    start = find_cut(text, start, start + _PIECE_CHARS // 2)
    return text[start : start + _PIECE_CHARS]
