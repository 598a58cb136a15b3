"""Which files a corpus consists of: found in a fixed order, each once, and nothing but regular files.

A folder is searched for every format that is read; hidden names are passed over, links are followed, each folder once,
so that a loop of links ends. What lies in the workspace by this program's own hand is not a corpus.
"""

from __future__ import annotations

import glob
import os
import stat
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from engine.errors import CorpusError
from engine.settings import CorpusPart, CorpusSettings

BUILTIN_PYTHON = "builtin:python"
FileKind = Literal["text", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "python"]

_KINDS: dict[str, FileKind] = {
    ".txt": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".jsonl.zst": "jsonl.zst",
    ".parquet": "parquet",
}
_ENDINGS = ".txt, .md, .jsonl, .jsonl.gz, .jsonl.zst and .parquet"
_FORMATS = f"files, folders and patterns of {_ENDINGS}"
_OWN_NAMES = frozenset({"cache", "runs", "TRAINING.md"})
_FOREIGN_PYTHON = frozenset({"site-packages", "dist-packages", "__pycache__"})


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the corpus as it was when it was listed."""

    path: Path
    kind: FileKind
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    text_field: str = ""
    """The field or column of its text, where the format has such; empty: the corpus' own."""
    part: int = 0
    """Which source of a mix it is of, from 0."""

    @property
    def shown_path(self) -> str:
        """The path for a message; see `shown`."""
        return shown(self.path)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a corpus in the order in which they are read."""

    files: tuple[SourceFile, ...]
    description: str
    """The source as the settings name it."""
    weights: tuple[float, ...] = (1.0,)
    """One a source of the mix: times it is read while one of weight 1 is read once."""

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)


def shown(path: Path) -> str:
    """A path as text that can be printed and stored: bytes of a name that are not UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def list_files(settings: CorpusSettings, workspace: Path) -> Listing:
    """The files that `corpus.source` or `corpus.mix` names; empty ones are left out.

    A file that several sources name is of the first of them.
    Raises: CorpusError where a name is not there, not readable or of another format, or where nothing is left.
    """
    if settings.mix and settings.source != CorpusSettings().source:
        raise CorpusError(
            "corpus.source and [[corpus.mix]] are both set.",
            "Move corpus.source into a [[corpus.mix]] of its own.",
        )
    parts = settings.mix or [CorpusPart(source=settings.source)]
    seen: set[tuple[int, int]] = set()
    files: list[SourceFile] = []
    for number, part in enumerate(parts):
        own = {"text_field": part.text_field or "", "part": number}
        before = len(files)
        for file in _part_files(part, workspace):
            if (file.device, file.inode) not in seen and file.size_bytes > 0:
                seen.add((file.device, file.inode))
                files.append(msgspec.structs.replace(file, **own))
        if len(files) == before:
            raise CorpusError(
                f"corpus.source = {_described(part)!r} holds no text: no file of {_ENDINGS} that is not empty"
                f"{' or in an earlier source' if number else ''}.",
                f'Put text there, name other {_FORMATS}, or use "{BUILTIN_PYTHON}".',
            )
    weights = tuple(part.weight for part in parts)
    description = ", ".join(
        _described(part) + (f" x {part.weight:g}" if part.weight != 1.0 else "") for part in parts
    )
    return Listing(files=tuple(files), description=description, weights=weights)


def _names(part: CorpusPart) -> list[str]:
    return [part.source] if isinstance(part.source, str) else part.source


def _described(part: CorpusPart) -> str:
    return ", ".join(_names(part))


def _part_files(part: CorpusPart, workspace: Path) -> Iterator[SourceFile]:
    names = _names(part)
    if not any(name.strip() for name in names):
        raise CorpusError("corpus.source is empty.", f'Name {_FORMATS}, or "{BUILTIN_PYTHON}".')
    for name in names:
        yield from _files_of(name, workspace)


def _files_of(name: str, workspace: Path) -> Iterator[SourceFile]:
    if name.startswith("builtin:"):
        if name != BUILTIN_PYTHON:
            raise CorpusError(f"corpus.source: there is no {name!r}.", f'Did you mean "{BUILTIN_PYTHON}"?')
        return _python_files()
    try:
        path = workspace / Path(name).expanduser()
        status = path.stat()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and glob.has_magic(name):
            return _pattern_files(path, workspace)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorpusError(
            f"corpus.source: {name!r} cannot be opened: {reason}.",
            f'Name {_FORMATS}, or "{BUILTIN_PYTHON}"; relative paths start at {shown(workspace)}.',
        ) from error
    if stat.S_ISDIR(status.st_mode):
        return _folder_files(path, workspace)
    if not stat.S_ISREG(status.st_mode):
        raise CorpusError(
            f"corpus.source: {shown(path)} is neither a file nor a folder.", f"Name {_FORMATS}."
        )
    kind = _kind_of(path)
    if kind is None:
        raise CorpusError(
            f"corpus.source: {shown(path)} is of a format that is not read.",
            f"This version reads {_FORMATS}: convert it, or rename it to .txt where it is plain text.",
        )
    if status.st_size == 0:
        raise CorpusError(
            f"corpus.source: {shown(path)} is empty.", "Put text into it, or name another file."
        )
    return iter((_source_file(path, kind, status),))


