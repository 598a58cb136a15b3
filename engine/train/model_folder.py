"""`model/`: the finished model as others read it (weights, config.json of a Qwen3, tokenizer), and reading it back.

Its manifest.json says what every file must be, as a checkpoint's does; what differs from it is not loaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine import atomic
from engine.corpus.manifest import CorpusManifest
from engine.errors import CheckpointError
from engine.records import EvaluationRow, RunPlan
from engine.shape import ModelShape
from engine.train.checkpoint import MODEL_FILE, load_weights, newest_verified, verify, verify_tensors
from engine.train.manifest import Label, read_small, verify_files, write_manifest
from engine.train.model import INIT_STD, NORM_EPS, ROPE_THETA, Decoder
from engine.train.tensorfile import write_tensors

INFO_FILE, CONFIG_FILE, TOKENIZER_FILE = "info.json", "config.json", "tokenizer.json"
_FILES = (MODEL_FILE, CONFIG_FILE, INFO_FILE, TOKENIZER_FILE)


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished model is and how good it became."""

    run_id: str
    preset: str
    parameters: int
    shape: ModelShape
    corpus: str
    """As the settings say it; raw text from outside."""
    step: int
    tokens: int
    val_loss: float | None
    """Nats a token; None where it could not be measured."""
    val_bits_per_byte: float | None
    end_of_text_id: int
    finished_at: float

    @classmethod
    def of(
        cls, run_id: str, plan: RunPlan, corpus: CorpusManifest, measured: EvaluationRow | None, step: int
    ) -> ModelInfo:
        """What a run's model is after `step` steps; `measured` is its last validation, None where there was none."""
        return cls(
            run_id=run_id,
            preset=plan.preset,
            parameters=plan.shape.parameters,
            shape=plan.shape,
            corpus=corpus.description,
            step=step,
            tokens=step * plan.tokens_per_step,
            val_loss=measured.val_loss if measured else None,
            val_bits_per_byte=measured.val_bits_per_byte if measured else None,
            end_of_text_id=corpus.end_of_text_id,
            finished_at=time.time(),
        )


class Loaded(NamedTuple):
    """A model that was read back."""

    model: Decoder
    source: str
    """"model", or the name of the checkpoint's folder."""
    problems: tuple[CheckpointError, ...]
    """One for each newer one that could not be used, newest first."""


def config_of(shape: ModelShape, end_of_text_id: int) -> dict[str, object]:
    """config.json of transformers' `Qwen3ForCausalLM`. Source: transformers, configuration_qwen3.py."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.n_embd,
        "initializer_range": INIT_STD,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.context,
        "max_window_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_hidden_layers": shape.n_layer,
        "num_key_value_heads": shape.n_kv_head,
        "rms_norm_eps": NORM_EPS,
        "rope_scaling": None,
        "rope_theta": ROPE_THETA,
        "sliding_window": None,
        "tie_word_embeddings": shape.tie_embeddings,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocab_size,
    }


def write_model(run_dir: Path, model: Decoder, info: ModelInfo) -> Path:
    """Write `model/` aside and put it in place whole; one that is there already is replaced.

    Raises: CheckpointError where the disk is full or the folder cannot be written.
    """
    target, aside = run_dir / "model", run_dir / f".model.{os.getpid()}"
    try:
        for leftover in run_dir.glob(".model.*"):
            shutil.rmtree(leftover)
        aside.mkdir(mode=0o700)
        weights = write_tensors(aside / MODEL_FILE, model.named_parameters(), {"run": info.run_id})
        config = msgspec.json.encode(config_of(info.shape, info.end_of_text_id))
        small = {
            CONFIG_FILE: msgspec.json.format(config, indent=2),
            INFO_FILE: msgspec.json.format(msgspec.json.encode(info), indent=2),
            TOKENIZER_FILE: (run_dir / TOKENIZER_FILE).read_bytes(),
        }
        for name, content in small.items():
            atomic.write_bytes(aside / name, content)
        meant = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
        write_manifest(aside, {MODEL_FILE: weights, **meant}, info.step, info.finished_at)
        if target.exists():
            target.rename(run_dir / f".model.old.{os.getpid()}")
        aside.rename(target)
        atomic.fsync_folder(run_dir)
        for leftover in run_dir.glob(".model.*"):
            shutil.rmtree(leftover, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"The finished model could not be written: {error.strerror or error}.",
            f"Make room on the disk of {run_dir}; the last checkpoint holds the same weights.",
        ) from error
    return target


def load_newest(run_dir: Path) -> Loaded:
    """The finished model, else the newest good checkpoint's, in evaluation mode on the CPU.

    Raises: CheckpointError where there is neither; restore a checkpoint, or train until the run has one.
    """
    problems: list[CheckpointError] = []
    finished = run_dir / "model"
    if finished.is_dir():
        try:
            return Loaded(_load_finished(finished), "model", ())
        except CheckpointError as error:
            problems.append(error)
    search = newest_verified(run_dir)
    problems.extend(search.damaged)
    if search.checkpoint is None:
        titles = [f"{run_dir} has no checkpoint that could be used.", *(error.title for error in problems)]
        remedy = "Restore one of them from a copy, or train anew." if problems else "Wait for its first one."
        raise CheckpointError(" ".join(titles), remedy)
    folder = search.checkpoint.folder
    model = _load(search.checkpoint.state.shape, folder / MODEL_FILE)
    return Loaded(model, folder.name, tuple(problems))


def load_from(run_dir: Path, source: str) -> Loaded:
    """The model of one source: "model", or the name of a checkpoint's folder; empty: as `load_newest`.

    Raises: CheckpointError where it is damaged or gone; choose another one.
    """
    if not source:
        return load_newest(run_dir)
    if source == "model":
        return Loaded(_load_finished(run_dir / source), source, ())
    checkpoint = verify(run_dir / "checkpoints" / source)
    return Loaded(_load(checkpoint.state.shape, checkpoint.folder / MODEL_FILE), source, ())


def _load_finished(folder: Path) -> Decoder:
    """The finished model, once every file of it is what was written. Raises: CheckpointError."""
    label = Label(f"The finished model in {folder}", "Restore it from a copy.")
    verify_files(folder, _FILES, label)
    try:
        shape = msgspec.json.decode(read_small(folder / INFO_FILE), type=ModelInfo).shape
    except (OSError, msgspec.MsgspecError) as error:
        raise label.damaged(f"{INFO_FILE} cannot be read ({error})") from error
    verify_tensors(folder / MODEL_FILE, shape, label)
    return _load(shape, folder / MODEL_FILE)


def _load(shape: ModelShape, weights: Path) -> Decoder:
    model = Decoder(shape)
    load_weights(weights, model)
    return model.eval()
