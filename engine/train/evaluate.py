"""Validation: the same few windows every time, so that two values differ by the model alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.corpus.manifest import CorpusManifest
from engine.train.data import Tokens, read_windows
from engine.train.device import Accelerator
from engine.train.loss import cross_entropy_sum
from engine.train.model import Decoder

_MAX_TOKENS = {"cpu": 16_384, "cuda": 131_072}
"""Tokens a validation: about a second's work."""
BATCH = 8
"""Windows at a time."""


class Validator:
    """Measures a model on at most `_MAX_TOKENS` tokens, spread evenly over the validation split."""

    def __init__(
        self, tokens: Tokens, manifest: CorpusManifest, context: int, accelerator: Accelerator
    ) -> None:
        self._accelerator = accelerator
        self._tokens_per_byte = manifest.validation_tokens / manifest.validation_bytes
        self._batches = _batches(tokens, context, _MAX_TOKENS[accelerator.device.type])

    @property
    def num_tokens(self) -> int:
        """Tokens that are predicted in one validation; 0: the split is too short to measure with."""
        return sum(batch[:, 1:].numel() for batch in self._batches)

    @torch.no_grad()
    def evaluate(self, model: Decoder) -> float:
        """Mean loss in nats a token; not finite where the model has diverged."""
        model.eval()
        total = torch.zeros((), device=self._accelerator.device)
        for batch in self._batches:
            total += summed_loss(model, self._accelerator, batch.to(self._accelerator.device))
        return total.item() / self.num_tokens

    def bits_per_byte(self, loss: float) -> float:
        """Nats a token as bits a UTF-8 byte of the text, comparable between tokenizers."""
        return loss / math.log(2) * self._tokens_per_byte


@torch.no_grad()
def summed_loss(model: Decoder, accelerator: Accelerator, ids: Tensor) -> Tensor:
    """The loss of windows (B, T + 1), summed over their B * T predictions, in nats; a scalar on the device."""
    with accelerator.autocast():
        hidden = model(ids[:, :-1])  # (B, T, D)
        return cross_entropy_sum(hidden.flatten(0, 1), model.head, ids[:, 1:].flatten())


def _batches(tokens: Tokens, context: int, max_tokens: int) -> list[Tensor]:
    length = min(context, len(tokens) - 1)
    if length < 1:
        return []
    num_windows = (len(tokens) - 1) // length
    num_taken = max(1, min(num_windows, max_tokens // length))
    starts = [index * num_windows // num_taken * length for index in range(num_taken)]
    return [read_windows(tokens, starts[at : at + BATCH], length) for at in range(0, num_taken, BATCH)]
