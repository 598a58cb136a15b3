"""A person's seat: a real pseudo-terminal with a program on it, what it shows, and keys to press."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
_CONTROL = re.compile(rb"\x1b(\[[0-9;?<=>$]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][0-9A-B]|[=>78cM])")

RECORDED = """
import sys
from pathlib import Path
from tests.tui.recorded import RecordedBridge, in_state
from tui.app import LlmTui
app = LlmTui(Path("/home/ana/gpt"), RecordedBridge(in_state("gpu")))
farewell = app.run()
if farewell:
    print(farewell)
sys.exit(app.return_code)
"""
"""The app on a recorded run: the real app, driver and terminal, without a training beside it."""


class Seat:
    """A program on a pseudo-terminal of its own; `close` takes the terminal away."""

    def __init__(
        self,
        argv: Sequence[str],
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        before: Callable[[], None] | None = None,
        *,
        controls: bool = True,
    ) -> None:
        """`controls`: whether the terminal is the program's controlling one, which a hang-up then signals."""
        self.master, slave = os.openpty()
        self.resize(*size)

        def prepare() -> None:
            os.setsid()
            if controls:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if before:
                before()

        environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | dict(env or {})
        self.process = subprocess.Popen(
            list(argv), stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, preexec_fn=prepare
        )
        os.close(slave)
        self.sent = bytearray()
        """Every byte that came to the terminal."""
        self.is_reading = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while self.process.poll() is None:
            if not self.is_reading:
                time.sleep(0.02)
                continue
            with contextlib.suppress(OSError, ValueError):
                if select.select([self.master], [], [], 0.1)[0]:
                    self.sent += os.read(self.master, 65536)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, as a window that is dragged does."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        """Bytes from the keyboard, as fast as they are taken."""
        while data:
            data = data[os.write(self.master, data[:1024]) :]

    @property
    def text(self) -> str:
        """What came, without the sequences that move the cursor and colour."""
        return _CONTROL.sub(b"", bytes(self.sent)).decode("utf-8", "replace")

    def wait_to_see(self, text: str, since: int = 0, timeout_s: float = 40.0) -> None:
        """Wait until a text was shown, `since` a number of bytes of `sent`."""
        deadline = time.monotonic() + timeout_s
        while text not in _CONTROL.sub(b"", bytes(self.sent[since:])).decode("utf-8", "replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(
                    f"{text!r} was never shown (exit {self.process.poll()}); the end: {self.text[-3000:]}"
                )
            time.sleep(0.05)

    def wait_for_end(self, timeout_s: float = 20.0) -> int:
        """Wait until the program has ended; its exit status."""
        return self.process.wait(timeout_s)

    def wait_for_quiet(self) -> None:
        """Wait until what an ended program had sent is read."""
        while select.select([self.master], [], [], 0.3)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            if not data:
                return
            self.sent += data

    def cpu_s(self) -> float:
        """Processor time that the program has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def hang_up(self) -> None:
        """Take the terminal away."""
        self.is_reading = False
        time.sleep(0.2)  # the reader is out of its call
        with contextlib.suppress(OSError):
            os.close(self.master)

    def close(self) -> None:
        """End the program, whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._reader.join(2.0)
        with contextlib.suppress(OSError):
            os.close(self.master)


def app_argv() -> list[str]:
    """The app on a recorded run."""
    return [sys.executable, "-c", RECORDED]
