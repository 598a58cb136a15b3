"""What the app sends to a terminal: time to the first paint, and bytes a second while it stands there.

Run: python -m bench.terminal [--workspace DIR] [--keys KEYS] [--seconds N] [--bare]; --bare is an empty Textual
app, to compare with. The terminal is 80x24 with true colour.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from dataclasses import dataclass, field

BARE = "from textual.app import App; App().run()"
SETTLED_S = 3.0
"""After this, the screen stands; what is sent from here on is the running cost."""


@dataclass
class Watched:
    """What came, and when."""

    first_s: float | None = None
    """The first painted cell: of the app, the line that says it is opening."""
    screen_s: float | None = None
    """The header of the first screen; None for a bare app, which has none."""
    reads: list[tuple[float, int]] = field(default_factory=list)
    """Time and bytes of each read."""


def spawn(argv: list[str]) -> tuple[int, int]:
    """A child on a terminal of its own."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="80", LINES="24")
        os.execv(argv[0], argv)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return pid, descriptor


def watch(descriptor: int, seconds: float, keys: str) -> Watched:
    """Read what comes, and press the keys once a second has passed."""
    began = time.perf_counter()
    seen, left = Watched(), list(keys)
    while (now := time.perf_counter() - began) < seconds:
        if left and now > 1.0:
            os.write(descriptor, left.pop(0).encode())
        if not select.select([descriptor], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(descriptor, 1 << 16)
        except OSError:
            break
        now = time.perf_counter() - began
        # The set-up sequences come first; only a painted cell has a colour.
        if seen.first_s is None and re.search(rb"[34]8;2;", data):
            seen.first_s = now
        if seen.screen_s is None and b"Preflight" in data:
            seen.screen_s = now
        seen.reads.append((now, len(data)))
    return seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--keys", default="")
    parser.add_argument("--seconds", type=float, default=13.0)
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    code = BARE
    if not options.bare:
        code = (
            f"from pathlib import Path; from tui.app import open_app; open_app(Path({options.workspace!r}))"
        )
    pid, descriptor = spawn([sys.executable, "-c", code])
    seen = watch(descriptor, options.seconds, options.keys)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    running = sum(size for at, size in seen.reads if at >= SETTLED_S)
    for name, at_s in (("first paint", seen.first_s), ("first screen", seen.screen_s)):
        print(f"{name} {'never' if at_s is None else f'{at_s * 1000:.0f} ms'}")
    print(f"opening {sum(size for at, size in seen.reads if at < SETTLED_S)} bytes")
    print(f"after {SETTLED_S:.0f} s: {running / (options.seconds - SETTLED_S):.0f} bytes/s")


if __name__ == "__main__":
    main()
