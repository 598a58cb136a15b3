"""The folder of one run: what lies where, and how runs are named and found."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from engine import atomic
from engine.clock import Moment
from engine.errors import EngineError, StoreError
from engine.records import Prediction, RunPlan
from engine.runs.lock import holder
from engine.runs.store import MetaRow, RunStore
from engine.settings import Settings
from engine.settings_file import load
from engine.sqlite import BusyError


class RunFolder:
    """Paths of one run; nothing is read or made by asking for them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The run's id: the folder's name."""
        return self.path.name

    @property
    def workspace(self) -> Path:
        """The workspace that the run belongs to."""
        return self.path.parent.parent

    @property
    def store_path(self) -> Path:
        """run.db."""
        return self.path / "run.db"

    @property
    def settings_path(self) -> Path:
        """The frozen settings."""
        return self.path / "settings.toml"

    @property
    def facts_path(self) -> Path:
        """The run's facts (plan, waivers and the like) once more, for a store that has to be made anew."""
        return self.path / "facts.json"

    @property
    def corpus_path(self) -> Path:
        """What the corpus process leaves for the trainer."""
        return self.path / "corpus.json"

    @property
    def scratch(self) -> Path:
        """What the batch ramp writes to prove that it can; gone once it is over."""
        return self.path / "scratch"

    @property
    def log_path(self) -> Path:
        """Output of the supervisor and its children."""
        return self.path / "log"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the finished model; absent until the run has finished."""
        return self.path / "model"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor for its life."""
        return self.path / "supervisor.lock"

    @property
    def trainer_lock(self) -> Path:
        """Held by the trainer for its life."""
        return self.path / "trainer.lock"

    @property
    def is_supervised(self) -> bool:
        """Whether a supervisor is alive."""
        return holder(self.supervisor_lock) is not None

    def settings(self) -> Settings:
        """The frozen settings. Raises: SettingsError."""
        try:
            about = self.settings_path.stat()
        except OSError:
            return load(self.settings_path)
        return _loaded(self.settings_path, about.st_ino, about.st_mtime_ns)

    def keep_facts(self, store: RunStore) -> None:
        """Write the facts of the store beside it. Raises: StoreError, OSError."""
        facts = {row.key: msgspec.Raw(row.value.encode()) for row in store.rows(MetaRow)}
        atomic.write_bytes(self.facts_path, msgspec.json.encode(facts))

    def open(self, *, read_only: bool = True, busy_ms: int = 2000) -> RunStore:
        """A connection to run.db. Raises: StoreError."""
        return RunStore(self.store_path, read_only=read_only, busy_ms=busy_ms)

    @contextlib.contextmanager
    def writing(self) -> Iterator[RunStore]:
        """A connection to run.db that writes. Raises: StoreError, also where it stays locked or its disk is full."""
        try:
            with contextlib.closing(self.open(read_only=False)) as store:
                yield store
        except BusyError as error:
            raise StoreError(
                f"{self.store_path} cannot be written now: {error}", "Free some disk, or try again."
            ) from error


@lru_cache(maxsize=256)
def _loaded(path: Path, inode: int, changed_ns: int) -> Settings:
    """Settings as of a file's last change: a viewer asks for them with every look."""
    return load(path)


def runs_folder(workspace: Path) -> Path:
    """Where a workspace keeps its runs."""
    return workspace / "runs"


