"""The workspace's cache of tokenized corpora: content hashes, one builder at a time, nothing half-built counts."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from engine import atomic
from engine.corpus.source import Listing, SourceFile, open_unchanged

_HASH_CHUNK_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was hashed may change again within one tick of its time stamp."""
_BUILD_PREFIX = ".build-"
_LOCK_PREFIX = ".lock-"
_POLL_S = 0.2
_KEEP_EVERY_S = 10.0


class _Memo(msgspec.Struct, frozen=True):
    """What is known of a file's content as long as its stat is the same."""

    stat: tuple[int, int, int, int, int]
    sha256: str


def cache_folder(workspace: Path) -> Path:
    """Where a workspace keeps its tokenized corpora."""
    return workspace / "cache" / "corpus"


def content_hashes(
    listing: Listing, cache: Path, on_bytes: Callable[[int], None]
) -> tuple[list[str], tuple[SourceFile, ...]]:
    """The SHA-256 of every file, read only where its size, times, device or inode are new; with the files in order.

    Of files of the standard library that are copies of one another only the first is kept.
    Raises: CorpusError where a file cannot be read.
    """
    name = hashlib.sha256(listing.description.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    memo_path = cache / f".hashes-{name}.json"
    known = _load_memo(memo_path)
    memo: dict[str, _Memo] = {}
    kept: dict[str, SourceFile] = {}
    hashes: list[str] = []
    files: list[SourceFile] = []
    kept_at = time.monotonic()
    for file in listing.files:
        path_key = hashlib.blake2b(os.fsencode(file.path), digest_size=16).hexdigest()
        stat = (file.size_bytes, file.mtime_ns, file.ctime_ns, file.device, file.inode)
        old = known.get(path_key)
        if old is not None and old.stat == stat:
            memo[path_key] = old
            sha256 = old.sha256
            on_bytes(file.size_bytes)
        else:
            now_ns = time.time_ns()
            sha256 = _hash(file, on_bytes)
            if now_ns - max(file.mtime_ns, file.ctime_ns) > _SETTLED_NS:
                memo[path_key] = _Memo(stat=stat, sha256=sha256)
        if file.kind == "python" and sha256 in kept:
            continue
        kept[sha256] = file
        hashes.append(sha256)
        files.append(file)
        if time.monotonic() - kept_at > _KEEP_EVERY_S:
            # Hashing a large corpus takes minutes, and may be stopped and gone on with.
            atomic.write_bytes(memo_path, msgspec.json.encode({**known, **memo}))
            kept_at = time.monotonic()
    if memo != known:
        atomic.write_bytes(memo_path, msgspec.json.encode(memo))
    return hashes, tuple(files)


def _hash(file: SourceFile, on_bytes: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with open_unchanged(file) as stream:
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def _load_memo(path: Path) -> dict[str, _Memo]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Memo])
    except (OSError, msgspec.MsgspecError):
        # It only saves reading: without it, or damaged, everything is hashed again.
        return {}


@contextmanager
def exclusive(cache: Path, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the right to build an entry; another builder is waited for, and `on_wait` called meanwhile.

    The kernel gives the lock back when its holder dies; the file stays, since deleting it would let two in.
    """
    descriptor = _open_lock(cache, key)
    try:
        while not _try_lock(descriptor):
            on_wait()
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _open_lock(cache: Path, key: str) -> int:
    return os.open(cache / f"{_LOCK_PREFIX}{key}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def build_folder(cache: Path, key: str) -> Path:
    """The folder to build an entry in, with what an earlier builder of it left there. Needs the lock."""
    folder = cache / f"{_BUILD_PREFIX}{key}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def publish(folder: Path, entry: Path) -> None:
    """Make a finished build the entry, durably; a damaged entry of that name gives way. Needs the lock."""
    atomic.fsync_folder(folder)
    if entry.exists():
        aside = entry.with_name(f"{_BUILD_PREFIX}{entry.name}-damaged")
        shutil.rmtree(aside, ignore_errors=True)
        entry.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
    folder.rename(entry)
    atomic.fsync_folder(entry.parent)


def remove_leftovers(cache: Path, but: str) -> None:
    """Delete what dead builders of other entries than `but` have left; one that is alive holds a lock."""
    for folder in cache.glob(f"{_BUILD_PREFIX}*"):
        if folder.name == f"{_BUILD_PREFIX}{but}":
            continue
        key = folder.name.removeprefix(_BUILD_PREFIX).removesuffix("-damaged")
        with suppress(OSError):
            descriptor = _open_lock(cache, key)
            try:
                if _try_lock(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
