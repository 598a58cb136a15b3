"""How soon the checklist stands, and how soon a key answers while the checks run, on a real terminal of 80x24.

Run: python -m bench.preflight WORKSPACE [--rounds N]. The workspace has a settings.toml and no run that is going; one
preflight is made first, so that there is something known. Beside it: an empty Textual app, on the same machine.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.pty_app import PtyApp
from bench.terminal import APP, BARE, python

TITLES = ("Corpus", "Device and torch", "Close applications", "VRAM free", "Memory", "Disk for checkpoints")
"""What the cursor comes to, key by key."""
PATIENCE_S = 30.0


class Terminal(PtyApp):
    """A program on a terminal of its own, and when it says what."""

    def __init__(self, code: str, folder: Path) -> None:
        self.began_s = time.perf_counter()
        super().__init__(python(code), folder)

    def wait_for(self, pattern: bytes) -> float:
        """The instant at which what came holds `pattern`."""
        self.read_until(lambda seen: re.search(pattern, seen, re.DOTALL) is not None, PATIENCE_S)
        return time.perf_counter()

    def press(self, key: str, pattern: bytes) -> float:
        """Seconds from a key to what it brings."""
        self.read_quiet()
        self.seen.clear()
        pressed_s = time.perf_counter()
        os.write(self._descriptor, key.encode())
        return self.wait_for(pattern) - pressed_s


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
    bare, opened, shown, keys = [], [], [], []
    for _ in range(options.rounds):
        with Terminal(BARE, folder) as empty:
            bare.append(empty.wait_for(rb"Ready") - empty.began_s)
        with Terminal(APP, folder) as app:
            opened.append(app.wait_for(rb"Corpus.{0,400}?(pass|warn|FAIL)") - app.began_s)
            keys += [app.press("j", title.encode()) for title in TITLES]
            app.press("4", rb"[Nn]o run|Runs")
            shown.append(app.press("1", rb"Corpus.{0,400}?(pass|warn|FAIL|running)"))
    print(told("an empty Textual app: first paint", bare))
    print(told("from the start to the list, verdicts in it", opened))
    print(told("from another screen to the list", shown))
    print(told("a key while the checks run", keys))


if __name__ == "__main__":
    main()
