"""The update of the weights from the gradients that a step's micro-steps have gathered."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from engine.train.device import Accelerator
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet, clip_gradients


def update(
    model: Decoder,
    optimizer: OptimizerSet,
    accelerator: Accelerator,
    clip: float,
    is_good: Callable[[Tensor], bool],
) -> None:
    """Clip and step, where `is_good` says so of the gradient's norm before clipping, a scalar on the device.

    After an error the scaler is in the middle of a step: `Accelerator.reset_scaler`; and where it came after `is_good`
    was True, the weights may be so too.
    """
    scaler = accelerator.scaler
    if scaler.is_enabled():
        for each in optimizer.optimizers:
            scaler.unscale_(each)
    if is_good(clip_gradients(model, clip)):
        for each in optimizer.optimizers:
            each.step()
    if scaler.is_enabled():
        scaler.update()