def _source_file(path: Path, kind: FileKind, status: os.stat_result) -> SourceFile:
    return SourceFile(
        path=path,
        kind=kind,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        device=status.st_dev,
        inode=status.st_ino,
    )


def _kind_of(path: Path) -> FileKind | None:
    name = path.name.lower()
    return next((kind for ending, kind in _KINDS.items() if name.endswith(ending)), None)


def _pattern_files(pattern: Path, workspace: Path) -> Iterator[SourceFile]:
    """What a pattern matches, by the bytes of the names: files of a format that is read, and those of folders."""
    own = _own_files(workspace)
    own_folders = [workspace / name for name in _OWN_NAMES]
    # Path.glob takes no absolute pattern.
    for name in sorted(glob.iglob(str(pattern), recursive=True), key=os.fsencode):  # noqa: PTH207
        path = Path(name)
        if any(path.is_relative_to(folder) for folder in own_folders):
            continue
        try:
            status = path.stat()
        except OSError:
            continue  # as in `_walk`
        kind = _kind_of(path)
        if stat.S_ISDIR(status.st_mode):
            # `**` names every folder itself; what lies in it comes as names of its own.
            if pattern.name != "**":
                yield from _folder_files(path, workspace)
        elif stat.S_ISREG(status.st_mode) and kind and (status.st_dev, status.st_ino) not in own:
            yield _source_file(path, kind, status)


def _folder_files(folder: Path, workspace: Path) -> Iterator[SourceFile]:
    own = _own_files(workspace)
    for path, status in _walk(folder, own):
        kind = _kind_of(path)
        if kind is not None and (status.st_dev, status.st_ino) not in own:
            yield _source_file(path, kind, status)


def _own_files(workspace: Path) -> set[tuple[int, int]]:
    return {identity for name in _OWN_NAMES if (identity := _identity(workspace / name))}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _python_files() -> Iterator[SourceFile]:
    """The library and its tests; what the tests read as data (much of it broken on purpose) is left out."""
    root = Path(sysconfig.get_path("stdlib"))
    if not root.is_dir():
        raise CorpusError(
            f"corpus.source: the standard library's source is not at {shown(root)}.",
            f"Name {_FORMATS} of your own instead of {BUILTIN_PYTHON}.",
        )
    for path, status in _walk(root, set()):
        folders = path.relative_to(root).parts[:-1]
        if path.suffix != ".py" or path.name.startswith("_sysconfigdata"):
            continue
        if not _FOREIGN_PYTHON.intersection(folders) and not _is_test_data(folders):
            yield _source_file(path, "python", status)


def _is_test_data(folders: tuple[str, ...]) -> bool:
    tests = [index for index, name in enumerate(folders) if name in ("test", "tests")]
    return bool(tests) and any(name.endswith("data") for name in folders[tests[0] + 1 :])


def _walk(folder: Path, visited: set[tuple[int, int]]) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files below a folder, by the bytes of their names; a folder that was visited is not entered.

    Raises: CorpusError where a folder cannot be listed.
    """
    entered = set(visited)
    pending = [iter(_children(folder, entered))]
    while pending:
        path = next(pending[-1], None)
        if path is None:
            pending.pop()
            continue
        try:
            status = path.stat()
        except OSError:
            # A link to nowhere or to itself; a file that vanished just now is missed by nobody either.
            continue
        if stat.S_ISDIR(status.st_mode):
            pending.append(iter(_children(path, entered)))
        elif stat.S_ISREG(status.st_mode):
            yield path, status


def _children(folder: Path, entered: set[tuple[int, int]]) -> list[Path]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in entered:
            return []
        entered.add((status.st_dev, status.st_ino))
        children = sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))
    except OSError as error:
        raise unreadable(folder, error) from error
    return [path for path in children if not path.name.startswith(".") and path.name not in _FOREIGN_PYTHON]


def unreadable(path: Path, error: OSError) -> CorpusError:
    """The error for a file or folder of the corpus that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return CorpusError(
            f"{shown(path)} has gone while the corpus was read.", "Put it back, and start again."
        )
    return CorpusError(
        f"{shown(path)} cannot be read: {error.strerror or error}.",
        "Make it readable for you, or leave it out of corpus.source.",
    )


@contextmanager
def open_unchanged(file: SourceFile) -> Iterator[BinaryIO]:
    """Open a file of the listing, and see at the end that it is still the one that was listed.

    Raises: CorpusError where it has gone, has changed since it was listed, or cannot be read.
    """
    try:
        # A name that has become a FIFO since must not block the open.
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=1 << 20) as stream:
            _require_unchanged(file, os.fstat(descriptor))
            yield stream
            _require_unchanged(file, os.fstat(descriptor))
    except OSError as error:
        raise unreadable(file.path, error) from error


def _require_unchanged(file: SourceFile, status: os.stat_result) -> None:
    now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if now != (file.device, file.inode, file.size_bytes, file.mtime_ns):
        raise CorpusError(
            f"{file.shown_path} changed while the corpus was read.",
            "Wait until nothing writes to it any more, and start again.",
        )
