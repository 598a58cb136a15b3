"""The two sides of `bench.loss`, each in a process of its own: `python -m bench.loss_sides trainer|measure JSON`.

`trainer` trains Hugging Face's Trainer with what is asked of it, `measure` measures a finished run's model. The
answer is one line of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bench.loss_measure import Measure
from engine.corpus.shard import TokenStore
from engine.records import EvaluationRow, RunPlan
from engine.runs.folder import RunFolder
from engine.shape import ModelShape
from engine.train.model_folder import config_of, load_from


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the Trainer."""

    manifest: str
    """Path of the corpus.json of one of our runs."""
    shape: ModelShape
    tokens: int
    batch: int
    """Sequences a step."""
    rate: float
    """Peak of the cosine."""
    warmup_frac: float
    weight_decay: float
    seed: int
    num_points: int
    """Validations on the way."""


class _Windows(Dataset[dict[str, Tensor]]):
    """The windows that the trainer of the engine reads, for the Trainer to shuffle as it does."""

    def __init__(self, tokens: TokenStore, context: int) -> None:
        self._tokens, self._context = tokens, context

    def __len__(self) -> int:
        return (len(self._tokens) - 1) // self._context

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        # The Trainer's model shifts the labels itself: context + 1 tokens are context predictions, as in the engine.
        ids = torch.from_numpy(self._tokens.read(index * self._context, self._context + 1).astype("int64"))
        return {"input_ids": ids[:-1], "shift_labels": ids[1:], "labels": ids[1:]}


def train(asked: Asked) -> dict[str, Any]:
    """Train with the Trainer: points of [tokens, seconds, bits a byte], seconds without validations, and its end."""
    from transformers import (
        Qwen3Config,
        Qwen3ForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    measure = Measure(Path(asked.manifest), asked.shape)
    set_seed(asked.seed)
    config = Qwen3Config(**config_of(asked.shape, measure.manifest.end_of_text_id))
    config.use_cache = False
    model = Qwen3ForCausalLM(config)
    steps = asked.tokens // (asked.batch * asked.shape.context)
    due = {round(steps * index / asked.num_points) for index in range(1, asked.num_points + 1)}

    class Clock(TrainerCallback):
        """Validates now and then, and leaves the time of that out."""

        def __init__(self) -> None:
            self.points: list[tuple[int, float, float]] = []
            self.began_s = self.ended_s = self.validated_s = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.validate(0)
            self.validated_s, self.began_s = 0.0, time.monotonic()

        def on_step_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step in due:
                self.validate(state.global_step)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.ended_s = time.monotonic()

        def validate(self, step: int) -> None:
            started = time.monotonic()
            seconds = started - self.began_s - self.validated_s if step else 0.0
            found = measure.some(measure.decoder(model.state_dict()))
            self.points.append((step * asked.batch * asked.shape.context, seconds, found))
            self.validated_s += time.monotonic() - started

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=True,
            max_steps=steps,
            per_device_train_batch_size=asked.batch,
            learning_rate=asked.rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(asked.warmup_frac * steps),
            weight_decay=asked.weight_decay,
            seed=asked.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,  # or shift_labels would be dropped, and each window be a prediction short
        )
        windows = _Windows(TokenStore.open(Path(measure.manifest.folder), "train"), asked.shape.context)
        Trainer(model=model, args=arguments, train_dataset=windows, callbacks=[clock]).train()
    return {
        "parameters": model.num_parameters(),
        "points": clock.points,
        "train_s": clock.ended_s - clock.began_s - clock.validated_s,
        "validation_s": clock.validated_s,
        "tokens": steps * asked.batch * asked.shape.context,
        "bits_per_byte": measure.whole(measure.decoder(model.state_dict())),
        "how": f"{arguments.optim}, eager, betas {arguments.adam_beta1} {arguments.adam_beta2}, "
        f"clip {arguments.max_grad_norm}",
    }


def finished(run_dir: Path) -> dict[str, Any]:
    """What a finished run of the engine says of itself, and its model measured."""
    folder = RunFolder(run_dir)
    store = folder.open()
    try:
        plan = store.meta("plan", RunPlan)
        evaluations = store.rows(EvaluationRow)
        started_at = next(event.at for _, event in store.events(0) if event.kind == "trainer-started")
        ended_at = next(event.at for _, event in store.events(0) if event.kind == "model-written")
        is_compiled = any(event.kind == "compiled" for _, event in store.events(0))
    finally:
        store.close()
    validated_s, points = 0.0, []
    for row in evaluations:
        # A row is written when its validation is over.
        validated_s += row.seconds
        seconds = max(0.0, row.at - started_at - validated_s) if row.step else 0.0
        points.append((row.tokens, seconds, row.val_bits_per_byte))
    measure = Measure(folder.corpus_path, plan.shape)
    model = load_from(run_dir, "model").model
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "points": points,
        "train_s": ended_at - started_at - validated_s,
        "validation_s": validated_s,
        "tokens": plan.tokens_total,
        "bits_per_byte": measure.whole(model),
        "how": f"{plan.optimizer}, {'compiled' if is_compiled else 'eager'}",
    }


def main(verb: str, text: str) -> None:
    """Do one and answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print too
    found = train(msgspec.json.decode(text, type=Asked)) if verb == "trainer" else finished(Path(text))
    print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
