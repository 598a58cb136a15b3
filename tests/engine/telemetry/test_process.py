"""Processes: real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from engine.telemetry.process import find_process, find_processes, is_alive, start_time_s


def test_programs_are_found_by_name_and_by_nothing_that_merely_begins_so(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    for name in ("zzfox", "zzfox-bin", "zzfoxtrot"):
        shutil.copy(sleep, tmp_path / name)
    children = [
        subprocess.Popen([str(tmp_path / name), "30"]) for name in ("zzfox", "zzfox-bin", "zzfoxtrot")
    ]
    try:
        time.sleep(0.1)
        found = find_processes(["ZZFOX", "no-such-program"])
        assert {info.name for info in found} == {"zzfox", "zzfox-bin"}
        assert {info.pid for info in found} == {child.pid for child in children[:2]}
        assert all(info.is_own and info.user and info.rss_bytes for info in found)
        assert all(info.age_s is not None and info.age_s < 20 for info in found)
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert find_processes(["zzfox"]) == ()


def test_a_number_is_looked_up() -> None:
    me = find_process(os.getpid())
    assert me is not None and me.pid == os.getpid() and me.is_own
    assert find_process(2**22 + 1) is None


def test_a_process_is_alive_until_it_ends_whoever_gets_its_number_next() -> None:
    child = subprocess.Popen(["sleep", "30"])
    started_s = start_time_s(child.pid)
    assert started_s is not None
    assert is_alive(child.pid, started_s)
    assert not is_alive(child.pid, started_s - 60)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid, started_s), "it only waits to be reaped"
    child.wait()
    assert start_time_s(child.pid) is None and not is_alive(child.pid, started_s)
