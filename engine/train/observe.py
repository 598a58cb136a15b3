"""Looking at the model between steps: its loss on the validation split, and a little text. Neither can end a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from engine.records import EvaluationRow, FurtherSampleRow, TextSampleRow
from engine.settings import TrainingSettings
from engine.train.device import Accelerator
from engine.train.evaluate import Validator
from engine.train.journal import Journal
from engine.train.model import Decoder
from engine.train.peak import is_out_of_memory
from engine.train.sample import NoTextError, Vocabulary, generate

SAMPLE_TOKENS = 96
SAMPLE_S = 5.0
"""A text sample ends after so many tokens or seconds."""

Made = TypeVar("Made")


class Observer:
    """Validates and samples, and writes the rows; what there is no memory for is left out."""

    def __init__(
        self,
        model: Decoder,
        validator: Validator,
        vocabulary: Vocabulary,
        accelerator: Accelerator,
        settings: TrainingSettings,
        journal: Journal,
    ) -> None:
        self._model, self._accelerator, self._settings = model, accelerator, settings
        self._vocabulary = vocabulary
        self._journal = journal
        self.validator = validator
        self.newest: EvaluationRow | None = None
        """The last validation that gave a figure; None before the first."""

    def evaluate(self, step: int, tokens: int) -> bool:
        """Measure the model on the validation split and write the row; False where the loss is not finite."""
        if not self.validator.num_tokens:
            return True
        self._journal.heartbeat.phase = "evaluating"
        started, batch = time.monotonic(), self.validator.batch
        found = self._unless_out_of_memory("validation", lambda: self.validator.evaluate(self._model))
        if self.validator.batch < batch:
            text = f"Memory ran out in a validation: going on with {self.validator.batch} windows at a time."
            self._journal.tell("warning", "out-of-memory", text, windows=self.validator.batch)
        if found is None:
            return True
        if not math.isfinite(found.loss):
            self._journal.tell("warning", "non-finite", "The validation loss is not finite.", step=step)
            return False
        self.newest = EvaluationRow(
            step=step,
            at=time.time(),
            tokens=tokens,
            val_loss=found.loss,
            val_bits_per_byte=self.validator.bits_per_byte(found.loss),
            seconds=time.monotonic() - started,
            num_tokens=found.num_tokens,
            attempt=self._journal.attempt,
            rollbacks=self._journal.rollbacks,
        )
        self._journal.write(self.newest)
        return True

    def sample(self, step: int) -> None:
        """Let the model write a little and keep it; weights that can say nothing are left to the next steps."""
        self._journal.heartbeat.phase = "writing a sample"
        prompts = self._settings.sample_prompt
        for number, prompt in enumerate([prompts] if isinstance(prompts, str) else prompts):
            try:
                text = self._unless_out_of_memory("text sample", partial(self._write, prompt))
            except NoTextError as error:
                self._journal.tell(
                    "warning", "non-finite", f"{error.title} There is no text sample.", step=step
                )
                return
            if text is None:
                return
            attempt, rollbacks = self._journal.attempt, self._journal.rollbacks
            if number == 0:
                row: TextSampleRow | FurtherSampleRow = TextSampleRow(
                    step=step, at=time.time(), prompt=prompt, text=text, attempt=attempt, rollbacks=rollbacks
                )
            else:
                row = FurtherSampleRow(
                    key=f"{step}:{number}",
                    step=step,
                    number=number,
                    at=time.time(),
                    prompt=prompt,
                    text=text,
                    attempt=attempt,
                    rollbacks=rollbacks,
                )
            self._journal.write(row)

    def _write(self, prompt: str) -> str:
        """What the model writes after the prompt, within its tokens and seconds."""
        self._model.eval()
        deadline = time.monotonic() + SAMPLE_S
        pieces = []
        with self._accelerator.autocast():
            stream = generate(
                self._model, self._vocabulary, prompt, max_tokens=SAMPLE_TOKENS, seed=self._settings.seed
            )
            for piece in stream:
                pieces.append(piece)
                if time.monotonic() > deadline:
                    break
        return "".join(pieces)

    def _unless_out_of_memory(self, what: str, work: Callable[[], Made]) -> Made | None:
        """What `work` makes; None where memory did not suffice, which an event then says."""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).split("\n")[0]
        # Outside the handler, whose traceback would keep the tensors alive.
        self._accelerator.free_cache()
        text = f"Memory ran out in a {what}, which is left out: {reason}"
        self._journal.tell("warning", "out-of-memory", text, reason=reason)
        return None
