"""The training of one run, from its newest checkpoint to the finished model. `Training.run` reads as one page."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import torch

from engine.corpus.manifest import load_manifest
from engine.corpus.shard import TokenStore
from engine.errors import CheckpointError, EngineError, TrainerExit
from engine.records import Level, RunPlan, RunState, StepRow
from engine.runs.folder import RunFolder
from engine.train.cadence import Cadence
from engine.train.checkpoint import (
    Checkpoint,
    Checkpoints,
    TrainState,
    newest_verified,
    random_state,
    restore_random_state,
)
from engine.train.compiling import compile_where_it_pays
from engine.train.control import Control, Leave
from engine.train.data import Position
from engine.train.device import Accelerator
from engine.train.evaluate import Validator
from engine.train.guard import MAX_SKIPPED_IN_A_ROW, Rollback, SetbackError, allocate_state
from engine.train.journal import Journal
from engine.train.matmul_probe import doubt_peak, keep_peak
from engine.train.model import Decoder
from engine.train.model_folder import ModelInfo, write_model
from engine.train.observe import Observer
from engine.train.opening import check_vocabulary, tell_device
from engine.train.optim import OptimizerSet, learning_rate_frac, muon_momentum
from engine.train.sample import Vocabulary
from engine.train.step import Stepper, StepResult
from engine.train.team import ALONE, Briefing, Team


def train(run_dir: Path, parent_pid: int, team: Team = ALONE) -> TrainerExit:
    """Train the run of this folder to its end, or until it is told to leave.

    `parent_pid` is the process that started this one: once it is gone, the trainer saves and leaves. `team` are the
    processes that this one leads.
    Raises: EngineError where a restart would not help; an event says so already.
    """
    folder = RunFolder(run_dir)
    journal = Journal(folder.store_path)
    try:
        code = Training(folder, journal, parent_pid, team).run()
        team.dismiss()
        return code
    except EngineError as error:
        journal.tell("error", "trainer-refused", str(error))
        team.dismiss()
        raise
    finally:
        journal.close()


class Training:
    """Everything one trainer has in hand."""

    def __init__(self, folder: RunFolder, journal: Journal, parent_pid: int, team: Team = ALONE) -> None:
        self.folder, self.journal, self.team = folder, journal, team
        self.control = Control(journal, self.save, parent_pid)
        self.control.listen()
        journal.heartbeat.phase = "loading"
        self.plan = journal.store.meta("plan", RunPlan)
        self.settings = folder.settings().training
        self.manifest = load_manifest(folder.corpus_path)
        check_vocabulary(self.plan, self.manifest.vocab_size)
        corpus = Path(self.manifest.folder)
        tokens = TokenStore.open(corpus, "train")
        self.accelerator = Accelerator(self.plan, team.local_rank)
        self.peak_cache = folder.workspace / "cache" / "peak.json"
        keep_peak(journal, self.peak_cache, self.plan, self.accelerator)
        torch.manual_seed(self.settings.seed)
        self.model = Decoder(self.plan.shape, num_recomputed_blocks=self.plan.num_recomputed_blocks)
        self.model.to(self.accelerator.device)
        self.optimizer = OptimizerSet(
            self.model,
            self.plan.optimizer,
            self.plan.learning_rate,
            self.settings.weight_decay,
            muon_momentum(self.plan.steps),
        )
        self.stepper = Stepper(
            self.model,
            self.optimizer,
            self.accelerator,
            self.plan,
            self.settings,
            tokens,
            journal,
            parts=self.manifest.parts,
            team=team,
        )
        validation = TokenStore.open(corpus, "validation")
        self.validator = Validator(validation, self.manifest, self.plan.shape.context, self.accelerator)
        vocabulary = Vocabulary(folder.path / "tokenizer.json", self.manifest.end_of_text_id)
        self.observer = Observer(
            self.model, self.validator, vocabulary, self.accelerator, self.settings, journal
        )
        self.checkpoints = Checkpoints(folder.path, self.settings.keep_checkpoints)
        self.step, self.position, self.skipped_steps = 0, Position(), 0
        self.rollback = Rollback()
        self.rate_scale = 1.0
        self.saved_step: int | None = None
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
        """Resume, train to the end, going back where the state went bad, and leave when told to."""
        try:
            self.team.begin(Briefing(plan=self.plan, settings=self.settings, manifest=self.manifest))
            self.resume()
            self.compile()
            if not self.control.is_paused:
                self.journal.set_state(RunState.RUNNING)
            while True:
                try:
                    self.train()
                    return self.finish()
                except SetbackError as setback:
                    self.roll_back(setback)
        except Leave as leave:
            return self.leave(leave)
        finally:
            self.stepper.close()
            self.check_peak()

    def check_peak(self) -> None:
        """Have the device measured anew the next time, where this training was faster than its peak."""
        if self.step_s is not None:
            rate = self.plan.tokens_per_step / self.step_s / self.team.size
            doubt_peak(self.peak_cache, self.plan, self.accelerator, rate)

    def train(self) -> None:
        """Step after step, with what is due between them."""
        if self.step == 0:
            self.evaluate()
            self.sample()
        self.stepper.begin(self.position)
        while self.step < self.plan.steps:
            self.journal.heartbeat.phase = "training"
            frac = learning_rate_frac(
                self.step + 1, self.plan.steps, self.settings.warmup_frac, self.settings.decay_frac
            )
            self.optimizer.set_rate(self.rate_scale * frac)
            result = self.stepper.step(self.position, self.step + 1, self.attend)
            self.advance(result)
            self.do_what_is_due()

    def attend(self) -> float:
        """Heed commands; the seconds that training was held in all."""
        self.control.attend()
        return self.control.held_s

    def resume(self) -> None:
        """Start from the newest good checkpoint, or from the seed."""
        self.journal.heartbeat.phase = "loading"
        checkpoint = self.restore()
        self.rollback = self.journal.store.find_meta("rollback", Rollback) or self.rollback
        self.rate_scale = min(self.rate_scale, self.rollback.rate_scale)
        if self.rollback.to_step == self.step and self.rollback.position is not None:
            self.position = self.rollback.position
        self.tell_start(None if checkpoint is None else checkpoint.folder.name)

    def restore(self) -> Checkpoint | None:
        """Take over the newest good checkpoint's state, or begin from the seed where there is none."""
        search = newest_verified(self.folder.path)
        for error in search.damaged:
            self.journal.tell("warning", "checkpoint-damaged", str(error))
        checkpoint = search.checkpoint
        self.optimizer.zero_grad()
        for optimizer in self.optimizer.optimizers:
            optimizer.state.clear()
        if checkpoint is None:
            self.model.initialise(self.settings.seed)
            self.accelerator.reset_scaler({})
            self.step, self.position, self.skipped_steps, self.saved_step = 0, Position(), 0, None
        else:
            state = checkpoint.state
            checkpoint.check_is_of(self.plan)
            checkpoint.load_model(self.model)
            checkpoint.load_optimizer(self.optimizer)
            restore_random_state(state)
            self.accelerator.reset_scaler(state.loss_scale)
            self.step, self.position, self.skipped_steps = state.step, state.position, state.skipped_steps
            self.rate_scale = min(self.rate_scale, state.rate_scale)
            self.stepper.most_at_once = state.micro_batch
            self.validator.settle(state.validation_windows)
            self.saved_step = state.step
            self.checkpoints.remember(checkpoint)
            self.journal.enter(checkpoint.row())
        allocate_state(self.model, self.optimizer)
        self.team.spread(self.model, self.optimizer, self.accelerator.scaler.state_dict())
        return checkpoint

    def roll_back(self, setback: SetbackError) -> None:
        """Go back to the newest good checkpoint, or to the seed.

        Raises: EngineError where that has not helped before.
        """
        self.journal.heartbeat.phase = "going back"
        self.stepper.close()
        rollback = self.rollback.following(setback, self.position, self.rate_scale)
        most_at_once = self.stepper.most_at_once
        checkpoint = self.restore()
        self.stepper.most_at_once = min(most_at_once, self.stepper.most_at_once)
        self.stepper.skipped_in_a_row = 0
        self.rollback = rollback.at(self.step)
        self.rate_scale = rollback.rate_scale
        self.position = self.rollback.position or self.position
        self.journal.keep(rollback=self.rollback)
        self.journal.begin_stretch(self.rollback.count, self.step)
        where = "the beginning" if checkpoint is None else checkpoint.folder.name
        how = ""
        if setback.is_numeric:
            how = f", with a learning rate of {self.rate_scale:g} times the planned one and the text that follows"
        text = f"{setback.reason} Training went back to {where} and goes on from there{how}."
        figures = msgspec.to_builtins(self.rollback)
        self.journal.tell("warning", "rolled-back", text, reason=setback.reason, **figures)

    def leave(self, leave: Leave) -> TrainerExit:
        """Save what is worth it, and say why this trainer ends."""
        level: Level = "warning"
        try:
            level, kept = "info", f"Saved {self.save()}."
        except SetbackError as setback:
            kept = f"{setback.reason} So nothing was saved, and the good checkpoints stay."
        self.journal.tell(level, "trainer-left", f"{leave.reason} {kept}", step=self.step)
        return leave.code

    def tell_start(self, resumed_from: str | None) -> None:
        """The events that say what is at work, and from where."""
        tell_device(self.journal, self.plan, self.accelerator, self.team)
        self.journal.begin_stretch(self.rollback.count, self.step)
        if resumed_from:
            text = f"Resumed from {resumed_from}, {self.tokens:,} of {self.plan.tokens_total:,} tokens."
            self.journal.tell("info", "resumed", text, step=self.step, checkpoint=resumed_from)

    def compile(self) -> None:
        """Compile where that is worth it for what is left of the run."""
        tokens_left = self.plan.tokens_total - self.tokens
        rate = self.journal.store.training_tokens_per_s() if self.step else None
        left_s = tokens_left / rate if rate else None
        if tokens_left:
            compile_where_it_pays(
                self.model,
                self.accelerator,
                self.journal,
                self.plan,
                self.settings,
                self.stepper.micro_batch,
                left_s,
                self.team,
            )

    def advance(self, result: StepResult) -> None:
        """Count a step that was done and write its row; at the end of an epoch, free the cache.

        Raises: SetbackError after several steps in a row that went wrong.
        """
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
        if self.stepper.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            text = f"{MAX_SKIPPED_IN_A_ROW} steps in a row had to be left out."
            raise SetbackError(text, self.step - MAX_SKIPPED_IN_A_ROW + 1)

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
            rollbacks=self.rollback.count,
        )

    def do_what_is_due(self) -> None:
        """Validation, text sample and checkpoint, each at its own time; at the end all of them come anyway."""
        if self.step >= self.plan.steps:
            return
        run_s = None if self.step_s is None else self.step_s * self.plan.steps
        if self.evaluations.is_due(run_s):
            self.evaluate()
        if self.samples.is_due(run_s) and not self.stepper.skipped_in_a_row:
            self.sample()
        if self.saves.is_due(run_s) and not self.stepper.skipped_in_a_row:
            try:
                self.save()
            except CheckpointError as error:
                self.journal.tell("error", "checkpoint-failed", f"{error} Training goes on without it.")
                self.saves.done()

    def evaluate(self) -> None:
        """Measure the model on the validation split.

        Raises: SetbackError where nothing comes of the weights any more.
        """
        is_finite = self.observer.evaluate(self.step, self.tokens)
        self.evaluations.done()
        if not is_finite and (unsound := self.stepper.find_unsound()):
            raise SetbackError(f"The validation loss is not finite. {unsound}", self.step)

    def sample(self) -> None:
        """Let the model write a little."""
        self.observer.sample(self.step)
        self.samples.done()

    def save(self) -> str:
        """Make a checkpoint of the last whole step, unless there is one; its name.

        Raises: CheckpointError where it cannot be written; SetbackError where the state has gone bad.
        """
        if self.saved_step == self.step:
            return f"step-{self.step}"
        if unsound := self.stepper.find_unsound():
            raise SetbackError(unsound, self.step)
        phase = self.journal.heartbeat.phase
        self.journal.heartbeat.phase = "saving"
        row = self.checkpoints.save(self.model, self.optimizer, self.state())
        self.saved_step = self.step
        self.saves.done()
        self.journal.write(row)
        if self.rollback.in_a_row and not self.stepper.skipped_in_a_row:
            self.rollback = self.rollback.past(self.step)
            self.journal.keep(rollback=self.rollback)
        text = f"Saved {row.folder}: {row.total_bytes / 2**20:,.1f} MiB, verified, in {row.write_s:.1f} s."
        figures = {"step": row.step, "bytes": row.total_bytes, "seconds": row.write_s}
        self.journal.tell("info", "checkpoint", text, **figures)
        if self.journal.flush():
            for problem in self.checkpoints.prune():
                self.journal.tell("warning", "checkpoint-kept", problem, step=self.step)
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
            micro_batch=self.stepper.most_at_once,
            skipped_steps=self.skipped_steps,
            rate_scale=self.rate_scale,
            validation_windows=self.validator.settled_windows,
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
        info = ModelInfo.of(self.folder.id, self.plan, self.manifest, self.observer.newest, self.step)
        write_model(self.folder.path, self.model, info)
        text = (
            f"Finished: {self.tokens:,} tokens in {self.step:,} steps; the model is in {self.folder.model}."
        )
        self.journal.tell("info", "model-written", text, **msgspec.to_builtins(info))
        return TrainerExit.FINISHED
