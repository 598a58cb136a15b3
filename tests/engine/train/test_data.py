"""The order of windows, and reading on exactly where it stopped."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from engine.errors import CorpusError
from engine.train.data import BatchStream, Position, WindowOrder

CPU = torch.device("cpu")


class CountedTokens:
    """Token i is i."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, length: int) -> np.ndarray:
        if start + length > self._length:
            raise IndexError(start)
        return np.arange(start, start + length, dtype=np.uint16)


def windows(position: Position, micro_batch: int, num_batches: int, seed: int = 7) -> list[int]:
    """The first tokens of the windows that a stream gives."""
    tokens = CountedTokens(10 * 8 + 1)
    stream = BatchStream(tokens, WindowOrder(len(tokens), 8, seed), position, micro_batch, CPU)
    found = []
    for _ in range(num_batches):
        inputs, targets = stream.next()
        assert inputs.shape == targets.shape == (micro_batch, 8)
        assert torch.equal(inputs + 1, targets)
        found += inputs[:, 0].tolist()
    stream.close()
    return found


def test_every_epoch_reads_every_window_once_in_an_order_of_its_own():
    found = windows(Position(), 5, 4)
    assert sorted(found[:10]) == sorted(found[10:]) == [8 * index for index in range(10)]
    assert found[:10] != found[10:]


def test_the_seed_decides_the_order():
    assert windows(Position(), 5, 4) == windows(Position(), 5, 4)
    assert windows(Position(), 5, 4) != windows(Position(), 5, 4, seed=8)


def test_a_resumed_stream_reads_on_whatever_the_micro_batch():
    whole = windows(Position(), 4, 6)
    order = WindowOrder(81, 8, 7)
    position = order.advance(order.advance(Position(), 4), 4)
    assert position == Position(epoch=0, cursor=8)
    assert windows(position, 2, 8) == whole[8:]
    assert order.advance(position, 14) == Position(epoch=2, cursor=2)
    assert windows(order.advance(position, 14), 1, 2) == whole[22:24]


def test_what_goes_wrong_while_reading_ahead_is_raised_by_next():
    class Broken(CountedTokens):
        def read(self, start: int, length: int) -> np.ndarray:
            raise OSError("the disk is gone")

    stream = BatchStream(Broken(81), WindowOrder(81, 8, 7), Position(), 2, CPU)
    with pytest.raises(OSError, match="the disk is gone"):
        stream.next()


def test_memory_that_runs_out_while_reading_ahead_is_raised_by_next():
    class Large(CountedTokens):
        def read(self, start: int, length: int) -> np.ndarray:
            raise MemoryError

    stream = BatchStream(Large(81), WindowOrder(81, 8, 7), Position(), 2, CPU)
    with pytest.raises(MemoryError):
        stream.next()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_without_a_word_is_not_waited_for():
    class Gone(CountedTokens):
        def read(self, start: int, length: int) -> np.ndarray:
            raise SystemExit

    stream = BatchStream(Gone(81), WindowOrder(81, 8, 7), Position(), 2, CPU)
    with pytest.raises(RuntimeError, match="without a word"):
        stream.next()


def test_close_ends_the_thread():
    tokens = CountedTokens(81)
    stream = BatchStream(tokens, WindowOrder(81, 8, 7), Position(), 2, CPU)
    stream.next()
    stream.close()
    assert not any(thread.name == "batches" for thread in threading.enumerate())


def test_a_corpus_shorter_than_a_sequence_is_refused():
    with pytest.raises(CorpusError, match="8 training tokens"):
        WindowOrder(8, 8, 7)
