"""One optimizer step: accumulation over micro-batches, clipping, and what to do when something is not finite."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
import torch
from torch import Tensor

from engine.corpus.manifest import Part
from engine.errors import EngineError, TrainerExit
from engine.records import Level, RunPlan
from engine.settings import TrainingSettings
from engine.train.control import Leave
from engine.train.data import BatchStream, Position, Share, Tokens, WindowOrder, read_windows
from engine.train.device import Accelerator, forward_backward
from engine.train.guard import SetbackError, find_unsound, what_is_wrong
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from engine.train.peak import is_out_of_memory
from engine.train.team import ALONE, AbandonedError, Order, PeerLostError, Team
from engine.train.update import update


class Teller(Protocol):
    """What a step is told to: the journal, where there is one."""

    def tell(self, level: Level, kind: str, text: str, **data: object) -> None:
        """Write an event."""


class StepResult(msgspec.Struct, frozen=True):
    """What a step came to."""

    loss: float
    """Mean cross-entropy of its tokens, nats a token."""
    grad_norm: float
    """Before clipping."""
    seconds: float
    """Time it took, pauses left out."""
    is_skipped: bool
    """Whether the weights stayed as they were, because of what loss or gradient was."""


class Stepper:
    """Does steps from a position of the data on; after one fails midway, the same step can be done again."""

    def __init__(
        self,
        model: Decoder,
        optimizer: OptimizerSet,
        accelerator: Accelerator,
        plan: RunPlan,
        settings: TrainingSettings,
        tokens: Tokens,
        journal: Teller,
        *,
        parts: Sequence[Part] = (),
        team: Team = ALONE,
    ) -> None:
        """`parts` are those of the corpus; `team` the processes that do a step together."""
        self._model, self._optimizer, self._accelerator = model, optimizer, accelerator
        self._clip = settings.gradient_clip
        self._tokens = tokens
        self._journal = journal
        self._team = team
        self._stream: BatchStream | None = None
        self._next: Position | None = None
        self._is_updating = False
        self.skipped_in_a_row = 0
        """Steps left out up to now because of what loss or gradient was; fp16 finding its scale is none of them."""
        self._tokens_per_step = plan.tokens_per_step
        self.windows_per_step = plan.tokens_per_step // plan.shape.context
        """Sequences of an optimizer step."""
        self.order = WindowOrder(len(tokens), plan.shape.context, settings.seed, parts)
        """Which window comes when."""
        self.most_at_once = plan.micro_batch
        """Sequences that the device has room for; lowered where it turns out that it has not."""

    @property
    def micro_batch(self) -> int:
        """Sequences at a time: fewer than there is room for where a step has no more for each process."""
        most = min(self.most_at_once, -(-self.windows_per_step // self._team.size))
        return max(n for n in range(1, most + 1) if self.windows_per_step % n == 0)

    @property
    def share(self) -> Share:
        """Which micro-batches of a step are this process's."""
        return Share(self.windows_per_step // self.micro_batch, self._team.seat, self._team.size)

    @property
    def grad_accum(self) -> int:
        """Micro-steps of a step in this process."""
        return self.share.num_own

    def begin(self, position: Position) -> None:
        """Read from here on."""
        self.close()
        self._stream = BatchStream(
            self._tokens, self.order, position, self.micro_batch, self._accelerator.device, self.share
        )

    def close(self) -> None:
        """End reading ahead."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def find_unsound(self) -> str | None:
        """What makes the present state one that is not to be kept; None: it is sound."""
        return find_unsound(self._model, self._optimizer, self._accelerator, self._first_windows)

    def _first_windows(self) -> Tensor:
        """As many windows as a micro-step has, the same every time: (B, T + 1)."""
        order = self.order  # its own order is left to the reading thread
        starts = [index % order.num_windows * order.context for index in range(self.micro_batch)]
        return read_windows(self._tokens, starts, order.context)

    def step(self, position: Position, step: int, attend: Callable[[], float]) -> StepResult:
        """Step number `step`, whose first window is at `position`, with smaller micro-batches where memory runs out.

        `attend` is called after every micro-step; it returns the seconds it has held training in all, and may raise.
        Raises: EngineError where not even one sequence fits; SetbackError where memory ran out while the weights were
        being updated, for then the step cannot be done again.
        """
        while True:
            self._is_updating = False
            try:
                self._team.send(self._order(position))
                return self._step(attend)
            except PeerLostError as error:
                # The state is that of the last whole step: worth saving, before torch's agent starts all anew.
                text = "Another process of the training is gone."
                raise Leave(TrainerExit.ORPHANED, text) from error
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).split("\n")[0]
            # Outside the handler, whose traceback would keep the step's tensors alive.
            if self.micro_batch > 1 or not self._is_updating:
                self._halve(reason)
            if self._is_updating:
                text = f"Memory ran out in the middle of an update of the weights: {reason.rstrip('.')}."
                raise SetbackError(text, step, is_numeric=False)
            self.begin(position)

    def _order(self, position: Position) -> Order:
        return Order(
            verb="step",
            position=position,
            micro_batch=self.most_at_once,
            rate_frac=self._optimizer.rate_frac,
        )

    def follow(self, order: Order) -> bool:
        """Do this process's share of a step that the leader does; False where it was broken off, here or elsewhere."""
        if self.most_at_once != order.micro_batch or self._next != order.position or self._stream is None:
            self.most_at_once = order.micro_batch
            self.begin(order.position)
        self._next = None
        self._optimizer.set_rate(order.rate_frac)
        try:
            self._step(lambda: 0.0)
        except (RuntimeError, MemoryError, AbandonedError) as error:
            if not isinstance(error, AbandonedError) and not is_out_of_memory(error):
                raise
        else:
            self._next = self.order.advance(order.position, self.windows_per_step)
            return True
        # Outside the handler, whose traceback would keep the step's tensors alive.
        self._clean_up()
        return False

    def _step(self, attend: Callable[[], float]) -> StepResult:
        assert self._stream is not None, "begin comes first"
        started = time.monotonic()
        self._model.train()
        self._optimizer.zero_grad()
        total = torch.zeros((), device=self._accelerator.device)
        with self._team.together():
            held_s = held_before = attend()
            for _ in range(self.grad_accum):
                inputs, targets = self._stream.next()  # (B, T) each
                total += forward_backward(
                    self._model, self._accelerator, inputs, targets, 1 / self._tokens_per_step
                )
                self._accelerator.throttle()
                held_s = attend()
        self._team.sum_gradients(self._model)
        self._team.sum([total])
        loss, norm = self._update(total / self._tokens_per_step)
        wrong = what_is_wrong(loss, norm, self._model.shape.vocab_size)
        self._optimizer.zero_grad()
        seconds = time.monotonic() - started - (held_s - held_before)
        if wrong:
            self._note_skipped(wrong, loss, norm)
        else:
            self.skipped_in_a_row = 0
        return StepResult(loss, norm, seconds, is_skipped=wrong is not None)

    def _update(self, mean_loss: Tensor) -> tuple[float, float]:
        """Clip and step, unless something is wrong; loss and gradient norm."""
        loss, norm = math.nan, math.nan

        def is_good(norm_tensor: Tensor) -> bool:
            nonlocal loss, norm
            # The one time a step that the GPU is waited for.
            loss, norm = torch.stack((mean_loss, norm_tensor)).tolist()
            self._is_updating = what_is_wrong(loss, norm, self._model.shape.vocab_size) is None
            return self._is_updating

        # All have the same gradients, and so judge alike. Where another process is lost only then, this one's step is
        # whole, and the next one finds out.
        with suppress(PeerLostError), self._team.together():
            update(self._model, self._optimizer, self._accelerator, self._clip, is_good)
        self._is_updating = False
        return loss, norm

    def _note_skipped(self, wrong: str, loss: float, norm: float) -> None:
        scaler = self._accelerator.scaler
        is_loss_good = what_is_wrong(loss, 1.0, self._model.shape.vocab_size) is None
        if scaler.is_enabled() and is_loss_good and scaler.get_scale() >= 1.0:
            return  # how fp16 finds its scale, nothing wrong
        self.skipped_in_a_row += 1
        self._journal.tell(
            "warning",
            "non-finite",
            f"{wrong} The step is left out ({self.skipped_in_a_row} in a row).",
            loss=str(loss),
            grad_norm=str(norm),
            in_a_row=self.skipped_in_a_row,
        )

    def _halve(self, reason: str) -> None:
        """Go on with the next smaller micro-batch that divides the step."""
        before = self.micro_batch
        smaller = [n for n in range(1, before) if self.windows_per_step % n == 0 and n <= max(1, before // 2)]
        if not smaller:
            raise EngineError(
                f"The device has no room for a single sequence of {self._model.shape.context} tokens: {reason}",
                "Free its memory, or start a run with a smaller model.context or model.preset.",
            )
        self.most_at_once = smaller[-1]
        self._clean_up()
        self._journal.tell(
            "warning",
            "out-of-memory",
            f"The device ran out of memory: going on with {self.micro_batch} sequences at a time instead of {before}.",
            reason=reason,
            micro_batch=self.micro_batch,
        )

    def _clean_up(self) -> None:
        """Give back what a step that was broken off has taken."""
        self._optimizer.zero_grad()
        self._accelerator.reset_scaler()
        gc.collect()
        if self._accelerator.is_cuda:
            torch.cuda.empty_cache()
