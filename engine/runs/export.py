"""Handing a model out: the folder is made aside, by a process that may import torch, and put in place whole."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from engine import atomic
from engine.errors import CheckpointError, EngineError
from engine.ledger.card import model_card
from engine.process import module_argv
from engine.records import RunPlan
from engine.runs.books import ledger_entry
from engine.runs.folder import RunFolder
from engine.runs.samples import check_source
from engine.runs.view import read_status
from engine.telemetry.host import disk_free_bytes

Format = Literal["transformers", "gguf"]
Numbers = Literal["f32", "f16", "q8_0"]
_BITS: dict[Numbers, float] = {"f32": 32.0, "f16": 16.0, "q8_0": 8.5}
"""A number of a matrix, its share of a block's scale counted in."""
_BESIDE_BYTES = 32 * 1024 * 1024
"""Room for what stands beside the weights: the tokenizer, the configuration, the card."""


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported, and where to."""

    to: Path
    """A folder that is not there yet, or is empty."""
    format: Format = "transformers"
    numbers: Numbers = "f16"
    """Of the matrices of a .gguf; for transformers the weights are fp32, as they were trained."""
    source: str = ""
    """"model" or the name of a checkpoint; empty: the newest good one."""


def export(folder: RunFolder, request: ExportRequest, on_bytes: Callable[[int, int], None]) -> Path:
    """Write a run's model for other programs, with a card of how it was trained; the answer is the folder.

    `on_bytes` is told what is written and what there is in all. Nothing is left behind where it fails.
    Raises: EngineError.
    """
    check_source(folder, request.source)
    if request.format == "gguf" and importlib.util.find_spec("gguf") is None:
        raise EngineError("The gguf package is not installed.", "Install it: pip install 'llm-tui[export]'")
    target = request.to.expanduser().absolute()
    with closing(folder.open()) as store:
        plan = store.meta("plan", RunPlan)
        entry = ledger_entry(folder, store, read_status(folder).state)
    _check_target(target)
    _check_room(target, plan.shape.parameters, "f32" if request.format == "transformers" else request.numbers)
    with _aside(target) as aside:
        source = _write(folder, aside, request, on_bytes)
        card = model_card(entry, plan.shape, request.format, request.numbers, source)
        atomic.write_text(aside / "README.md", card, mode=0o644)
    return target


def _check_target(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise EngineError(f"{target} is there already and no folder.", "Name a folder that is not there yet.")
    if target.is_dir() and any(target.iterdir()):
        raise EngineError(f"{target} is not empty.", "Name a folder that is not there yet, or an empty one.")


def _check_room(target: Path, parameters: int, numbers: Numbers) -> None:
    needed_bytes = int(parameters * _BITS[numbers] / 8) + _BESIDE_BYTES
    free_bytes = disk_free_bytes(target)
    if free_bytes is not None and free_bytes < needed_bytes:
        raise EngineError(
            f"The export needs {needed_bytes / 2**30:.2f} GiB, and {free_bytes / 2**30:.2f} GiB are free at {target}.",
            "Make room there, or name a folder on another disk.",
        )


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, which takes its place if all goes well, and goes away if not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise EngineError(
            f"{target.parent} cannot be written: {error.strerror or error}.", "Name another folder."
        ) from error
    try:
        yield aside
        aside.chmod(0o755)
        for path in aside.iterdir():
            path.chmod(0o644)
        aside.rename(target)  # in place of an empty folder too; a folder filled meanwhile is left as it is
        atomic.fsync_folder(target.parent)
    except OSError as error:
        raise EngineError(
            f"{target} could not be written: {error.strerror or error}.", "Make room, or name another folder."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(
    folder: RunFolder, aside: Path, request: ExportRequest, on_bytes: Callable[[int, int], None]
) -> str:
    """Let the process that has torch fill the folder; the answer is which source it took."""
    command = module_argv(
        "engine.train",
        "export",
        str(folder.path),
        str(aside),
        f"--format={request.format}",
        f"--numbers={request.numbers}",
        f"--source={request.source}",
    )
    with tempfile.TemporaryFile() as said:
        source = ""
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    fact = msgspec.json.decode(line, type=str | tuple[int, int])
                    if isinstance(fact, str):
                        source = fact
                    else:
                        on_bytes(*fact)
            finally:
                process.kill()  # only where what is above was left early: else it has ended
        if source:
            return source
        said.seek(0)
        title, _, rest = said.read().decode("utf-8", "replace").strip().partition("\n")
    raise CheckpointError(
        title if "Traceback" not in title else rest.rpartition("\n")[2],
        rest if "Traceback" not in title else "The run's folder may be damaged.",
    )
