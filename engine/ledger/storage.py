"""The storage book of a run: what lies on the disk, what will at the end, and what could go."""

from __future__ import annotations

from pathlib import Path

from engine.bill import CheckpointSize, StorageBook
from engine.corpus.manifest import CorpusManifest, load_manifest
from engine.errors import CorpusError
from engine.records import RunState
from engine.settings import CloudSettings

GIB = 2**30


def storage_book(
    run_folder: Path,
    state: RunState,
    *,
    keep_checkpoints: int,
    share_done: float | None,
    weights_bytes: int,
    cloud: CloudSettings,
) -> StorageBook:
    """The storage book of the run in a folder.

    `share_done` is how much of the run is trained, 0 to 1, None where that is unknown; `weights_bytes` what the
    finished model will take.
    """
    checkpoints = tuple(
        CheckpointSize(name=path.name, num_bytes=folder_bytes(path)) for path in _generations(run_folder)
    )
    model_bytes = folder_bytes(run_folder / "model")
    database_bytes = sum(_size(path) for path in run_folder.glob("run.db*"))
    checkpoints_bytes = sum(checkpoint.num_bytes for checkpoint in checkpoints)
    other_bytes = max(0, folder_bytes(run_folder) - checkpoints_bytes - model_bytes - database_bytes)
    manifest = _manifest(run_folder)
    shards_bytes = None if manifest is None else folder_bytes(Path(manifest.folder))
    now_bytes = checkpoints_bytes + model_bytes + database_bytes + other_bytes
    forecast, peak = now_bytes if state.is_over else None, None
    if not state.is_over and checkpoints and share_done:
        one = checkpoints[-1].num_bytes
        grown = round(database_bytes / share_done)
        forecast = keep_checkpoints * one + weights_bytes + grown + other_bytes
        # The last checkpoint and the model are written before the oldest checkpoint goes.
        peak = forecast + one
    retention_bytes, retention_basis = _retention(state, checkpoints, model_bytes, keep_checkpoints)
    kept_bytes = now_bytes + (shards_bytes or 0)
    price = cloud.usd_per_gib_month
    return StorageBook(
        corpus_bytes=None if manifest is None else manifest.text_bytes,
        shards_bytes=shards_bytes,
        checkpoints=checkpoints,
        model_bytes=model_bytes,
        database_bytes=database_bytes,
        other_bytes=other_bytes,
        forecast_bytes=forecast,
        peak_bytes=peak,
        retention_bytes=retention_bytes,
        retention_basis=retention_basis,
        cloud_usd_per_month=None if price is None else kept_bytes / GIB * price,
        cloud_basis=month_basis(price),
    )


def month_basis(usd_per_gib_month: float | None) -> str:
    """What the price of a month of storage rests on."""
    if usd_per_gib_month is None:
        return "unknown: set cloud.usd_per_gib_month"
    return f"{usd_per_gib_month:g} USD a GiB and month, by your settings"


def folder_bytes(folder: Path) -> int:
    """Bytes of every file below a folder, links left out; 0 where there is none."""
    return sum(_size(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _size(path: Path) -> int:
    """Bytes of a file; 0 for one that was deleted meanwhile."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _generations(run_folder: Path) -> list[Path]:
    found = [path for path in (run_folder / "checkpoints").glob("step-*") if path.is_dir()]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _manifest(run_folder: Path) -> CorpusManifest | None:
    try:
        return load_manifest(run_folder / "corpus.json")
    except CorpusError:
        return None


def _retention(
    state: RunState, checkpoints: tuple[CheckpointSize, ...], model_bytes: int, keep_checkpoints: int
) -> tuple[int, str]:
    if state is RunState.FINISHED and model_bytes:
        return sum(c.num_bytes for c in checkpoints), "every checkpoint: the finished model stands"
    keep = keep_checkpoints if not state.is_over else 1
    surplus = checkpoints[: max(0, len(checkpoints) - keep)]
    basis = f"all but the newest {keep} checkpoints" if keep > 1 else "all but the newest checkpoint"
    return sum(c.num_bytes for c in surplus), basis
