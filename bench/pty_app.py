"""A program on a pseudo-terminal that somebody reads, or does not."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


class PtyApp:
    """One program with a terminal of its own; killed when it is left."""

    def __init__(self, argv: list[str], folder: Path, rows: int = 24, columns: int = 80) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                os.environ.pop(name, None)
            os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
            os.chdir(folder)
            os.execv(argv[0], argv)
        self.seen = bytearray()
        """What was sent, as far as it was read."""
        self.num_bytes = 0

    def __enter__(self) -> PtyApp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._descriptor)

    def _read(self, patience_s: float) -> bool:
        if not select.select([self._descriptor], [], [], patience_s)[0]:
            return False
        data = os.read(self._descriptor, 1 << 16)
        self.num_bytes += len(data)
        self.seen += data
        del self.seen[: -(1 << 20)]
        return True

    def read_for(self, seconds: float) -> None:
        """Read what comes."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._read(left)

    def read_quiet(self) -> None:
        """Read until nothing has come for a moment."""
        while self._read(0.15):
            pass

    def read_until(self, is_there: Callable[[bytearray], bool], patience_s: float) -> None:
        """Read until something is there. Raises: TimeoutError where it does not come."""
        deadline = time.perf_counter() + patience_s
        while not is_there(self.seen):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"it never came; the last was {bytes(self.seen[-400:])!r}")
            self._read(0.05)

    def answer_s(self, key: str, patience_s: float) -> float | None:
        """Press a key; seconds until the first bytes after it, None where it changes nothing on the screen."""
        os.write(self._descriptor, key.encode())
        began = time.perf_counter()
        return time.perf_counter() - began if self._read(patience_s) else None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The program there, but not running."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def cpu_s(self) -> float:
        """Seconds of processor that the program has used. Source: proc(5), stat, fields 14 and 15."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory of the program. Source: proc(5), statm, field 2."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
