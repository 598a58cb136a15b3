"""The training of one run, from its newest checkpoint to the finished model. `Training.run` reads as one page."""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec
import torch

from engine.corpus.manifest import load_manifest
from engine.corpus.shard import TokenStore
from engine.errors import CheckpointError, CorpusError, EngineError
from engine.records import EvaluationRow, RunPlan, RunState, StepRow, TextSampleRow
from engine.runs.folder import RunFolder
from engine.train.cadence import Cadence
from engine.train.checkpoint import (
    Checkpoints,
    TrainState,
    newest_verified,
    random_state,
    restore_random_state,
)
from engine.train.control import Control, Leave, TrainerExit
from engine.train.data import Position
from engine.train.device import Accelerator, compile_blocks
from engine.train.evaluate import Validator
from engine.train.journal import Journal
from engine.train.model import Decoder
from engine.train.model_folder import ModelInfo, write_model
from engine.train.optim import OptimizerSet, learning_rate_frac
from engine.train.sample import Vocabulary, generate
from engine.train.step import Stepper, StepResult

_SAMPLE_TOKENS = 96
_SAMPLE_S = 5.0
"""A text sample ends after so many tokens or seconds."""


def train(run_dir: Path, parent_pid: int) -> TrainerExit:
    """Train the run of this folder to its end, or until it is told to leave.

    `parent_pid` is the process that started this one: once it is gone, the trainer saves and leaves.
    Raises: EngineError where a restart would not help; an event says so already.
    """
    folder = RunFolder(run_dir)
    journal = Journal(folder.store_path)
    try:
        return Training(folder, journal, parent_pid).run()
    except EngineError as error:
        journal.tell("error", "trainer-refused", str(error))
        raise
    finally:
        journal.close()


