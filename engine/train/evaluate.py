"""Validation: the same few windows every time, so that two values differ by the model alone."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from engine.corpus.manifest import CorpusManifest
from engine.train.data import Tokens, read_windows
from engine.train.device import Accelerator
from engine.train.loss import cross_entropy_sum
from engine.train.model import Decoder
from engine.train.peak import is_out_of_memory

_MAX_TOKENS = {"cpu": 16_384, "cuda": 131_072}
"""Tokens a validation, where there is time for them."""
MAX_S = 5.0
"""A run's first validation begins no batch later than so many seconds after its first batch, which takes as long as it
takes; the later ones take the same windows."""
_LATER = 4.0
"""Times as long as that a later one may take, on a machine that has become slower."""
BATCH = 8
"""Windows at a time."""


class Validation(NamedTuple):
    """What a validation found."""

    loss: float
    """Nats a token; not finite where the model has diverged."""
    num_tokens: int
    """What it was measured on."""


class Validator:
    """Measures a model on at most `_MAX_TOKENS` tokens, spread evenly over the validation split."""

    def __init__(
        self, tokens: Tokens, manifest: CorpusManifest, context: int, accelerator: Accelerator
    ) -> None:
        self._accelerator = accelerator
        self._tokens_per_byte = manifest.validation_tokens / manifest.validation_bytes
        self._windows = _windows(tokens, context, _MAX_TOKENS[accelerator.device.type])  # (N, T + 1)
        self._is_settled = False
        self.num_windows = self._windows.shape[0]
        """Windows of a validation."""
        self.batch = BATCH
        """Windows at a time; lowered where the device has no room for them."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are predicted in one validation; 0: the split is too short to measure with."""
        return self._windows[: self.num_windows, 1:].numel()

    def settle(self, num_windows: int) -> None:
        """Take as many windows as an earlier trainer of the run did; 0: it had not measured yet."""
        if num_windows:
            self.num_windows, self._is_settled = min(num_windows, self.num_windows), True

    @property
    def settled_windows(self) -> int:
        """What `settle` is to be given after a restart."""
        return self.num_windows if self._is_settled else 0

    def evaluate(self, model: Decoder) -> Validation:
        """Mean loss over the windows that there is time for.

        Raises: torch's error where memory does not suffice for a single window.
        """
        model.eval()
        total, done = 0.0, 0
        most_s = MAX_S * (_LATER if self._is_settled else 1.0)
        until: float | None = None
        while done < self.num_windows and (until is None or time.monotonic() < until):
            ids = self._windows[done : min(done + self.batch, self.num_windows)]
            loss = self._summed_loss(model, ids)
            if loss is None:
                self.batch //= 2
                continue
            total, done = total + loss, done + ids.shape[0]
            # The first batch's own time says little: kernels are chosen, and memory is allocated.
            until = until or time.monotonic() + most_s
        if not self._is_settled:
            self.num_windows, self._is_settled = done, True
        num_tokens = self._windows[:done, 1:].numel()
        return Validation(total / num_tokens, num_tokens)

    def _summed_loss(self, model: Decoder, ids: Tensor) -> float | None:
        """Over the predictions of windows (B, T + 1); None where memory calls for fewer windows."""
        try:
            return summed_loss(model, self._accelerator, ids.to(self._accelerator.device)).item()
        except (RuntimeError, MemoryError) as error:
            if self.batch == 1 or not is_out_of_memory(error):
                raise
            return None

    def bits_per_byte(self, loss: float) -> float:
        """Nats a token as bits a UTF-8 byte of the text, comparable between tokenizers."""
        return loss / math.log(2) * self._tokens_per_byte


@torch.no_grad()
def summed_loss(model: Decoder, accelerator: Accelerator, ids: Tensor) -> Tensor:
    """The loss of windows (B, T + 1), summed over their B * T predictions, in nats; a scalar on the device."""
    with accelerator.autocast():
        hidden = model(ids[:, :-1])  # (B, T, D)
        return cross_entropy_sum(hidden.flatten(0, 1), model.head, ids[:, 1:].flatten())


def _windows(tokens: Tokens, context: int, max_tokens: int) -> Tensor:
    """(N, T + 1), in an order of which every beginning is spread evenly over the split."""
    length = min(context, len(tokens) - 1)
    if length < 1:
        return torch.empty(0, 1, dtype=torch.int64)
    num_windows = (len(tokens) - 1) // length
    num_taken = max(1, min(num_windows, max_tokens // length))
    starts = [index * num_windows // num_taken * length for index in range(num_taken)]
    return read_windows(tokens, [starts[index] for index in _evenly(num_taken)], length)


def _evenly(number: int) -> list[int]:
    """0 up to `number` by their bits reversed (van der Corput): 0, 4, 2, 6, 1, 5, 3, 7 of eight."""
    bits = max(1, (number - 1).bit_length())
    return sorted(range(number), key=lambda index: int(f"{index:0{bits}b}"[::-1], 2))
