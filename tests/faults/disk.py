"""Faults of a disk, made by a library that is put before the C library: see disk.c for what it can do.

command = [sys.executable, "-m", "tests.faults.saves"];  Popen(command, env=preloaded(tmp_path))
disk = Disk(tmp_path); Popen(..., env={**os.environ, **disk.env}); disk.fail(errno.ENOSPC, "/checkpoints/"); disk.mend()
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("disk.c")
WRITING = ("open", "write", "pwrite", "ftruncate", "mkdir")
"""Calls that ask a disk for room."""
CHANGING = (*WRITING, "fchmod", "rename", "unlink", "rmdir")
"""Calls that a read-only folder refuses."""
SYNCING = ("fsync", "fdatasync")


def build(folder: Path) -> Path:
    """The library, compiled; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to make the faults with")
    library = folder / "disk.so"
    if not library.exists():
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
    return library


class Disk:
    """What befalls the disk of the processes that are started with `env`, from now to `mend`."""

    def __init__(self, folder: Path, traced: str | None = None) -> None:
        """`traced` is a part of the paths whose calls are traced; None: none are."""
        self._control = folder / "disk-fault"
        self.trace = folder / "disk-trace"
        self.env = {"LD_PRELOAD": str(build(folder)), "FAULT_CONTROL": str(self._control)}
        if traced is not None:
            self.env |= {"FAULT_TRACE": str(self.trace), "FAULT_UNDER": traced}

    def fail(self, number: int, under: str, calls: tuple[str, ...]) -> None:
        """Let calls fail with an error for paths that have `under` in them."""
        aside = self._control.with_suffix(".new")
        aside.write_text(f"{number} {under} {','.join(calls)}\n")
        aside.replace(self._control)

    def fill(self, under: str) -> None:
        """No room any more."""
        self.fail(errno.ENOSPC, under, WRITING)

    def mend(self) -> None:
        """All is well again."""
        self._control.unlink(missing_ok=True)


def mounted(folder: Path, mebibytes: int) -> None:
    """Mount a small disk of its own at `folder`; the test is skipped where one may not. See `unmount`."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")


def unmount(folder: Path) -> None:
    """Take the small disk away, also where something still uses it."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
