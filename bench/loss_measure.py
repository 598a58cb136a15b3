"""How good a model is, by one function for both sides: the trainer's own, on windows of the validation split."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch

from engine.corpus.manifest import load_manifest
from engine.corpus.shard import TokenStore
from engine.shape import ModelShape
from engine.train.data import read_windows
from engine.train.evaluate import Validator, summed_loss
from engine.train.model import Decoder

_BATCH = 16


class _Bf16:
    """What the trainer's functions ask of an accelerator: nothing that changes how the process computes."""

    device = torch.device("cpu")

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return torch.autocast("cpu", dtype=torch.bfloat16)


class Measure:
    """Bits a byte of weights that bear transformers' names."""

    def __init__(self, manifest_path: Path, shape: ModelShape) -> None:
        self.manifest = load_manifest(manifest_path)
        self._shape = shape
        self._tokens = TokenStore.open(Path(self.manifest.folder), "validation")
        self._validator = Validator(self._tokens, self.manifest, shape.context, _Bf16())  # type: ignore[arg-type]
        self._validator.settle(self._validator.num_windows)

    def decoder(self, weights: dict[str, torch.Tensor]) -> Decoder:
        """The weights in the trainer's own model.

        Raises: RuntimeError where a name or a size differs, so that both sides are the same model.
        """
        model = Decoder(self._shape)
        own = model.state_dict().keys()
        model.load_state_dict({name: tensor for name, tensor in weights.items() if name in own})
        return model.eval()

    def some(self, model: Decoder) -> float:
        """On the windows of the trainer's validations: what the curves are made of."""
        return self._validator.bits_per_byte(self._validator.evaluate(model).loss)

    def whole(self, model: Decoder) -> float:
        """On every window of the validation split: what decides."""
        context = self._shape.context
        starts = range(0, len(self._tokens) - context, context)
        total = 0.0
        for first in range(0, len(starts), _BATCH):
            ids = read_windows(self._tokens, list(starts[first : first + _BATCH]), context)
            total += summed_loss(model, _Bf16(), ids).item()  # type: ignore[arg-type]
        assert math.isfinite(total), "the model has diverged"
        return self._validator.bits_per_byte(total / (len(starts) * context))
