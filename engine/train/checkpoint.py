"""Checkpoints: what counts as one, how it is written, and how the newest good one is found again.

A checkpoint counts once it was written aside, synced, read back and hashed, renamed, and entered in the run's
store; only then do older ones go. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import time
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from engine import atomic
from engine.errors import CheckpointError
from engine.records import CheckpointRow, RunPlan
from engine.shape import ModelShape
from engine.train.data import Position
from engine.train.optim import OptimizerSet
from engine.train.peak import is_out_of_memory
from engine.train.tensorfile import read_tensors, write_tensors

FORMAT = 1
"""Raised when an older program could no longer read what is written."""
MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"
MANIFEST_FILE = "manifest.json"
_PREFIX = "step-"
_BLOCK_BYTES = 1 << 20


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


class FileFact(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of a checkpoint must be."""

    num_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last file of a checkpoint to be written."""

    format: int
    step: int
    written_at: float
    files: dict[str, FileFact]


class _Format(msgspec.Struct):
    format: int


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
    """Read a checkpoint's files and compare them with its manifest.

    Raises: CheckpointError that names the folder, the file and what is wrong with it.
    """
    manifest = _read_manifest(folder)
    for name, fact in manifest.files.items():
        try:
            found = _fact_of(folder / name)
        except OSError as error:
            raise _damaged(folder, f"{name} cannot be read ({error.strerror})") from error
        if found.num_bytes != fact.num_bytes:
            raise _damaged(folder, f"{name} has {found.num_bytes:,} bytes instead of {fact.num_bytes:,}")
        if found.sha256 != fact.sha256:
            raise _damaged(folder, f"{name} is not what was written (its sha256 differs)")
    try:
        state = msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=TrainState)
    except (OSError, msgspec.MsgspecError) as error:
        raise _damaged(folder, f"{STATE_FILE} cannot be read ({error})") from error
    total_bytes = sum(fact.num_bytes for fact in manifest.files.values())
    return Checkpoint(folder=folder, state=state, written_at=manifest.written_at, total_bytes=total_bytes)


class Checkpoints:
    """The checkpoints of one run, for the one process that writes them."""

    def __init__(self, run_dir: Path, keep: int) -> None:
        self._parent = run_dir / "checkpoints"
        self._keep = max(2, keep)
        self._verified: set[str] = set()
        self._parent.mkdir(mode=0o700, exist_ok=True)
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

    def prune(self) -> None:
        """Delete what is older than the newest `keep` good ones, damaged ones among it."""
        num_good = 0
        for folder in _newest_first(self._parent):
            if num_good >= self._keep:
                self._remove(folder)
            elif self._is_good(folder):
                num_good += 1

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
    files = {name: _fact_of(folder / name) for name in meant}
    for name, fact in files.items():
        if fact.sha256 != meant[name]:
            raise OSError(f"{name} read back is not what was written: disk or memory is faulty")
    manifest = Manifest(format=FORMAT, step=state.step, written_at=written_at, files=files)
    atomic.write_bytes(folder / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return sum(fact.num_bytes for fact in files.values())


def _fact_of(path: Path) -> FileFact:
    """Size and hash of a file as the disk has it: what the page cache holds of it is dropped first."""
    digest = hashlib.sha256()
    num_bytes = 0
    with path.open("rb", buffering=0) as file:
        with contextlib.suppress(OSError, AttributeError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            num_bytes += len(block)
    return FileFact(num_bytes=num_bytes, sha256=digest.hexdigest())


def _read_manifest(folder: Path) -> Manifest:
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise CheckpointError(
                f"Checkpoint {folder.name} was written by a newer llm-tui (format {version}; this one reads {FORMAT}).",
                "Update llm-tui to use it.",
            )
        return msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError as error:
        raise _damaged(folder, f"{MANIFEST_FILE} is missing") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise _damaged(folder, f"{MANIFEST_FILE} cannot be read ({error})") from error


def _newest_first(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    found = [path for path in parent.iterdir() if path.name.removeprefix(_PREFIX).isdigit() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(_PREFIX)), reverse=True)


def _damaged(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint {folder.name} is damaged: {reason}.",
        "The next older good one is used; check the disk if this happens again.",
    )


def _foreign(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} belongs to another model: {reason}.", "Start a new run, or restore the run's own settings."
    )
