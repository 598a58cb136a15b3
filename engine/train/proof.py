"""Proving one size: real steps on random tokens, an evaluation, a save and a load, each timed and weighed.

Random tokens of the right shape cost what real ones do, so that no corpus is needed. The model runs eagerly even
where the run will be compiled: compiling anew for every size takes a minute each, a compiled step holds less memory
and is faster by about the same share at every size.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from engine.errors import CheckpointError, EngineError
from engine.ramp import no_room, replan
from engine.records import RunPlan
from engine.rehearsal import Proof
from engine.settings import TrainingSettings
from engine.train.checkpoint import Checkpoints, TrainState, newest_verified
from engine.train.data import Position
from engine.train.device import Accelerator, forward_backward
from engine.train.evaluate import BATCH, summed_loss
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from engine.train.peak import PeakMemory, is_out_of_memory
from engine.train.update import update

_TIMED_S = 0.3
"""Micro-steps are timed for this long at least ..."""
_LEAST_TIMED, _MOST_TIMED = 2, 8
"""... but never fewer or more often than this. The fastest counts: whatever else ran made the others slower."""
_LONG_S = 2.0
"""A micro-step that takes longer is timed once: what else ran is averaged within it."""
_BURST, _SHORT_S = 4, 0.25
"""Micro-steps that are timed together where they are as short as this, so that a GPU stays busy between them."""
_MOST_SKIPPED = 32
"""Steps until an fp16 loss scale is found; it begins at 2**16 and is halved each time."""


class Prover:
    """Proves sizes one after another, in one process, on one model.

    `attend` is called every few micro-steps, and may raise to end it. Raises: EngineError as `Accelerator`.
    """

    def __init__(
        self,
        plan: RunPlan,
        settings: TrainingSettings,
        scratch: Path,
        attend: Callable[[], None] = lambda: None,
    ) -> None:
        self._plan, self._settings, self._scratch, self._attend = plan, settings, scratch, attend
        self._accelerator = Accelerator(plan)
        self._memory = PeakMemory(self._accelerator.device)
        self._subject: Subject | None = None
        self._update_s = float("inf")
        self.budget_bytes = self._memory.budget_bytes(plan)
        """What a size may take, and still leave a margin; None: not known."""

    def prove(self, micro_batch: int, num_recomputed_blocks: int) -> Proof | str:
        """Prove a size; a string is why the device has no room for it.

        Raises: CheckpointError, and RuntimeError for what else torch may meet.
        """
        plan = replan(self._plan, micro_batch, num_recomputed_blocks)
        return self._with_room(lambda: self._prove(plan))

    def time_again(self, proof: Proof) -> Proof | str:
        """The same size with its steps timed once more: the faster counts. As `prove`."""
        plan = replan(self._plan, proof.micro_batch, proof.num_recomputed_blocks)
        return self._with_room(lambda: self._timed_again(plan, proof))

    def _with_room(self, part: Callable[[], Proof]) -> Proof | str:
        self._memory.release()
        found: Proof | str
        try:
            found = part()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found = str(error).strip().split("\n")[0]
        # Outside the handler, whose traceback would keep the step's tensors alive.
        if self._subject is not None:
            self._subject.optimizer.zero_grad()
        self._accelerator.reset_scaler()
        self._memory.release()
        return found

    def _prove(self, plan: RunPlan) -> Proof:
        self._memory.begin()
        subject = self._subject = self._subject or Subject(plan, self._settings, self._accelerator)
        micro_step_s = self._micro_step_s(subject, plan)
        step_memory_bytes = self._memory.peak_bytes()
        subject.optimizer.zero_grad()
        evaluate_s, evaluate_memory_bytes = self._timed(subject.evaluate)
        save_s, save_memory_bytes = self._timed(lambda: subject.save(self._scratch, plan))
        load_s, load_memory_bytes = self._timed(lambda: subject.load(self._scratch))
        files = [path for path in self._scratch.rglob("*") if path.is_file()]
        checkpoint_bytes = sum(path.stat().st_size for path in files)
        shutil.rmtree(self._scratch / "checkpoints")
        step_s = plan.grad_accum * micro_step_s + self._update_s
        return Proof(
            micro_batch=plan.micro_batch,
            num_recomputed_blocks=plan.num_recomputed_blocks,
            step_s=step_s,
            micro_step_s=micro_step_s,
            update_s=self._update_s,
            tokens_per_s=plan.tokens_per_step / step_s,
            step_memory_bytes=step_memory_bytes,
            evaluate_s=evaluate_s,
            evaluate_memory_bytes=evaluate_memory_bytes,
            save_s=save_s,
            save_memory_bytes=save_memory_bytes,
            checkpoint_bytes=checkpoint_bytes,
            load_s=load_s,
            load_memory_bytes=load_memory_bytes,
            memory_bytes=max(step_memory_bytes, evaluate_memory_bytes, save_memory_bytes, load_memory_bytes),
            budget_bytes=self.budget_bytes,
        )

    def _timed_again(self, plan: RunPlan, proof: Proof) -> Proof:
        assert self._subject is not None, "prove comes first"
        micro_step_s = min(proof.micro_step_s, self._micro_step_s(self._subject, plan, is_new=False))
        step_s = plan.grad_accum * micro_step_s + self._update_s
        return msgspec.structs.replace(
            proof,
            micro_step_s=micro_step_s,
            update_s=self._update_s,
            step_s=step_s,
            tokens_per_s=plan.tokens_per_step / step_s,
        )

    def _micro_step_s(self, subject: Subject, plan: RunPlan, *, is_new: bool = True) -> float:
        """Seconds of the fastest micro-step, once the optimizer has its state; the update is timed beside it.

        A new size is tried once before: its kernels are chosen then, and its memory allocated.
        """
        subject.model.num_recomputed_blocks = plan.num_recomputed_blocks
        ids = subject.random_ids(plan.micro_batch)
        if is_new and self._update_s == float("inf"):
            subject.settle(ids, self._attend)
        elif is_new:
            subject.micro_steps(ids, 1)
        fastest_s, spent_s, num_timed = float("inf"), 0.0, 0
        while spent_s < _LONG_S and (
            num_timed < _LEAST_TIMED or (num_timed < _MOST_TIMED and spent_s < _TIMED_S)
        ):
            burst = _BURST if self._accelerator.is_cuda and fastest_s < _SHORT_S else 1
            seconds = self._seconds(functools.partial(subject.micro_steps, ids, burst))
            fastest_s = min(fastest_s, seconds / burst)
            spent_s, num_timed = spent_s + seconds, num_timed + 1
            self._attend()
        # It costs the same at every size.
        self._update_s = min(self._update_s, self._seconds(subject.update))
        return fastest_s

    def _timed(self, part: Callable[[], object]) -> tuple[float, int]:
        """Seconds and most memory of a part."""
        self._attend()
        self._memory.begin()
        return self._seconds(part), self._memory.peak_bytes()

    def _seconds(self, part: Callable[[], object]) -> float:
        self._wait()
        started = time.monotonic()
        part()
        self._wait()
        return time.monotonic() - started

    def _wait(self) -> None:
        if self._accelerator.is_cuda:
            torch.cuda.synchronize()


class Subject:
    """The model and its optimizer, and all that a run does with them."""

    def __init__(self, plan: RunPlan, settings: TrainingSettings, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._clip = settings.gradient_clip
        self._loss_weight = 1 / plan.tokens_per_step
        self._step = 0
        self.model = Decoder(plan.shape)
        self.model.initialise(settings.seed)
        self.model.to(accelerator.device)
        self.optimizer = OptimizerSet(self.model, plan.optimizer, plan.learning_rate, settings.weight_decay)

    def random_ids(self, num_windows: int) -> Tensor:
        """(B, T + 1) on the device."""
        shape = self.model.shape
        ids = torch.randint(shape.vocab_size, (num_windows, shape.context + 1), dtype=torch.int64)
        return ids.to(self._accelerator.device)

    def settle(self, ids: Tensor, attend: Callable[[], None]) -> None:
        """The first update, which makes the optimizer's state; in fp16 not before a loss scale is found."""
        for _ in range(_MOST_SKIPPED):
            self.micro_steps(ids, 1)
            is_done = self.update()
            self.optimizer.zero_grad()
            attend()
            if is_done:
                return
        raise RuntimeError(f"none of {_MOST_SKIPPED} steps was finite")

    def micro_steps(self, ids: Tensor, number: int) -> None:
        """So many micro-steps, forward and backward, on the same ids."""
        self.model.train()
        for _ in range(number):
            forward_backward(self.model, self._accelerator, ids[:, :-1], ids[:, 1:], self._loss_weight)
            self._accelerator.throttle()

    def update(self) -> bool:
        """Clip and step; False where the gradient was not finite and the weights stayed."""
        is_finite = False

        def is_good(norm: Tensor) -> bool:
            nonlocal is_finite
            is_finite = bool(norm.isfinite().item())
            return is_finite

        update(self.model, self.optimizer, self._accelerator, self._clip, is_good)
        return is_finite

    def evaluate(self) -> None:
        """One batch of a validation."""
        self.model.eval()
        summed_loss(self.model, self._accelerator, self.random_ids(BATCH)).item()

    def save(self, folder: Path, plan: RunPlan) -> None:
        """A checkpoint below `folder`. Raises: CheckpointError where it cannot be written."""
        self._step += 1
        state = TrainState(
            step=self._step,
            tokens=0,
            position=Position(),
            shape=plan.shape,
            optimizer=plan.optimizer,
            tokens_per_step=plan.tokens_per_step,
            steps=plan.steps,
            micro_batch=plan.micro_batch,
        )
        Checkpoints(folder, keep=2).save(self.model, self.optimizer, state)

    def load(self, folder: Path) -> None:
        """Find it again and take it over. Raises: CheckpointError where it is not what was written."""
        search = newest_verified(folder)
        if search.checkpoint is None or search.checkpoint.state.step != self._step:
            raise search.damaged[0] if search.damaged else CheckpointError(f"{folder} lost its checkpoint.")
        search.checkpoint.load_model(self.model)
        search.checkpoint.load_optimizer(self.optimizer)


def prove(plan: RunPlan, scratch: Path, micro_batch: int = 1) -> Proof:
    """Prove one size of a plan, with default settings of the training; `scratch` is left empty.

    Raises: EngineError where the device has no room for it or a checkpoint cannot be kept.
    """
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = os.getppid()

    def attend() -> None:
        if os.getppid() != parent:
            raise EngineError("Who asked for the proof is gone.")

    found = Prover(plan, TrainingSettings(), scratch, attend).prove(micro_batch, plan.num_recomputed_blocks)
    if isinstance(found, str):
        raise no_room(plan, micro_batch, found)
    return found
