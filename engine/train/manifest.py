"""`manifest.json`: what every file of a checkpoint or of a finished model must be, and whether it still is.

It is the last file to be written; what has none, or differs from it, is damaged. Nothing that it names is opened
before its kind and size are looked at, so that a pipe, a device or a file without end is refused and not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from engine import atomic
from engine.errors import CheckpointError

FORMAT = 1
"""Raised when an older program could no longer read what is written."""
MANIFEST_FILE = "manifest.json"
MOST_SMALL_BYTES = 16 << 20
"""A JSON file of a checkpoint that is larger is none of ours."""
_BLOCK_BYTES = 1 << 20


class FileFact(msgspec.Struct, frozen=True, kw_only=True):
    """What a file must be."""

    num_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last file of a folder to be written."""

    format: int
    step: int
    written_at: float
    files: dict[str, FileFact]

    @property
    def total_bytes(self) -> int:
        """Of the files that it names."""
        return sum(fact.num_bytes for fact in self.files.values())


class _Format(msgspec.Struct):
    format: int


class Label(msgspec.Struct, frozen=True):
    """How a folder is spoken of where something is wrong with it."""

    name: str
    """As a sentence begins: "Checkpoint step-40"."""
    remedy: str

    def damaged(self, reason: str) -> CheckpointError:
        """The error that says what is wrong."""
        return CheckpointError(f"{self.name} is damaged: {reason}.", self.remedy)


def write_manifest(folder: Path, meant: Mapping[str, str], step: int, written_at: float) -> Manifest:
    """Read back what was written, and enter it; `meant` is the sha256 of what each file was to hold.

    Raises: OSError where a file cannot be read or is not what was meant.
    """
    files = {name: fact_of(folder / name) for name in meant}
    for name, fact in files.items():
        if fact.sha256 != meant[name]:
            raise OSError(f"{name} read back is not what was written: disk or memory is faulty")
    manifest = Manifest(format=FORMAT, step=step, written_at=written_at, files=files)
    atomic.write_bytes(folder / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def verify_files(folder: Path, names: Collection[str], label: Label) -> Manifest:
    """Read the files of these names, all that the manifest may speak of, and compare them with it.

    Raises: CheckpointError that says which is wrong, and how.
    """
    manifest = _read_manifest(folder, label)
    if set(manifest.files) != set(names):
        raise label.damaged(f"{MANIFEST_FILE} names other files than {', '.join(sorted(names))}")
    for name, fact in manifest.files.items():
        try:
            num_bytes = _size_of(folder / name)
            if num_bytes != fact.num_bytes:
                raise label.damaged(f"{name} has {num_bytes:,} bytes instead of {fact.num_bytes:,}")
            found = fact_of(folder / name)
        except OSError as error:
            raise label.damaged(f"{name} cannot be read ({error.strerror or error})") from error
        if found != fact:
            raise label.damaged(f"{name} is not what was written (its sha256 differs)")
    return manifest


def read_small(path: Path) -> bytes:
    """The content of a file that is a regular one, and small. Raises: OSError."""
    if _size_of(path) > MOST_SMALL_BYTES:
        raise OSError("it is far too large")
    return path.read_bytes()


def fact_of(path: Path) -> FileFact:
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


def _size_of(path: Path) -> int:
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError("it is no regular file")
    return facts.st_size


def _read_manifest(folder: Path, label: Label) -> Manifest:
    try:
        data = read_small(folder / MANIFEST_FILE)
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise CheckpointError(
                f"{label.name} was written by a newer llm-tui (format {version}; this one reads {FORMAT}).",
                "Update llm-tui to use it.",
            )
        return msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError as error:
        raise label.damaged(f"{MANIFEST_FILE} is missing") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise label.damaged(f"{MANIFEST_FILE} cannot be read ({error})") from error
