"""Locks: one holder, given back by the kernel when the holder is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.runs import folder as folders
from engine.runs.lock import Lock, device_lock_path, holder

HOLD = """
import sys, time
from pathlib import Path
from engine.runs.lock import Lock
assert Lock(Path(sys.argv[1])).acquire("the holder")
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_holder_gives_its_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert holder(path) == "the holder"
        assert Lock(path).acquire(timeout_s=0.1) is False
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert holder(path) is None
    assert Lock(path).acquire("me")


def test_a_lock_is_not_held_by_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text("left over by a reboot", "utf-8")
    assert holder(path) is None
    lock = Lock(path)
    assert lock.acquire("x")
    assert path.read_text("utf-8") == "x"
    lock.release()
    assert holder(path) is None


def test_the_device_lock_outlives_a_logout_and_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert str(device_lock_path("GPU-1/../x")).startswith("/state/llm-tui/devices/")
    assert "/../" not in str(device_lock_path("GPU-1/../x"))
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME")
    assert f"llm-tui-{os.getuid()}" in str(device_lock_path("cpu"))


def make_run(workspace: Path, name: str) -> None:
    path = workspace / "runs" / name
    path.mkdir(parents=True)
    (path / "settings.toml").write_text("", "utf-8")
    (path / "run.db").write_bytes(b"")


def test_runs_are_found_by_id_unique_prefix_or_as_the_newest(tmp_path: Path) -> None:
    for name in ("0101-tiny-aa", "0101-tiny-ab", "0202-tiny-cc"):
        make_run(tmp_path, name)
        stamp = int(name[:4]) * 10**9
        os.utime(tmp_path / "runs" / name / "settings.toml", ns=(stamp, stamp))
    assert folders.find(tmp_path, None).id == "0202-tiny-cc"
    assert folders.find(tmp_path, "02").id == "0202-tiny-cc"
    assert folders.find(tmp_path, "0101-tiny-aa").id == "0101-tiny-aa"
    with pytest.raises(EngineError, match="beginning of 2 runs"):
        folders.find(tmp_path, "0101")
    with pytest.raises(EngineError, match="no run 'x'"):
        folders.find(tmp_path, "x")
    with pytest.raises(EngineError, match="no run in"):
        folders.find(tmp_path / "empty", None)