class Training:
    """Everything one trainer has in hand."""

    def __init__(self, folder: RunFolder, journal: Journal, parent_pid: int) -> None:
        self.folder, self.journal = folder, journal
        self.control = Control(journal, self.save, parent_pid)
        self.control.listen()
        journal.heartbeat.phase = "loading"
        self.plan = journal.store.meta("plan", RunPlan)
        self.settings = folder.settings().training
        self.manifest = load_manifest(folder.corpus_path)
        _check_vocabulary(self.plan, self.manifest.vocab_size)
        corpus = Path(self.manifest.folder)
        tokens = TokenStore.open(corpus, "train")
        self.vocabulary = Vocabulary(folder.path / "tokenizer.json", self.manifest.end_of_text_id)
        self.accelerator = Accelerator(self.plan)
        torch.manual_seed(self.settings.seed)
        self.model = Decoder(self.plan.shape, num_recomputed_blocks=self.plan.num_recomputed_blocks)
        self.model.to(self.accelerator.device)
        self.optimizer = OptimizerSet(
            self.model, self.plan.optimizer, self.plan.learning_rate, self.settings.weight_decay
        )
        self.stepper = Stepper(
            self.model, self.optimizer, self.accelerator, self.plan, self.settings, tokens, journal
        )
        self.validator = Validator(
            TokenStore.open(corpus, "validation"), self.manifest, self.plan.shape.context, self.accelerator
        )
        self.checkpoints = Checkpoints(folder.path, self.settings.keep_checkpoints)
        self.step, self.position, self.skipped_steps = 0, Position(), 0
        self.saved_step: int | None = None
        self.last_evaluation: EvaluationRow | None = None
        self.step_s: float | None = None  # smoothed; None before the first
        every = self.settings
        self.evaluations = Cadence(every.eval_every_s, per_run=20, least_s=2.0, most_s=1800.0)
        self.samples = Cadence(every.sample_every_s, per_run=10, least_s=3.0, most_s=3600.0)
        self.saves = Cadence(every.checkpoint_every_s, per_run=10, least_s=3.0, most_s=900.0)

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.step * self.plan.tokens_per_step

    def run(self) -> TrainerExit:
        """Resume, then step after step with what is due between them, then the finished model."""
        try:
            self.resume()
            self.compile()
            self.journal.set_state(RunState.RUNNING)
            if self.step == 0:
                self.evaluate()
                self.sample()
            self.stepper.begin(self.position)
            while self.step < self.plan.steps:
                self.journal.heartbeat.phase = "training"
                frac = learning_rate_frac(
                    self.step + 1, self.plan.steps, self.settings.warmup_frac, self.settings.decay_frac
                )
                self.optimizer.set_rate(frac)
                result = self.stepper.step(self.position, self.attend)
                self.advance(result)
                self.do_what_is_due()
            return self.finish()
        except Leave as leave:
            name = self.save()
            self.journal.tell("info", "trainer-left", f"{leave.reason} Saved {name}.", step=self.step)
            return leave.code
        finally:
            self.stepper.close()

    def attend(self) -> float:
        """Heed commands; the seconds that training was held in all."""
        self.control.attend()
        return self.control.held_s

    def resume(self) -> None:
        """Start from the newest good checkpoint, or from the seed."""
        self.journal.heartbeat.phase = "loading"
        search = newest_verified(self.folder.path)
        for error in search.damaged:
            self.journal.tell("warning", "checkpoint-damaged", str(error))
        checkpoint = search.checkpoint
        if checkpoint is None:
            self.model.initialise(self.settings.seed)
        else:
            state = checkpoint.state
            _check_same_run(self.plan, state, checkpoint.folder)
            checkpoint.load_model(self.model)
            checkpoint.load_optimizer(self.optimizer)
            restore_random_state(state)
            if state.loss_scale:
                self.accelerator.scaler.load_state_dict(dict(state.loss_scale))
            self.step, self.position, self.skipped_steps = state.step, state.position, state.skipped_steps
            self.stepper.micro_batch = state.micro_batch
            self.saved_step = state.step
            self.checkpoints.remember(checkpoint)
            self.journal.enter(checkpoint.row())
        self.tell_start(None if checkpoint is None else checkpoint.folder.name)

    def tell_start(self, resumed_from: str | None) -> None:
        """The events that say what is at work, and from where."""
        accelerator, device = self.accelerator, self.plan.device
        self.journal.tell(
            "info",
            "trainer-started",
            f"Training on {device.name} with torch {torch.__version__}: {accelerator.precision}, "
            f"{accelerator.num_threads} threads.",
            device=device.kind,
            torch=str(torch.__version__),
            precision=accelerator.precision,
            threads=accelerator.num_threads,
            compiled=self.plan.is_compiled,
        )
        if resumed_from:
            text = f"Resumed from {resumed_from}, {self.tokens:,} of {self.plan.tokens_total:,} tokens."
            self.journal.tell("info", "resumed", text, step=self.step, checkpoint=resumed_from)

    def compile(self) -> None:
        """Compile where the plan says so; what cannot be compiled is trained eagerly."""
        if not self.plan.is_compiled or self.step >= self.plan.steps:
            return
        self.journal.heartbeat.phase = "compiling"
        started = time.monotonic()
        reason = compile_blocks(self.model, self.accelerator, self.stepper.micro_batch)
        seconds = time.monotonic() - started
        if reason:
            text = f"The model could not be compiled and is trained as it is: {reason}"
            self.journal.tell("warning", "compile-failed", text, seconds=seconds)
        else:
            self.journal.tell("info", "compiled", f"Compiled the model in {seconds:.0f} s.", seconds=seconds)

    def advance(self, result: StepResult) -> None:
        """Count a step that was done and write its row; at the end of an epoch, free the cache."""
        epoch = self.position.epoch
        self.position = self.stepper.order.advance(self.position, self.stepper.windows_per_step)
        self.step += 1
        self.step_s = result.seconds if self.step_s is None else 0.9 * self.step_s + 0.1 * result.seconds
        if result.is_skipped:
            self.skipped_steps += 1
        else:
            self.journal.write(self.step_row(result))
        if self.position.epoch > epoch:
            text, figures = self.accelerator.free_cache()
            text = f"Epoch {self.position.epoch} is over. {text}"
            self.journal.tell("info", "epoch", text, epoch=self.position.epoch, step=self.step, **figures)

    def step_row(self, result: StepResult) -> StepRow:
        """The row of the step that was just done."""
        return StepRow(
            step=self.step,
            at=time.time(),
            tokens=self.tokens,
            loss=result.loss,
            learning_rate=self.optimizer.learning_rate,
            tokens_per_s=self.plan.tokens_per_step / result.seconds,
            micro_batch=self.stepper.micro_batch,
            grad_accum=self.stepper.grad_accum,
            grad_norm=result.grad_norm,
            memory_bytes=self.accelerator.memory_bytes(),
            attempt=self.journal.attempt,
        )

    def do_what_is_due(self) -> None:
        """Validation, text sample and checkpoint, each at its own time; at the end all of them come anyway."""
        if self.step >= self.plan.steps:
            return
        run_s = None if self.step_s is None else self.step_s * self.plan.steps
        if self.evaluations.is_due(run_s):
            self.evaluate()
        if self.samples.is_due(run_s):
            self.sample()
        if self.saves.is_due(run_s):
            try:
                self.save()
            except CheckpointError as error:
                self.journal.tell("error", "checkpoint-failed", f"{error} Training goes on without it.")
                self.saves.done()

    def evaluate(self) -> None:
        """Measure the model on the validation split and write the row."""
        if not self.validator.num_tokens:
            return
        self.journal.heartbeat.phase = "evaluating"
        started = time.monotonic()
        loss = self.validator.evaluate(self.model)
        self.evaluations.done()
        if not math.isfinite(loss):
            self.journal.tell("warning", "non-finite", "The validation loss is not finite.", step=self.step)
            return
        self.last_evaluation = EvaluationRow(
            step=self.step,
            at=time.time(),
            tokens=self.tokens,
            val_loss=loss,
            val_bits_per_byte=self.validator.bits_per_byte(loss),
            seconds=time.monotonic() - started,
        )
        self.journal.write(self.last_evaluation)

    def sample(self) -> None:
        """Let the model write a little and keep it."""
        self.journal.heartbeat.phase = "writing a sample"
        self.model.eval()
        deadline = time.monotonic() + _SAMPLE_S
        pieces = []
        prompt = self.settings.sample_prompt
        with self.accelerator.autocast():
            stream = generate(
                self.model, self.vocabulary, prompt, max_tokens=_SAMPLE_TOKENS, seed=self.settings.seed
            )
            for piece in stream:
                pieces.append(piece)
                if time.monotonic() > deadline:
                    break
        self.samples.done()
        row = TextSampleRow(step=self.step, at=time.time(), prompt=prompt, text="".join(pieces))
        self.journal.write(row)

    def save(self) -> str:
        """Make a checkpoint of the last whole step, unless there is one; its name.

        Raises: CheckpointError where it cannot be written.
        """
        if self.saved_step == self.step:
            return f"step-{self.step}"
        phase = self.journal.heartbeat.phase
        self.journal.heartbeat.phase = "saving"
        row = self.checkpoints.save(self.model, self.optimizer, self.state())
        self.saved_step = self.step
        self.saves.done()
        self.journal.write(row)
        text = f"Saved {row.folder}: {row.total_bytes / 2**20:,.1f} MiB, verified, in {row.write_s:.1f} s."
        self.journal.tell(
            "info", "checkpoint", text, step=row.step, bytes=row.total_bytes, seconds=row.write_s
        )
        if self.journal.flush():
            self.checkpoints.prune()
        self.journal.heartbeat.phase = phase
        return row.folder

    def state(self) -> TrainState:
        """What a checkpoint keeps beside the tensors."""
        rng_cpu, rng_cuda = random_state()
        return TrainState(
            step=self.step,
            tokens=self.tokens,
            position=self.position,
            shape=self.plan.shape,
            optimizer=self.plan.optimizer,
            tokens_per_step=self.plan.tokens_per_step,
            steps=self.plan.steps,
            micro_batch=self.stepper.micro_batch,
            skipped_steps=self.skipped_steps,
            loss_scale=self.accelerator.scaler.state_dict(),
            rng_cpu=rng_cpu,
            rng_cuda=rng_cuda,
        )

    def finish(self) -> TrainerExit:
        """The last validation, sample and checkpoint, and the model for others."""
        self.stepper.close()
        self.save()
        self.evaluate()
        self.sample()
        self.journal.heartbeat.phase = "writing the model"
        measured = self.last_evaluation
        info = ModelInfo(
            run_id=self.folder.id,
            preset=self.plan.preset,
            parameters=self.plan.shape.parameters,
            shape=self.plan.shape,
            corpus=self.manifest.description,
            step=self.step,
            tokens=self.tokens,
            val_loss=measured.val_loss if measured else None,
            val_bits_per_byte=measured.val_bits_per_byte if measured else None,
            end_of_text_id=self.manifest.end_of_text_id,
            finished_at=time.time(),
        )
        write_model(self.folder.path, self.model, info)
        text = (
            f"Finished: {self.tokens:,} tokens in {self.step:,} steps; the model is in {self.folder.model}."
        )
        self.journal.tell("info", "model-written", text, **msgspec.to_builtins(info))
        return TrainerExit.FINISHED


def _check_vocabulary(plan: RunPlan, vocab_size: int) -> None:
    if vocab_size != plan.shape.vocab_size:
        raise CorpusError(
            f"The corpus was tokenized for {vocab_size:,} ids, the model has {plan.shape.vocab_size:,}.",
            "Start a new run.",
        )


def _check_same_run(plan: RunPlan, state: TrainState, folder: Path) -> None:
    here = plan.shape, plan.optimizer, plan.tokens_per_step, plan.steps
    if here != (state.shape, state.optimizer, state.tokens_per_step, state.steps):
        raise CheckpointError(
            f"{folder} belongs to another run: its shape, optimizer or length differ from this run's plan.",
            "Move it out of this run's folder.",
        )
