"""When a trainer counts as frozen: a real process that gives signs of life, is stopped, and goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.records import EventRow
from engine.runs.events import event
from engine.runs.silence import MOST_BEAT_S, Silence
from engine.runs.store import RunStore
from tests.conftest import wait_for

_LIVE = """
import os, sys, time
from pathlib import Path
from engine.errors import StoreError
from engine.records import HeartbeatRow
from engine.runs.store import RunStore
from engine.sqlite import BusyError
store = RunStore(Path(sys.argv[1]), busy_ms=50)
while True:
    try:
        store.put(HeartbeatRow(role="trainer", pid=os.getpid(), at=time.time(), phase="training"))
    except (BusyError, StoreError):
        pass
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass
"""


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    RunStore(tmp_path / "run.db").close()
    process = subprocess.Popen([sys.executable, "-c", _LIVE, str(tmp_path / "run.db")])
    yield process
    process.kill()
    process.wait()


def grows(silence: Silence, seconds: float) -> bool:
    """Whether the silence lasts on while it is asked about for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = silence.lasts_s()
        time.sleep(0.1)
    return silence.lasts_s() > before > 0


def test_who_is_stopped_is_silent_and_who_goes_on_is_not(
    tmp_path: Path, trainer: subprocess.Popen[bytes]
) -> None:
    store = RunStore(tmp_path / "run.db", busy_ms=50)
    wait_for(lambda: store.heartbeat("trainer"), 60, "a heartbeat")
    silence = Silence(store, trainer.pid)
    silence.lasts_s()
    os.kill(trainer.pid, signal.SIGSTOP)
    wait_for(lambda: silence.lasts_s() > 1.0, 60, "the silence")
    os.kill(trainer.pid, signal.SIGCONT)
    wait_for(lambda: silence.lasts_s() == 0.0, 60, "a sign of life")


def test_while_nobody_can_write_the_processor_time_tells(
    tmp_path: Path, trainer: subprocess.Popen[bytes]
) -> None:
    store = RunStore(tmp_path / "run.db", busy_ms=50)
    wait_for(lambda: store.heartbeat("trainer"), 60, "a heartbeat")
    lock = sqlite3.connect(tmp_path / "run.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    store.tell(event("info", "test", "It waits."))
    assert store.is_stalled
    silence = Silence(store, trainer.pid)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        silence.lasts_s()
        time.sleep(0.05)
    wait_for(lambda: silence.lasts_s() == 0.0, 60, "processor time")
    os.kill(trainer.pid, signal.SIGSTOP)
    wait_for(lambda: silence.lasts_s() > 1.0, 60, "the silence")
    assert grows(silence, 0.5)
    lock.execute("ROLLBACK")
    assert store.flush() and store.num_rows(EventRow) == 1


def test_time_in_which_nobody_asked_is_no_silence(tmp_path: Path, trainer: subprocess.Popen[bytes]) -> None:
    store = RunStore(tmp_path / "run.db", busy_ms=50)
    wait_for(lambda: store.heartbeat("trainer"), 60, "a heartbeat")
    os.kill(trainer.pid, signal.SIGSTOP)
    silence = Silence(store, trainer.pid)
    silence.lasts_s()
    time.sleep(MOST_BEAT_S + 1.0)  # as if this process had been stopped as well
    assert silence.lasts_s() <= MOST_BEAT_S + 0.1