def create(
    workspace: Path,
    settings: Settings,
    plan: RunPlan,
    waivers: dict[str, str],
    version: str,
    prediction: Prediction | None = None,
    *,
    parent: Path | None = None,
    ticks: Sequence[str] = (),
) -> RunFolder:
    """Make the folder of a new run with its frozen settings, its plan and what the plan promises.

    It lies in `parent`; None: among the workspace's runs.
    Raises: StoreError where it cannot be written.
    """
    from engine.settings_file import freeze

    run_id = f"{time.strftime('%m%d-%H%M%S')}-{plan.preset}-{secrets.token_hex(2)}"
    folder = RunFolder((parent or runs_folder(workspace)) / run_id)
    try:
        atomic.make_private(folder.path.parent)
        folder.path.mkdir(mode=0o700)
    except OSError as error:
        raise StoreError(f"{folder.path} cannot be made: {error}", "Make the workspace writable.") from error
    try:
        resolved = msgspec.structs.replace(settings.model, preset=plan.preset)
        freeze(msgspec.structs.replace(settings, model=resolved), folder.settings_path)
        _put_last(folder)
        with folder.writing() as store:
            store.set_meta(
                id=run_id,
                created_at=time.time(),
                created=Moment.now(),
                plan=plan,
                workspace=str(workspace),
                waivers=waivers,
                ticks=tuple(ticks),
                version=version,
                **({} if prediction is None else {"estimate": prediction}),
            )
            folder.keep_facts(store)
    except BaseException as error:
        # Half a run would be listed as a damaged one.
        discard(folder)
        if isinstance(error, OSError):
            raise StoreError(f"{folder.path} cannot be written: {error}", "Free some disk.") from error
        raise
    return folder


def agree(folder: RunFolder, waivers: Mapping[str, str], ticks: Sequence[str]) -> None:
    """What a person waives and ticks for the next start of a run; what was waived before stays in its books."""
    with folder.writing() as store:
        store.set_meta(former_waivers=all_waivers(store), waivers=dict(waivers), ticks=tuple(ticks))


def all_waivers(store: RunStore) -> dict[str, str]:
    """Every check that was waived for a start of the run, with the newest reason."""
    former = store.find_meta("former_waivers", dict[str, str]) or {}
    return former | store.meta("waivers", dict[str, str])


def _put_last(folder: RunFolder) -> None:
    """Make a run the newest of its workspace, although the clock may have been set back since the one before."""
    own_ns = folder.settings_path.stat().st_mtime_ns
    others = [other for other in folder.path.parent.iterdir() if other != folder.path]
    paths = [RunFolder(other).settings_path for other in others]
    newest_ns = max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)
    if newest_ns >= own_ns:
        os.utime(folder.settings_path, ns=(newest_ns + 1_000_000, newest_ns + 1_000_000))


def discard(folder: RunFolder) -> None:
    """Delete a run's folder: for one that was refused before it began."""
    shutil.rmtree(folder.path, ignore_errors=True)


def all_runs(workspace: Path) -> list[RunFolder]:
    """Every run of a workspace, newest first; one whose store is gone is still a run."""
    parent = runs_folder(workspace)
    if not parent.is_dir():
        return []
    # A dot before the name: it is being deleted, or its deletion was cut short.
    found = [RunFolder(path) for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    runs = [folder for folder in found if folder.store_path.is_file() or folder.facts_path.is_file()]
    return sorted(runs, key=lambda folder: (_made_ns(folder), folder.id), reverse=True)


def _made_ns(folder: RunFolder) -> int:
    """When a run was made, by its settings; 0 where these are gone."""
    try:
        return folder.settings_path.stat().st_mtime_ns
    except OSError:
        return 0


def find(workspace: Path, run: str | None) -> RunFolder:
    """The run with this id or unique prefix; None is the newest.

    Raises: EngineError where there is none, or more than one.
    """
    if run is not None and not run.strip():
        raise EngineError(
            "The name of the run is empty.", "Name a run, or leave the name out for the newest."
        )
    runs = all_runs(workspace)
    if not runs:
        raise EngineError(f"There is no run in {workspace}.", "`llm-tui run` starts one.")
    if run is None:
        return runs[0]
    exact = [folder for folder in runs if folder.id == run]
    matching = exact or [folder for folder in runs if folder.id.startswith(run)]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(folder.id for folder in (matching or runs)[:8])
    if matching:
        raise EngineError(
            f"{run!r} is the beginning of {len(matching)} runs: {names}.", "Give more of the id."
        )
    raise EngineError(f"There is no run {run!r} in {workspace}.", f"The runs there are: {names}.")
