"""Checkpoints: what counts as one, how it is written, and how the newest good one is found again.

A checkpoint counts once it was written aside, synced, read back and hashed, renamed, and entered in the run's
store; only then do older ones go. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import time
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from engine import atomic
from engine.errors import CheckpointError
from engine.records import CheckpointRow, RunPlan
from engine.shape import ModelShape
from engine.train.data import Position
from engine.train.manifest import Label, read_small, verify_files, write_manifest
from engine.train.optim import OptimizerSet
from engine.train.peak import is_out_of_memory
from engine.train.tensorfile import count_elements, read_tensors, write_tensors

MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"
_PREFIX = "step-"
_REMEDY = "The next older good one is used; check the disk if this happens again."


class TrainState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the tensors that the next step depends on."""

    step: int
    """Steps done."""
    tokens: int
    position: Position
    """Where the next step's first window is."""
    shape: ModelShape
    optimizer: str
    tokens_per_step: int
    steps: int
    """Steps in all: what the schedule is stretched over."""
    micro_batch: int
    """As it last was; it may have been lowered for want of memory."""
    skipped_steps: int = 0
    """Steps left out so far because loss or gradient was not finite."""
    rate_scale: float = 1.0
    """Times the rate of the schedule: below 1 once training has gone back from a state gone bad."""
    validation_windows: int = 0
    """Windows that a validation of this run takes; 0: none was made yet."""
    loss_scale: dict[str, int | float] = {}
    """The gradient scaler's state; empty without one."""
    rng_cpu: str = ""
    """torch's random state, base64."""
    rng_cuda: str | None = None
    """None without a GPU."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One whose files are what they were when it was written."""

    folder: Path
    state: TrainState
    written_at: float
    total_bytes: int
    write_s: float = 0.0
    """Seconds that writing it took; 0 where it was found and not written."""

    def row(self) -> CheckpointRow:
        """Its row in the run's store."""
        return CheckpointRow(
            step=self.state.step,
            at=self.written_at,
            tokens=self.state.tokens,
            folder=self.folder.name,
            total_bytes=self.total_bytes,
            write_s=self.write_s,
        )

    def check_is_of(self, plan: RunPlan) -> None:
        """Raise CheckpointError where it belongs to another run."""
        here = plan.shape, plan.optimizer, plan.tokens_per_step, plan.steps
        if here != (self.state.shape, self.state.optimizer, self.state.tokens_per_step, self.state.steps):
            raise CheckpointError(
                f"{self.folder} belongs to another run: its shape, optimizer or length differ from this run's plan.",
                "Move it out of this run's folder.",
            )

    def load_model(self, model: nn.Module) -> None:
        """Fill the model's weights, a tensor at a time. Raises: CheckpointError where they do not belong to it."""
        load_weights(self.folder / MODEL_FILE, model)

    def load_optimizer(self, optimizer: OptimizerSet) -> None:
        """Fill the optimizer's state. Raises: CheckpointError where it does not belong to it."""
        try:
            optimizer.load(read_tensors(self.folder / OPTIMIZER_FILE))
        except KeyError as error:
            raise _foreign(self.folder, f"its optimizer knows {error}") from error


class Search(msgspec.Struct, frozen=True):
    """What was found below `checkpoints/`."""

    checkpoint: Checkpoint | None
    """The newest good one; None where there is none."""
    damaged: tuple[CheckpointError, ...]
    """One for each newer one that cannot be used, newest first."""


