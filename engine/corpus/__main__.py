"""`python -m engine.corpus RUN_DIR`: tokenize the corpus of a run, or find it tokenized, and tell the run about it.

Leaves tokenizer.json and corpus.json in the run folder. A run that has them already keeps them: its weights fit no
other tokens, however its corpus has changed since. Exit codes: 0 done, 2 something that the person has to mend,
11 the process that started it is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from engine import atomic
from engine.corpus.build import prepare
from engine.corpus.cache import cache_folder
from engine.corpus.manifest import (
    TOKENIZER_NAME,
    CorpusManifest,
    Progress,
    is_intact,
    load_manifest,
    save_manifest,
)
from engine.errors import CorpusError, EngineError, StoreError, TrainerExit
from engine.records import EventRow, HeartbeatRow, RunPlan
from engine.runs.store import RunStore
from engine.settings_file import load

_BEAT_S = 0.5
_BUSY_MS = 50
_CLOSING_BUSY_MS = 5000


class OrphanedError(Exception):
    """The process that started this one is gone: nobody waits for the tokens."""


class Reporter:
    """Signs of life and progress in the run's store, written by a thread of its own.

    The tokenizer's training calls back seldom, and a locked store must not hold the work up.
    """

    def __init__(self, store_path: Path) -> None:
        self._store_path = store_path
        self._progress: Progress | None = None
        self._is_over = threading.Event()
        self._parent = os.getppid()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def tell(self, progress: Progress) -> None:
        """Note how far it is. Raises: OrphanedError where the parent is gone."""
        self._progress = progress
        if os.getppid() != self._parent:
            raise OrphanedError

    def _run(self) -> None:
        store: RunStore | None = None
        told: Progress | None = None
        is_last = False
        while not is_last:
            is_last = self._is_over.wait(_BEAT_S if store else 0.0)
            progress = self._progress
            phase = progress.phase if progress else "reading the corpus"
            store = store or self._open()
            if store is None:
                continue
            store.queue(HeartbeatRow(role="corpus", pid=os.getpid(), at=time.time(), phase=phase))
            if progress is not None and progress is not told:
                store.queue(progress.row())
                told = progress
            store.flush()
        if store is not None:
            store.close()

    def _open(self) -> RunStore | None:
        try:
            return RunStore(self._store_path, busy_ms=_BUSY_MS)
        except StoreError as error:
            # A store that is locked this moment is opened at the next beat; the work goes on meanwhile.
            sys.stderr.write(f"{error.title}\n")
            time.sleep(_BUSY_MS / 1000)
            return None


def main(arguments: list[str]) -> int:
    """Prepare the corpus of the run folder that is named; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m engine.corpus RUN_DIR\n")
        return TrainerExit.REFUSED
    run = Path(arguments[0]).resolve()
    try:
        return _prepare_run(run)
    except OrphanedError:
        sys.stderr.write("The process that started this one is gone.\n")
        return TrainerExit.ORPHANED
    except EngineError as error:
        return _refuse(run, error)
    except OSError as error:
        return _refuse(run, EngineError(f"{error}.", "Free some space, or make the run's folder writable."))


def _refuse(run: Path, error: EngineError) -> int:
    sys.stderr.write(f"{error}\n")
    event = _event("error", "corpus-refused", str(error), title=error.title, remedy=error.remedy)
    if (run / "run.db").exists():
        try:
            _write_events(run, [event])
        except StoreError as store_error:
            sys.stderr.write(f"{store_error}\n")
    return TrainerExit.REFUSED


def _prepare_run(run: Path) -> int:
    settings = load(run / "settings.toml")
    store = RunStore(run / "run.db", busy_ms=_CLOSING_BUSY_MS)
    plan = store.meta("plan", RunPlan)
    workspace = Path(store.meta("workspace", str))
    store.close()
    former = _former_manifest(run)
    if former is not None and (_is_there(former) or _found_again(former, run)):
        return 0
    with Reporter(run / "run.db") as reporter:
        manifest = prepare(
            settings.corpus,
            vocab_size=plan.shape.vocab_size,
            context=plan.shape.context,
            workspace=workspace,
            on_progress=reporter.tell,
            min_train_tokens=plan.micro_batch * plan.shape.context + 1,
        )
    if former is not None and former.key != manifest.key:
        raise CorpusError(
            "The corpus has changed since this run began, and the tokens it began with are no longer in the cache.",
            "Put the text back as it was, or begin a new run.",
        )
    _write_events(run, _events(manifest))
    atomic.write_bytes(run / TOKENIZER_NAME, (Path(manifest.folder) / TOKENIZER_NAME).read_bytes())
    save_manifest(manifest, run / "corpus.json")
    return 0


def _is_there(manifest: CorpusManifest) -> bool:
    return is_intact(manifest, Path(manifest.folder))


def _found_again(former: CorpusManifest, run: Path) -> bool:
    """Whether the tokens lie in the cache beside a run that was moved, to another folder or another machine."""
    here = msgspec.structs.replace(former, folder=str(cache_folder(run.parent.parent) / former.key))
    if not _is_there(here):
        return False
    save_manifest(here, run / "corpus.json")
    return True


def _former_manifest(run: Path) -> CorpusManifest | None:
    path = run / "corpus.json"
    return load_manifest(path) if path.exists() else None


def _events(manifest: CorpusManifest) -> list[EventRow]:
    events = [
        _event(
            "info",
            "corpus-ready",
            f"The corpus has {manifest.train_tokens:,} tokens to train on and {manifest.validation_tokens:,} to "
            f"validate with, from {manifest.text_bytes / 1e6:,.1f} MB of text in {manifest.num_documents:,} documents.",
            train_tokens=manifest.train_tokens,
            validation_tokens=manifest.validation_tokens,
            text_bytes=manifest.text_bytes,
            documents=manifest.num_documents,
        )
    ]
    if manifest.num_duplicates:
        events.append(
            _event(
                "info",
                "corpus-duplicates",
                f"{manifest.num_duplicates:,} documents were dropped as exact copies of others, "
                f"{(manifest.duplicate_bytes or 0) / 1e6:,.1f} MB of text.",
                count=manifest.num_duplicates,
                bytes=manifest.duplicate_bytes,
            )
        )
    if manifest.num_invalid_sequences:
        events.append(
            _event(
                "warning",
                "corpus-invalid-utf8",
                f"{manifest.num_invalid_sequences:,} places of the corpus are not UTF-8; each was replaced by U+FFFD.",
                count=manifest.num_invalid_sequences,
            )
        )
    if manifest.num_bad_lines:
        events.append(
            _event(
                "warning",
                "corpus-bad-lines",
                f"{manifest.num_bad_lines:,} lines or rows have no usable text and were skipped.",
                count=manifest.num_bad_lines,
            )
        )
    return events


def _event(level: str, kind: str, text: str, **data: object) -> EventRow:
    return EventRow(
        at=time.time(),
        level=level,
        source="corpus",
        kind=kind,
        text=text,
        data=msgspec.json.encode(data).decode(),
    )


def _write_events(run: Path, events: list[EventRow]) -> None:
    store = RunStore(run / "run.db", busy_ms=_CLOSING_BUSY_MS)
    store.queue(*events)
    store.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
