"""How soon the checklist stands, and how soon a key answers while the checks run, on a real terminal of 80x24.

Run: python -m bench.preflight WORKSPACE [--rounds N]. The workspace has a settings.toml and no run that is going; one
preflight is made first, so that there is something known. Beside it: an empty Textual app, on the same machine.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.terminal import BARE, spawn

TITLES = ("Corpus", "Device and torch", "Close applications", "VRAM free", "Memory", "Disk for checkpoints")
"""What the cursor comes to, key by key."""
PATIENCE_S = 30.0


class Terminal:
    """A program on a terminal of its own, and all that it has sent."""

    def __init__(self, code: str) -> None:
        self.began_s = time.perf_counter()
        self._pid, self._descriptor = spawn([sys.executable, "-c", code])

    def wait_for(self, pattern: bytes) -> float:
        """The instant at which what came from now on holds `pattern`."""
        said, deadline = b"", time.perf_counter() + PATIENCE_S
        while time.perf_counter() < deadline:
            if select.select([self._descriptor], [], [], 0.02)[0]:
                said += os.read(self._descriptor, 1 << 16)
                if re.search(pattern, said, re.DOTALL):
                    return time.perf_counter()
        raise SystemExit(
            f"{pattern!r} did not come within {PATIENCE_S:g} s; the last that did: {said[-400:]!r}"
        )

    def press(self, key: str, pattern: bytes) -> float:
        """Seconds from a key to what it brings."""
        while select.select([self._descriptor], [], [], 0.05)[0]:
            os.read(self._descriptor, 1 << 16)
        pressed_s = time.perf_counter()
        os.write(self._descriptor, key.encode())
        return self.wait_for(pattern) - pressed_s

    def close(self) -> None:
        """End the program."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._descriptor)


def told(name: str, seconds: list[float]) -> str:
    """Median and range in ms."""
    low, middle, high = (value * 1000 for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{name:<44} {middle:5.0f} ms ({low:.0f} to {high:.0f}, {len(seconds)} times)"


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = options.workspace.resolve()
    check = [sys.executable, "-m", "tui", "--workspace", str(folder), "check"]
    subprocess.run(check, stdout=subprocess.DEVNULL, check=False)
    code = f"from pathlib import Path; from tui.app import open_app; open_app(Path({str(folder)!r}))"
    bare, opened, shown, keys = [], [], [], []
    for _ in range(options.rounds):
        empty = Terminal(BARE)
        bare.append(empty.wait_for(rb"[34]8;2;") - empty.began_s)
        empty.close()
        app = Terminal(code)
        opened.append(app.wait_for(rb"Corpus.{0,400}?(pass|warn|FAIL)") - app.began_s)
        keys += [app.press("j", title.encode()) for title in TITLES]
        app.press("4", rb"[Nn]o run|Runs")
        shown.append(app.press("1", rb"Corpus.{0,400}?(pass|warn|FAIL|running)"))
        app.close()
    print(told("an empty Textual app: first paint", bare))
    print(told("from the start to the list, verdicts in it", opened))
    print(told("from another screen to the list", shown))
    print(told("a key while the checks run", keys))


if __name__ == "__main__":
    main()