def load_weights(path: Path, model: nn.Module) -> None:
    """Copy the tensors of a file into a model's parameters.

    Raises: CheckpointError where names or shapes differ.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_tensors(path):
            parameter = parameters.pop(name, None)
            if parameter is None or parameter.shape != tensor.shape:
                raise _foreign(path.parent, f"it holds {name} as {list(tensor.shape)}")
            parameter.copy_(tensor)
    if parameters:
        raise _foreign(path.parent, f"it lacks {next(iter(parameters))}")


def newest_verified(run_dir: Path) -> Search:
    """The newest checkpoint whose every byte is as it was written; all files of it are read."""
    damaged: list[CheckpointError] = []
    for folder in _newest_first(run_dir / "checkpoints"):
        try:
            return Search(verify(folder), tuple(damaged))
        except CheckpointError as error:
            damaged.append(error)
    return Search(None, tuple(damaged))


def verify(folder: Path) -> Checkpoint:
    """Read a checkpoint's files and compare them with its manifest, and what they claim with what they hold.

    Raises: CheckpointError that names the folder, the file and what is wrong with it.
    """
    label = Label(f"Checkpoint {folder.name}", _REMEDY)
    manifest = verify_files(folder, (MODEL_FILE, OPTIMIZER_FILE, STATE_FILE), label)
    try:
        state = msgspec.json.decode(read_small(folder / STATE_FILE), type=TrainState)
    except (OSError, msgspec.MsgspecError) as error:
        raise label.damaged(f"{STATE_FILE} cannot be read ({error})") from error
    if folder.name != f"{_PREFIX}{state.step}":
        raise label.damaged(f"it holds step {state.step}")
    verify_tensors(folder / OPTIMIZER_FILE, None, label)
    verify_tensors(folder / MODEL_FILE, state.shape, label)
    return Checkpoint(
        folder=folder, state=state, written_at=manifest.written_at, total_bytes=manifest.total_bytes
    )


def verify_tensors(path: Path, shape: ModelShape | None, label: Label) -> None:
    """Look at the header of a file of tensors: it is one, and holds a whole model of `shape`; None: anything.

    Nothing is loaded, so that what claims to be huge is refused before memory is asked for.
    Raises: CheckpointError.
    """
    try:
        num_elements = count_elements(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise label.damaged(f"{path.name} is no file of tensors ({error})") from error
    if shape is not None and not (shape.is_sound and shape.parameters == num_elements):
        raise label.damaged(f"{path.name} has {num_elements:,} weights, which is not what its shape says")


class Checkpoints:
    """The checkpoints of one run, for the one process that writes them."""

    def __init__(self, run_dir: Path, keep: int) -> None:
        self._parent = run_dir / "checkpoints"
        self._keep = max(2, keep)
        self._verified: set[str] = set()
        if not self._parent.is_dir():
            self._parent.mkdir(mode=0o700, exist_ok=True)
            atomic.fsync_folder(run_dir)
        for leftover in self._parent.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def remember(self, checkpoint: Checkpoint) -> None:
        """Count one as good that was verified already."""
        self._verified.add(checkpoint.folder.name)

    def save(self, model: nn.Module, optimizer: OptimizerSet, state: TrainState) -> CheckpointRow:
        """Write a checkpoint; when this returns, it counts but for its row in the store.

        Raises: CheckpointError where it could not be written; what was there before is untouched.
        """
        started = time.monotonic()
        name = f"{_PREFIX}{state.step}"
        aside = self._parent / f".{name}.{os.getpid()}"
        written_at = time.time()
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(mode=0o700)
            total_bytes = _write(aside, model, optimizer, state, written_at)
            self._put_in_place(aside, self._parent / name)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointError(
                f"The checkpoint of step {state.step} could not be written: {error.strerror or error}.",
                f"Make room on the disk of {self._parent}, or make it writable.",
            ) from error
        except (RuntimeError, MemoryError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            if not is_out_of_memory(error):
                raise
            raise CheckpointError(
                f"The checkpoint of step {state.step} could not be written: memory ran out.",
                "Close what else holds memory.",
            ) from error
        self._verified.add(name)
        return Checkpoint(
            folder=self._parent / name,
            state=state,
            written_at=written_at,
            total_bytes=total_bytes,
            write_s=time.monotonic() - started,
        ).row()

    def prune(self) -> list[str]:
        """Delete what is older than the newest `keep` good ones, damaged ones among it.

        The answer is why some could not go, in sentences; the next call tries them again.
        """
        num_good, problems = 0, []
        for folder in _newest_first(self._parent):
            if num_good < self._keep:
                num_good += self._is_good(folder)
                continue
            try:
                self._remove(folder)
            except OSError as error:
                problems.append(f"Checkpoint {folder.name} could not be deleted: {error.strerror or error}.")
        return problems

    def _is_good(self, folder: Path) -> bool:
        if folder.name not in self._verified:
            try:
                self.remember(verify(folder))
            except CheckpointError:
                return False
        return True

    def _put_in_place(self, aside: Path, target: Path) -> None:
        if target.exists():
            self._remove(target)
        aside.rename(target)
        atomic.fsync_folder(self._parent)

    def _remove(self, folder: Path) -> None:
        """Rename first: a folder half deleted must not look like a damaged checkpoint."""
        doomed = folder.with_name(f".old-{folder.name}.{os.getpid()}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        self._verified.discard(folder.name)


def random_state() -> tuple[str, str | None]:
    """torch's random states of the CPU and the GPU, as `TrainState` keeps them."""
    cuda = torch.cuda.get_rng_state() if _has_cuda_state() else None
    return _to_text(torch.get_rng_state()), None if cuda is None else _to_text(cuda)


def restore_random_state(state: TrainState) -> None:
    """Set torch's random states back to a checkpoint's."""
    if state.rng_cpu:
        torch.set_rng_state(_from_text(state.rng_cpu))
    if state.rng_cuda and _has_cuda_state():
        torch.cuda.set_rng_state(_from_text(state.rng_cuda))


def _has_cuda_state() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def _write(
    folder: Path, model: nn.Module, optimizer: OptimizerSet, state: TrainState, written_at: float
) -> int:
    """Write, sync and read back all files of a checkpoint; their bytes in all."""
    metadata = {"step": str(state.step)}
    encoded = msgspec.json.format(msgspec.json.encode(state), indent=1)
    atomic.write_bytes(folder / STATE_FILE, encoded)
    meant = {
        MODEL_FILE: write_tensors(folder / MODEL_FILE, model.named_parameters(), metadata),
        OPTIMIZER_FILE: write_tensors(folder / OPTIMIZER_FILE, optimizer.tensors(), metadata),
        STATE_FILE: hashlib.sha256(encoded).hexdigest(),
    }
    return write_manifest(folder, meant, state.step, written_at).total_bytes


def _newest_first(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    steps = {path: path.name.removeprefix(_PREFIX) for path in parent.glob(f"{_PREFIX}*") if path.is_dir()}
    found = [path for path, step in steps.items() if step.isascii() and step.isdecimal()]
    return sorted(found, key=lambda path: int(steps[path]), reverse=True)


def _foreign(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} belongs to another model: {reason}.", "Start a new run, or restore the run's own settings."
    )
