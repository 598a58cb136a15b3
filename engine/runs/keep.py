"""Keeping runs: the tags a person gives them, archiving and deleting. What a run has cost stays in the ledger.

Archived is a run that keeps what it was for and what it was: its model, its settings, run.db and its log. What goes
are the checkpoints, which are many times as large; the newest good one stays where there is no model, so that an
archived run can still go on.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from engine.errors import EngineError, RunFailedError, SettingsError, StoreError
from engine.ledger.storage import folder_bytes
from engine.records import EventRow, RunState, StepRow
from engine.runs.books import enter
from engine.runs.folder import RunFolder
from engine.runs.launch import wait_until_unsupervised
from engine.runs.lock import Lock, holder
from engine.runs.mend import find_damage
from engine.runs.owner import require_own
from engine.runs.tables import MetaRow
from engine.runs.view import read_status
from engine.shelf import Removal, RemovalKind

MOST_TAGS = 8
LONGEST_TAG = 24
_LEAVING_S = 2.0
"""How long a supervisor whose run has just ended may take to leave."""
_LEAVING = ".deleting-"
"""Begins the name of a run's folder while it is being deleted."""


def read_tags(folder: RunFolder) -> tuple[str, ...]:
    """The tags of a run. Raises: StoreError."""
    with contextlib.closing(folder.open()) as store:
        return store.find_meta("tags", tuple[str, ...]) or ()


def set_tags(folder: RunFolder, tags: Sequence[str]) -> tuple[str, ...]:
    """Give a run these tags in place of those it has; each once, in their order.

    Raises: EngineError where one cannot be a tag, StoreError where the run cannot be written.
    """
    kept = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    for tag in kept:
        if len(tag) > LONGEST_TAG or not tag.isprintable() or any(c.isspace() or c in ",#" for c in tag):
            raise EngineError(
                f"{tag[:40]!r} cannot be a tag.",
                f"A tag is one word of at most {LONGEST_TAG} characters, without a comma or #.",
            )
    if len(kept) > MOST_TAGS:
        raise EngineError(f"A run has at most {MOST_TAGS} tags, not {len(kept)}.", "Leave some out.")
    require_own(folder.path)
    _write(folder, MetaRow(key="tags", value=msgspec.json.encode(kept).decode()))
    return kept


def removal(folder: RunFolder, kind: RemovalKind) -> Removal:
    """What archiving or deleting a run would free.

    Raises: EngineError where it is going, or cannot be read; one whose files are damaged can be deleted all the same.
    """
    state = _state_at_rest(folder) if kind == "archive" else _state_or_none(folder)
    if kind == "delete" or state is None:
        stays = "its line in the ledger and in TRAINING.md"
        return Removal(
            run_id=folder.id,
            kind=kind,
            freed_bytes=folder_bytes(folder.path),
            goes="the whole folder: checkpoints, model, settings, curves, samples and log",
            stays=stays if state is not None else "its line in the ledger and in TRAINING.md, if it has one",
        )
    going = _archivable(folder, state)
    kept = "model" if _has_model(folder, state) else "newest checkpoint"
    return Removal(
        run_id=folder.id,
        kind=kind,
        freed_bytes=sum(map(folder_bytes, going)),
        goes=f"{len(going)} {'checkpoint' if len(going) == 1 else 'checkpoints'}",
        stays=f"its {kept}, settings, curves, samples and log",
    )


def remove(folder: RunFolder, kind: RemovalKind) -> Removal:
    """Archive or delete a run; what was freed. What a damaged one had cost is entered no more.

    Raises: EngineError where it is going, where its cost cannot be entered in the ledger, or where a file cannot go.
    """
    require_own(folder.path)
    told = removal(folder, kind)
    state = _state_at_rest(folder) if kind == "archive" else _state_or_none(folder)
    with _held(folder):
        try:
            if kind == "delete" or state is None:
                if state is not None:
                    _book(folder, state)
                _delete(folder)
            else:
                _archive(folder, state)
        except OSError as error:
            raise StoreError(
                f"Run {folder.id} cannot be removed: {error}", "Make its folder writable."
            ) from error
    return told


@contextlib.contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """Keep a supervisor from taking the run up meanwhile."""
    lock = Lock(folder.supervisor_lock)
    if not lock.acquire("being removed", timeout_s=0.2):
        raise _is_going(folder)
    try:
        yield
    finally:
        lock.release()


def _is_going(folder: RunFolder) -> RunFailedError:
    return RunFailedError(f"Run {folder.id} is going.", f"Stop it first: llm-tui stop {folder.id}")


def _state_at_rest(folder: RunFolder) -> RunState:
    """The state of a run that nobody works on."""
    state = read_status(folder).state
    if state.is_over:
        wait_until_unsupervised(folder, timeout_s=_LEAVING_S)
    if not state.is_over or _is_at_work(folder):
        raise _is_going(folder)
    return state


def _state_or_none(folder: RunFolder) -> RunState | None:
    """The same; None where the run is damaged, so that nothing tells its state.

    Raises: EngineError where it only cannot be read now, as where its store is locked.
    """
    try:
        return _state_at_rest(folder)
    except RunFailedError:
        raise
    except EngineError as error:
        if _is_at_work(folder):
            raise _is_going(folder) from error
        if isinstance(error, SettingsError) or find_damage(folder):
            return None
        raise


def _is_at_work(folder: RunFolder) -> bool:
    return folder.is_supervised or holder(folder.trainer_lock) is not None


def _has_model(folder: RunFolder, state: RunState) -> bool:
    return state is RunState.FINISHED and (folder.model / "model.safetensors").is_file()


def _archivable(folder: RunFolder, state: RunState) -> list[Path]:
    """The folders that go with archiving, checkpoints that were left half-written among them."""
    is_there = folder.checkpoints.is_dir()
    found = [path for path in folder.checkpoints.iterdir() if path.is_dir()] if is_there else []
    if _has_model(folder, state):
        return found
    with contextlib.closing(folder.open()) as store:
        newest = store.newest_checkpoint()
    if newest is None or not (folder.checkpoints / newest.folder).is_dir():
        return []  # which of them is good is not known
    return [path for path in found if path.name != newest.folder]


def _archive(folder: RunFolder, state: RunState) -> None:
    going = _archivable(folder, state)
    freed_bytes = sum(map(folder_bytes, going))
    for path in going:
        shutil.rmtree(path)
    shutil.rmtree(folder.scratch, ignore_errors=True)
    now = time.time()
    text = f"Archived: {len(going)} checkpoints deleted, {freed_bytes} bytes."
    _write(
        folder,
        MetaRow(key="archived_at", value=msgspec.json.encode(now).decode()),
        EventRow(at=now, level="info", source="supervisor", kind="archived", text=text),
    )


def _write(folder: RunFolder, *rows: msgspec.Struct) -> None:
    with folder.writing() as store:
        store.put(*rows)


def _book(folder: RunFolder, state: RunState) -> None:
    """Enter the run in the ledger as it stands, if it ever made a step; one that says the same adds nothing."""
    with contextlib.closing(folder.open()) as store:
        if store.newest(StepRow, "step") is not None:
            enter(folder, store, state)


def _delete(folder: RunFolder) -> None:
    """Out of the list at once, then away; what an interrupted deletion left goes along."""
    parent = folder.path.parent
    leaving = parent / f"{_LEAVING}{folder.id}"
    folder.path.rename(leaving)
    shutil.rmtree(leaving)
    for left in parent.glob(f"{_LEAVING}*"):
        shutil.rmtree(left, ignore_errors=True)  # another deletion may be at it
