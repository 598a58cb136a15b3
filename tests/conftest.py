"""What every test may lean on: a home of its own, and a workspace in which a real run takes seconds."""

from __future__ import annotations

import os
import signal
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Workspace
from engine.runs import folder as folders
from engine.runs.lock import holder

# Two workers that both compute on all cores wait for each other's threads more than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts what it puts into the background with SIGINT ignored, and what is ignored is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL = """
[model]
n_layer = 2
n_head = 2
n_kv_head = 1
n_embd = 64
intermediate = 128
context = 64
vocab_size = 512

[corpus]
source = "text"
validation_frac = 0.1

[training]
tokens = {tokens}
tokens_per_step = 1024
micro_batch = 16
learning_rate = 0.003
checkpoint_every_s = 1
eval_every_s = 2
sample_every_s = 3

[limits]
min_free_disk_gib = 0.0

[telemetry]
interval_s = 0.25

[preflight]
rehearsal = false
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that device locks and settings of the machine's owner play no part."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    # The looks follow the terminal: every test has the same one.
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return folder


def write_text(folder: Path, num_bytes: int = 300_000) -> None:
    """Real text: modules of the standard library, until there is enough."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, path in enumerate(sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))):
        data = path.read_bytes()
        (folder / f"{number:03}-{path.stem}.txt").write_bytes(data)
        written += len(data)
        if written >= num_bytes:
            return


@pytest.fixture
def make_workspace(tmp_path: Path) -> Iterator[Callable[..., Workspace]]:
    """Make a workspace with real text and a very small model; its runs are ended afterwards."""
    made: list[Path] = []

    def make(tokens: int = 20_480, name: str = "workspace") -> Workspace:
        folder = tmp_path / name
        write_text(folder / "text")
        (folder / "settings.toml").write_text(SMALL.format(tokens=tokens), "utf-8")
        made.append(folder)
        return Workspace(folder)

    yield make
    for folder in made:
        for run in folders.all_runs(folder):
            end(run)


def end(run: folders.RunFolder) -> None:
    """Kill what is left of a run: only processes that hold its own locks."""
    for path in (run.supervisor_lock, run.trainer_lock):
        text = holder(path)
        if text and text.strip().isdigit():
            os.kill(int(text), signal.SIGKILL)


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0, what: str = "") -> None:
    """Wait until a condition holds; fail naming it where it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {what or condition}")
        time.sleep(0.05)
