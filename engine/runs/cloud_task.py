"""A run that moves to a rented GPU: a task for SkyPilot, with what it will cost above it.

What goes along is the program, the run's own files with its newest checkpoint, its token shards and its text; what
does not is the workspace's settings.toml, which may name a receiver of news. The file is YAML; every text in it is
written as JSON, which is YAML too. Source: docs.skypilot.co, "Task YAML".
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine import atomic
from engine.corpus.cache import cache_folder
from engine.corpus.manifest import load_manifest
from engine.errors import EngineError, RunFailedError, SettingsError
from engine.ledger import prices
from engine.ledger.cloud import own_share, quotes
from engine.records import CloudQuote, RunPlan
from engine.runs.folder import RunFolder
from engine.runs.view import read_status
from engine.settings import CloudSettings, Settings
from engine.settings_file import FILE_NAME, load

_CLOUDS = {
    "AWS": "aws",
    "Google Cloud": "gcp",
    "Azure": "azure",
    "Lambda": "lambda",
    "RunPod": "runpod",
    "Vast.ai": "vast",
}
"""Providers of the price table as SkyPilot calls them."""
_STOPPABLE = frozenset(("aws", "gcp", "azure"))
"""Where a machine can be stopped and keep its disk."""
_ACCELERATORS = {
    "NVIDIA T4": "T4",
    "NVIDIA L4": "L4",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10G",
    "NVIDIA L40S": "L40S",
    "NVIDIA RTX A6000": "RTXA6000",
    "NVIDIA GeForce RTX 4090": "RTX4090",
    "NVIDIA A100-40GB": "A100",
    "NVIDIA A100-80GB": "A100-80GB",
    "NVIDIA H100 SXM": "H100",
}
"""GPUs of the price table as SkyPilot calls them."""
_WITHOUT_BF16 = frozenset(("T4", "V100"))
_HOME = "~/llm-tui"
_WORKSPACE = f"{_HOME}/workspace"
_PYTHON = f"{_HOME}/venv/bin/python"
_IDLE_MINUTES = 60
_GB = 1e9


class _Mount(msgspec.Struct, frozen=True):
    """Something that goes along."""

    remote: str
    local: Path


class _Move(NamedTuple):
    """What a task is made of."""

    folder: RunFolder
    plan: RunPlan
    goes_on: bool
    """Whether it goes on from where it is; else it is begun anew."""
    left_frac: float
    quote: CloudQuote
    mounts: tuple[_Mount, ...]
    currency: str
    currency_per_usd: float | None


def write_task(folder: RunFolder, to: Path, offer: str = "") -> CloudQuote:
    """Write the task for the rest of a run into `to`, which must not be there; the answer is the offer it is for.

    `offer` are words of the provider, the GPU and the kind of offer; of those that hold them all, and by default of
    all with room for the run, the cheapest is taken. Where it has several GPUs, all of them train. A run that was
    planned for a CPU cannot go on on a GPU: its task begins it anew. Raises: EngineError.
    """
    target = to.expanduser().absolute()
    if target.exists() or target.is_symlink():
        raise EngineError(f"{target} is there already; it was left as it is.", "Name another file.")
    if folder.is_supervised:
        raise RunFailedError(
            f"Run {folder.id} is going on here, and must not go on in two places.",
            f"`llm-tui stop {folder.id}` first; `llm-tui estimate` compares meanwhile.",
        )
    move = _move_of(folder, offer)
    lines = [*(f"# {line}".rstrip() for line in _head(move, target.name)), "", *_task(move)]
    try:
        atomic.write_text(target, "\n".join(lines) + "\n", mode=0o644)
    except OSError as error:
        raise EngineError(
            f"{target} cannot be written: {error.strerror or error}.", "Name another file."
        ) from error
    return move.quote


def _move_of(folder: RunFolder, offer: str) -> _Move:
    with closing(folder.open()) as store:
        plan, tokens_per_s = store.meta("plan", RunPlan), store.training_tokens_per_s()
        newest = store.newest_checkpoint()
    settings = folder.settings()
    cloud = _cloud_settings(folder, settings)
    goes_on = plan.device.kind == "cuda"
    if goes_on and read_status(folder).state == "finished":
        raise EngineError(f"Run {folder.id} is finished: nothing of it is left to do.")
    checkpoint = newest if goes_on else None
    left_frac = 1 - (checkpoint.tokens if checkpoint else 0) / plan.tokens_total
    found = quotes(plan, cloud.offers, share=own_share(plan, tokens_per_s), left_frac=left_frac)
    return _Move(
        folder=folder,
        plan=plan,
        goes_on=goes_on,
        left_frac=left_frac,
        quote=_choose(found, offer, plan),
        mounts=tuple(_mounts(folder, settings, checkpoint.folder if checkpoint else None, goes_on=goes_on)),
        currency=settings.energy.currency,
        currency_per_usd=cloud.currency_per_usd,
    )


def _cloud_settings(folder: RunFolder, settings: Settings) -> CloudSettings:
    """The offers as they are in the workspace now; those frozen with the run where its file cannot be read."""
    try:
        return load(folder.workspace / FILE_NAME).cloud
    except SettingsError:
        return settings.cloud


# --- which machine ------------------------------------------------------------------------------------------------


def _choose(found: Sequence[CloudQuote], offer: str, plan: RunPlan) -> CloudQuote:
    words = offer.casefold().split()
    known = [quote for quote in found if quote.is_for_this_run and quote.provider != prices.COURSE]
    named = [quote for quote in known if all(word in _name(quote).casefold() for word in words)]
    usable = [quote for quote in named if _accelerator(quote) and _has_room(quote, plan)]
    if not usable:
        what = (
            f"No offer holds {offer!r}" if words and not named else "No such offer can be written as a task"
        )
        names = "; ".join(dict.fromkeys(_name(quote) for quote in known if _accelerator(quote)))
        wanted = "a GPU of a kind that SkyPilot knows, with room for the run"
        raise EngineError(f"{what}: {wanted}.", f"There are: {names}.")
    return min(usable, key=lambda quote: (quote.usd is None, quote.usd or 0.0))


def _name(quote: CloudQuote) -> str:
    return f"{quote.provider}, {quote.gpu}, {quote.kind}"


def _accelerator(quote: CloudQuote) -> str | None:
    """The GPU as SkyPilot calls it; None for one it does not know."""
    gpu = _gpus(quote)[1]
    return _ACCELERATORS.get(gpu) or _ACCELERATORS.get(f"NVIDIA {gpu}")


def _gpus(quote: CloudQuote) -> tuple[int, str]:
    """How many of which GPU."""
    found = re.fullmatch(r"(\d+) x (.+)", quote.gpu)
    return (int(found[1]), found[2]) if found else (1, quote.gpu)


def _has_room(quote: CloudQuote, plan: RunPlan) -> bool:
    sizes = [row.gpu_memory_gib for row in prices.load() if row.gpu == _gpus(quote)[1]]
    return not sizes or plan.device.kind == "cpu" or plan.memory_total_bytes < min(sizes) * 2**30


# --- what goes along ----------------------------------------------------------------------------------------------


def _mounts(folder: RunFolder, settings: Settings, checkpoint: str | None, *, goes_on: bool) -> list[_Mount]:
    """The program and the text; of a run that goes on its own files and its tokens too."""
    mounts = [_Mount(f"{_HOME}/program/{name}", _package(name)) for name in ("engine", "tui")]
    mounts.append(_Mount(f"{_WORKSPACE}/{FILE_NAME}", folder.settings_path))
    if goes_on:
        run = f"{_WORKSPACE}/runs/{folder.id}"
        names = [FILE_NAME, "run.db", "run.db-wal", "tokenizer.json", "corpus.json"]
        names += [f"checkpoints/{checkpoint}"] if checkpoint else []
        there = [name for name in names if (folder.path / name).exists()]
        mounts += [_Mount(f"{run}/{name}", folder.path / name) for name in there]
        mounts += _tokens(folder)
    return mounts + _text(folder.workspace, settings)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None, f"{name} runs this very program"
    return Path(found.origin).parent


def _tokens(folder: RunFolder) -> list[_Mount]:
    if not folder.corpus_path.exists():
        return []
    manifest = load_manifest(folder.corpus_path)
    shards = Path(manifest.folder)
    remote = cache_folder(Path("workspace")).relative_to("workspace") / manifest.key
    return [_Mount(f"{_WORKSPACE}/{remote}", shards)] if shards.is_dir() else []


def _text(workspace: Path, settings: Settings) -> list[_Mount]:
    """The corpus itself: below the workspace where it lies there, else at the path that the settings name."""
    mounts = []
    for name in settings.corpus.sources:
        plain = re.split(r"[*?\[]", name)[0] if not Path(name).exists() else name
        if name.startswith("builtin:") or not plain:
            continue
        path = Path(os.path.normpath(workspace / Path(plain).expanduser()))
        if path.exists():
            is_inside = path.is_relative_to(workspace)
            remote = f"{_WORKSPACE}/{path.relative_to(workspace)}" if is_inside else str(path)
            mounts.append(_Mount(remote, path))
    return mounts


def _size_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    return sum(file.stat().st_size for file in files)


# --- the file -----------------------------------------------------------------------------------------------------


def _head(move: _Move, file_name: str) -> list[str]:
    """What a person should know before they pay: the money first, then the commands there and back."""
    folder, plan, quote = move.folder, move.plan, move.quote
    hours = "an unknown number of hours" if quote.hours is None else f"about {quote.hours:.3g} h"
    if quote.hours_low is not None and quote.hours_high is not None:
        hours += f" ({quote.hours_low:.3g} to {quote.hours_high:.3g})"
    usd = "unknown" if quote.usd is None else f"{quote.usd:,.2f} USD"
    if quote.usd is not None and move.currency_per_usd is not None and move.currency != "USD":
        usd += f" = {quote.usd * move.currency_per_usd:,.2f} {move.currency}"
    cluster, upload_bytes = _cluster(folder), sum(_size_bytes(mount.local) for mount in move.mounts)
    runs = f"{_WORKSPACE.removeprefix('~/')}/runs"
    lines = [
        f"Run {folder.id} on a rented GPU: {move.left_frac:.0%} of its {plan.tokens_total:,} tokens.",
        "",
        f"COST     {usd} for {hours} at {quote.usd_per_hour:g} USD/h",
        f"offer    {_name(quote)}, price of {quote.as_of} ({quote.source})",
        f"hours    an estimate: {quote.basis}",
        f"besides  {upload_bytes / _GB:.2f} GB to upload, minutes of set-up, and whatever stays rented after the end",
        "",
        f"there    sky launch -c {cluster} {shlex.quote(file_name)}",
        f"look     sky logs {cluster}",
        f"back     rsync -a {cluster}:{runs}/ {shlex.quote(str(folder.workspace / 'runs'))}/ && llm-tui report",
        f"the end  sky down {cluster}   (deletes the machine and its disk: fetch the run first)",
        "",
    ]
    if not move.goes_on:
        lines.append("This run was planned for a CPU and cannot go on on a GPU: the task begins a new one.")
    if move.goes_on and plan.precision == "bf16" and _accelerator(quote) in _WITHOUT_BF16:
        lines.append(f"It computes in bf16, which a {quote.gpu} only emulates: expect more hours than that.")
    lines.append("Electricity is in the price of the hour; the ledger books these hours' energy at yours.")
    return lines


def _cluster(folder: RunFolder) -> str:
    return f"llm-tui-{folder.id}".lower()


def _task(move: _Move) -> list[str]:
    quote, cloud = move.quote, _CLOUDS.get(move.quote.provider)
    disk_gb = 50 + int(3 * sum(_size_bytes(mount.local) for mount in move.mounts) / _GB)
    lines = [f"name: {json.dumps(_cluster(move.folder))}", "", "resources:"]
    if cloud:
        lines.append(f"  infra: {cloud}")
    lines += [
        f"  accelerators: {json.dumps(f'{_accelerator(quote)}:{_gpus(quote)[0]}')}",
        f"  use_spot: {json.dumps(quote.kind == 'spot')}",
        f"  disk_size: {disk_gb}",
    ]
    if cloud in _STOPPABLE:
        lines += ["  autostop:", f"    idle_minutes: {_IDLE_MINUTES}", "    down: false"]
    lines += ["", "file_mounts:"]
    lines += [f"  {json.dumps(mount.remote)}: {json.dumps(str(mount.local))}" for mount in move.mounts]
    lines += ["", "setup: |", *(f"  {line}" for line in _setup())]
    return [*lines, "", "run: |", *(f"  {line}" for line in _run(move))]


def _setup() -> list[str]:
    """A Python of its own, since the machines' may be older than what the program needs."""
    needs = [need for need in importlib.metadata.requires("llm-tui") or [] if "extra ==" not in need]
    return [
        "set -e",
        "python3 -m pip install -q uv",
        f"python3 -m uv venv -q --allow-existing --python 3.11 {_HOME}/venv",
        f"python3 -m uv pip install -q --python {_PYTHON} {' '.join(map(shlex.quote, needs))}",
    ]


def _run(move: _Move) -> list[str]:
    """Go on, and stay until the run is over; without a terminal the program follows the run that is going."""
    program = f"{_PYTHON} -P -m tui --workspace {_WORKSPACE}"
    num_gpus = _gpus(move.quote)[0]
    # The plan names the GPU at home, which is none of those there.
    there = ",".join(map(str, range(num_gpus)))
    lines = ["set -e", f"export PYTHONPATH={_HOME}/program CUDA_VISIBLE_DEVICES={there}"]
    scale = f" --set scale.processes={num_gpus}"
    if move.goes_on:
        return [*lines, f"{program} resume {move.folder.id}{scale}", f"{program} < /dev/null"]
    return [*lines, f"{program} run{scale}"]
