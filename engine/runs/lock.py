"""Locks that the kernel gives back when their holder dies, however it dies.

Source: flock(2). A reader tests with a shared lock, which stands in nobody's way but a holder that starts in the
same instant; that one tries again for a moment.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import time
from pathlib import Path

from engine.atomic import make_private
from engine.errors import StoreError

REHEARSING = "a rehearsal"
"""What the lock of a device says while no run but a rehearsal holds it."""


class Lock:
    """An exclusive lock on one file, held until `release` or the end of the process.

    The file keeps a line of text that says who holds it; it is not deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, text: str = "", timeout_s: float = 1.0) -> bool:
        """Take the lock, trying for `timeout_s`, unless it is held already; False where another process holds it.

        Raises: StoreError where the file cannot be opened.
        """
        if self._descriptor is not None:
            return True
        descriptor = _open(self.path)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8", "surrogateescape"), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; without it, nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(path: Path) -> int:
    try:
        make_private(path.parent)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"The lock {path} cannot be made: {error}", "Make its folder writable.") from error


def holder(path: Path) -> str | None:
    """The text of a lock's holder; None where nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 4096, 0).decode("utf-8", "surrogateescape")
    else:
        return None
    finally:
        os.close(descriptor)


def state_folder() -> Path:
    """Where this user's llm-tui keeps what belongs to no workspace.

    Below XDG_STATE_HOME (default ~/.local/state), not XDG_RUNTIME_DIR: that one is emptied at logout while a run
    goes on. Without a home: below the temporary folder, named after the user.
    """
    home = os.environ.get("HOME")
    state = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else None)
    return Path(state) / "llm-tui" if state else Path(tempfile.gettempdir()) / f"llm-tui-{os.getuid()}"


def device_lock_path(identity: str) -> Path:
    """Where the lock of a device of this machine is, the same for every workspace of this user."""
    safe = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in identity)
    return state_folder() / "devices" / f"{socket.gethostname()}-{safe}.lock"
