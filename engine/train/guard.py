"""Against a state gone bad: what counts as one, and how often training goes back to a good checkpoint.

A step whose loss or gradient is not finite, or whose loss has blown up, is left out. After several in a row the weights
themselves are taken to be bad: training goes back to the newest good checkpoint, halves its rate from there on, and
reads on after the text that it stumbled over, for either may have been the cause. What is judged follows from the run
alone; when validations look at it, and which checkpoint is the newest, follows from the clock, so that a run which is
repeated may go back from and to other steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import torch
from torch import Tensor

from engine.errors import EngineError
from engine.train.data import Position
from engine.train.device import Accelerator, forward_backward
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from engine.train.peak import is_out_of_memory

MAX_SKIPPED_IN_A_ROW = 5
"""Steps left out in a row from which the weights are taken to be bad."""
MAX_ROLLBACKS = 3
"""Times that training goes back without keeping a good checkpoint of the highest step at which it went bad,
or of a later one."""
RATE_CUT = 0.5
"""Times the rate, each time that values went bad."""
MOST_LOSS = 4.0
"""Times the loss of a model that holds every token for equally likely: what is worse has blown up, if finitely, and
would soon be in every checkpoint that is kept."""


class SetbackError(Exception):
    """The weights in hand are of no use: training is to go back to a good checkpoint."""

    def __init__(self, reason: str, step: int, *, is_numeric: bool = True) -> None:
        """`step` is the first that went wrong; `is_numeric` says that values did, and not the memory."""
        super().__init__(reason)
        self.reason = reason
        self.step = step
        self.is_numeric = is_numeric


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that training went back; kept in the run's store, so that a restart goes on from it."""

    count: int = 0
    """Of the run so far."""
    in_a_row: int = 0
    """Without keeping a good checkpoint of `bad_step` or a later one."""
    bad_step: int = 0
    """The first step that went wrong, the highest of those in a row."""
    to_step: int = -1
    """Step of the checkpoint that training went back to; 0: the beginning; -1: it never did."""
    position: Position | None = None
    """Where in the text it went on; None: where the checkpoint says."""
    rate_scale: float = 1.0
    """Times the rate of the schedule, from then on."""

    def following(self, setback: SetbackError, position: Position, rate_scale: float) -> Rollback:
        """The one after this, until it is known where it goes: `at`; `position` and `rate_scale` are those in force.

        Raises: EngineError where going back did not help `MAX_ROLLBACKS` times in a row.
        """
        if self.in_a_row >= MAX_ROLLBACKS:
            raise _hopeless(setback)
        return Rollback(
            count=self.count + 1,
            in_a_row=self.in_a_row + 1,
            bad_step=max(setback.step, self.bad_step if self.in_a_row else 0),
            to_step=-1 if setback.is_numeric else self.to_step,
            position=position if setback.is_numeric else self.position,
            rate_scale=rate_scale * (RATE_CUT if setback.is_numeric else 1.0),
        )

    def at(self, step: int) -> Rollback:
        """The same, gone back to this step; from there a want of memory alone skips no text but what was skipped."""
        position = self.position if self.to_step in (-1, step) else None
        return msgspec.structs.replace(self, to_step=step, position=position)

    def past(self, step: int) -> Rollback:
        """The same once a good checkpoint of `step` is kept."""
        return msgspec.structs.replace(self, in_a_row=0) if step >= self.bad_step else self


def _hopeless(setback: SetbackError) -> EngineError:
    if not setback.is_numeric:
        return EngineError(
            f"{setback.reason} Going back to a good checkpoint has not helped {MAX_ROLLBACKS} times in a row: the "
            "device has no room for an update of the weights.",
            "Free its memory, or start a run with a smaller model.preset or training.micro_batch.",
        )
    return EngineError(
        f"{setback.reason} Going back to a good checkpoint, with half the learning rate each time, has not "
        f"helped {MAX_ROLLBACKS} times in a row: the training has diverged.",
        "Start a new run with a lower training.learning_rate; a GPU that trained in fp16 may do with fp32.",
    )


def find_unsound(
    model: Decoder, optimizer: OptimizerSet, accelerator: Accelerator, read: Callable[[], Tensor]
) -> str | None:
    """What is not finite of weights, optimizer state, and the loss and gradient that these weights give.

    Weights may be finite and yet so large that nothing comes of them: so the gradients that a step has gathered up to
    now are looked at too, and where there are none, those of the windows (B, T + 1) that `read` gives. None: all is
    well. A GPU is waited for.
    """
    state = [tensor for _, tensor in optimizer.tensors() if tensor.is_floating_point()]
    if not _is_finite([parameter.detach() for parameter in model.parameters()]):
        return "A weight is not finite."
    if not _is_finite(state):
        return "The optimizer's state is not finite."
    gathered = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if gathered:
        # fp16 gradients are scaled as high as they will go, and beyond: only an update tells.
        is_sound = accelerator.scaler.is_enabled() or _is_finite(gathered)
        return None if is_sound else "The gradient is not finite."
    try:
        return _try(model, accelerator, read())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None  # not known, which the next step will see to
    finally:
        optimizer.zero_grad()


def _try(model: Decoder, accelerator: Accelerator, windows: Tensor) -> str | None:
    ids = windows.to(accelerator.device)  # (B, T + 1)
    scale = accelerator.scaler.get_scale() if accelerator.scaler.is_enabled() else 1.0
    model.train()
    loss = forward_backward(model, accelerator, ids[:, :-1], ids[:, 1:], 1 / (ids[:, 1:].numel() * scale))
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return what_is_wrong(loss.item() / ids[:, 1:].numel(), _largest(gradients), model.shape.vocab_size)


def what_is_wrong(loss: float, grad_norm: float, vocab_size: int) -> str | None:
    """What makes a step one to leave out, as a sentence; None: it is good.

    `loss` in nats a token. A gradient of exactly 0 is as bad as none: weights so large that a norm's square overflows
    give that, and a finite loss with it, for ever.
    """
    if not math.isfinite(loss):
        return "The loss is not finite."
    if loss > MOST_LOSS * math.log(vocab_size):
        return f"The loss is {loss:,.0f}, far above the {math.log(vocab_size):.1f} of knowing nothing."
    if not math.isfinite(grad_norm):
        return "The gradient is not finite."
    return None if grad_norm > 0 else "The gradient is 0."


def _is_finite(tensors: list[Tensor]) -> bool:
    return math.isfinite(_largest(tensors))


def _largest(tensors: list[Tensor]) -> float:
    """The largest magnitude among all, NaN where one is; 0 of none."""
    return torch.nn.utils.get_total_norm(tensors, norm_type=math.inf).item() if tensors else 0.0


def allocate_state(model: Decoder, optimizer: OptimizerSet) -> None:
    """Make the optimizer's state now, where it has none: memory must not run out halfway through an update.

    A step at rate 0 with gradients of 0 makes it and changes no weight; the state is zeros after it, as a new one is.
    Raises: EngineError where there is no room for it.
    """
    if next(optimizer.tensors(), None) is not None:
        return
    try:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.set_rate(0.0)
        for each in optimizer.optimizers:
            each.step()
        for _, tensor in optimizer.tensors():
            tensor.zero_()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise EngineError(
            f"The device has no room for the optimizer's state: {str(error).splitlines()[0]}",
            "Free its memory, or start a run with a smaller model.preset.",
        ) from error
    finally:
        optimizer.zero_grad()
