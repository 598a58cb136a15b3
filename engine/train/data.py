"""Batches: windows of the token store, in an order that the seed alone decides.

The order is one endless stream of windows: each epoch a permutation of its own. A position in it is a single number,
so that a resumed run reads on exactly where the other stopped, and the size of a micro-batch changes nothing. Nor does
the number of processes: the windows of a micro-step are dealt out to them in turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor

from engine.corpus.manifest import Part
from engine.errors import CorpusError

_PREFETCHED = 3
"""Micro-batches read ahead: enough to hide the disk, little enough to cost no memory."""


class Tokens(Protocol):
    """What is asked of a token store."""

    def __len__(self) -> int:
        """Number of tokens."""

    def read(self, start: int, length: int) -> np.ndarray:
        """Tokens `start` to `start + length`."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the stream is consumed."""

    epoch: int = 0
    """Whole passes over the corpus so far."""
    cursor: int = 0
    """Windows consumed of the current pass."""


class WindowOrder:
    """Which window comes when: windows of `context` inputs and one more token, none overlapping in its targets.

    Of a corpus with weights, an epoch takes from each part as many windows as its weight says; what it leaves out of a
    part is what the next epochs begin with.
    Raises: CorpusError where the store holds no whole window.
    """

    def __init__(self, num_tokens: int, context: int, seed: int, parts: Sequence[Part] = ()) -> None:
        self.context = context
        is_mixed = any(part.weight != 1.0 for part in parts)
        self._segments = _segments(parts, context) if is_mixed else []
        self.num_windows = (num_tokens - 1) // context
        """Of an epoch."""
        if is_mixed:
            self.num_windows = sum(segment.num_taken for segment in self._segments)
        self._seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)
        if self.num_windows < 1:
            raise CorpusError(
                f"The corpus has {num_tokens} training tokens, fewer than one sequence of {context}.",
                "Add text to it, or set model.context lower.",
            )

    def start_of(self, epoch: int, cursor: int) -> int:
        """First token of the window that an epoch reads as its `cursor`-th."""
        if epoch != self._epoch:
            order = np.random.default_rng((self._seed, epoch)).permutation(self.num_windows)
            self._order = self._mixed(epoch)[order] if self._segments else order * self.context
            self._epoch = epoch
        return int(self._order[cursor])

    def _mixed(self, epoch: int) -> np.ndarray:
        """The first tokens of an epoch's windows, part by part."""
        starts = []
        for number, segment in enumerate(self._segments):
            # Each part is an endless stream of its own, pass after pass in another order.
            first, last = epoch * segment.num_taken, (epoch + 1) * segment.num_taken
            for passed in range(first // segment.num_windows, (last - 1) // segment.num_windows + 1):
                order = np.random.default_rng((self._seed, number, passed)).permutation(segment.num_windows)
                begin = passed * segment.num_windows
                taken = order[max(0, first - begin) : last - begin]
                starts.append(segment.first_token + taken * self.context)
        return np.concatenate(starts)

    def advance(self, position: Position, num_windows: int) -> Position:
        """The position after so many more windows."""
        consumed = position.epoch * self.num_windows + position.cursor + num_windows
        return Position(epoch=consumed // self.num_windows, cursor=consumed % self.num_windows)

    def starts(self, position: Position) -> Iterator[int]:
        """The first token of every window from a position on, without end."""
        epoch, cursor = position.epoch, position.cursor
        while True:
            while cursor < self.num_windows:
                yield self.start_of(epoch, cursor)
                cursor += 1
            epoch, cursor = epoch + 1, 0


class _Segment(NamedTuple):
    """One part of a corpus with weights."""

    first_token: int
    num_windows: int
    num_taken: int
    """Windows that an epoch takes of it: fewer than there are, or some more than once."""


def _segments(parts: Sequence[Part], context: int) -> list[_Segment]:
    """The parts that hold a window."""
    segments = []
    first_token = 0
    for part in parts:
        num_windows = max(0, part.train_tokens - 1) // context
        if num_windows:
            segments.append(_Segment(first_token, num_windows, max(1, round(part.weight * num_windows))))
        first_token += part.train_tokens
    return segments


class Share(NamedTuple):
    """Which of the micro-batches of a step are one process's: every `of`-th, from number `seat` on."""

    num_micro_batches: int
    """Of a step, in all processes."""
    seat: int
    of: int

    @property
    def num_own(self) -> int:
        """Of a step, this process's; 0 where there are fewer than processes."""
        return len(range(self.seat, self.num_micro_batches, self.of))


def _dealt(starts: Iterator[int], micro_batch: int, share: Share) -> Iterator[list[int]]:
    """The windows of one micro-batch after the other, without end, but for those that are of other processes."""
    while share.num_own:
        for number in range(share.num_micro_batches):
            batch = [next(starts) for _ in range(micro_batch)]
            if number % share.of == share.seat:
                yield batch


class BatchStream:
    """Micro-batches from a position on, read ahead by a thread of its own until `close`."""

    def __init__(
        self,
        tokens: Tokens,
        order: WindowOrder,
        position: Position,
        micro_batch: int,
        device: torch.device,
        share: Share | None = None,
    ) -> None:
        """`share` is which of them are this process's, None: all."""
        self._tokens = tokens
        self._context = order.context
        self._batches = _dealt(order.starts(position), micro_batch, share or Share(1, 0, 1))
        self._device = device
        self._ready: queue.Queue[Tensor | BaseException] = queue.Queue(_PREFETCHED)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read_ahead, name="batches", daemon=True)
        self._thread.start()

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (micro_batch, context) int64 each, on the device.

        Raises: whatever reading the store raised.
        """
        batch = self._newest()
        if isinstance(batch, BaseException):
            raise batch
        batch = batch.to(self._device, non_blocking=True)  # (B, T + 1)
        return batch[:, :-1], batch[:, 1:]

    def _newest(self) -> Tensor | BaseException:
        while True:
            was_alive = self._thread.is_alive()
            try:
                return self._ready.get(timeout=1.0)
            except queue.Empty:
                if not was_alive:
                    raise RuntimeError("The thread that reads ahead has ended without a word.") from None

    def close(self) -> None:
        """End the thread; batches that were read ahead are dropped."""
        self._is_closed.set()
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def _read_ahead(self) -> None:
        try:
            for starts in self._batches:
                if self._is_closed.is_set():
                    return
                batch = read_windows(self._tokens, starts, self._context)
                self._ready.put(batch.pin_memory() if self._device.type == "cuda" else batch)
        except (OSError, ValueError, RuntimeError, MemoryError, CorpusError) as error:
            self._ready.put(error)


def read_windows(tokens: Tokens, starts: list[int], context: int) -> Tensor:
    """The windows that begin at `starts`: (len(starts), context + 1) int64."""
    rows = [tokens.read(start, context + 1).astype(np.int64) for start in starts]
    return torch.from_numpy(np.stack(rows))
