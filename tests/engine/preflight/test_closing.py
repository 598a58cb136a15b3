"""Closing programs: real processes, some of which do not want to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.preflight.closing import Held, close_processes
from engine.preflight.processes import open_processes, protected_pids, why_not
from engine.process import module_argv
from engine.records import ClosingReport, OpenProcess
from engine.settings import PreflightSettings
from engine.telemetry.gpus import snapshot
from engine.telemetry.process import ProcessInfo, find_process
from tests.conftest import wait_for
from tests.nvml_standin import build

Start = Callable[..., subprocess.Popen[bytes]]
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program under a name of one's own; what is left of it is killed afterwards."""
    began: list[subprocess.Popen[bytes]] = []

    def run(name: str, *arguments: str, program: str = "sleep") -> subprocess.Popen[bytes]:
        source = shutil.which(program) or program
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            shutil.copy(source, path)
        process = subprocess.Popen([str(path), *(arguments or ("60",))], stdout=subprocess.PIPE)
        began.append(process)
        wait_for(lambda: (info := find_process(process.pid)) is not None and info.name == name)
        return process

    yield run
    for process in began:
        process.kill()
        process.communicate()


def listed(*names: str) -> dict[int, OpenProcess]:
    found = open_processes(PreflightSettings(close_apps=list(names)), snapshot())
    return {process.pid: process for process in found.processes}


def test_the_list_names_what_should_be_closed_even_if_it_holds_nothing(start: Start) -> None:
    child = start("zzfox")
    (process,) = listed("zzfox").values()
    assert (process.pid, process.name, process.gpu_bytes) == (child.pid, "zzfox", 0)
    assert process.is_unwanted and process.may_close and process.why_not == ""
    assert process.user and process.rss_bytes and process.age_s is not None and process.age_s < 30


def test_a_program_that_obeys_is_closed_and_the_others_are_left_alone(start: Start) -> None:
    first, second = start("zzfox"), start("zzfox")
    report = close_processes([listed("zzfox")[first.pid]], watch_s=0)
    (closing,) = report.closings
    assert closing.outcome == "closed" and closing.waited_s < 5
    assert first.wait(5) == -signal.SIGTERM and second.poll() is None
    assert report.came_back == () and report.freed_bytes is None


def test_one_that_ignores_sigterm_is_still_there_until_it_is_killed(start: Start) -> None:
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline()
        name = Path(f"/proc/{child.pid}/comm").read_text().strip()
        process = listed(name)[child.pid]
        (closing,) = close_processes([process], patience_s=0.3, watch_s=0).closings
        assert closing.outcome == "still-there" and "killed" in closing.reason and child.poll() is None
        (closing,) = close_processes([process], kill=True, watch_s=0).closings
        assert closing.outcome == "closed"
        assert child.wait(5) == -signal.SIGKILL
    finally:
        child.kill()
        child.communicate()


def test_one_that_died_meanwhile_is_gone_and_whoever_has_its_number_is_not_touched(start: Start) -> None:
    child, other = start("zzfox"), start("zzfox")
    found = listed("zzfox")
    child.kill()
    child.wait()
    # The number is used again: the same pid, another start time.
    reused = replace(found[other.pid], started_s=(found[other.pid].started_s or 0.0) - 60)
    outcomes = [
        closing.outcome for closing in close_processes([found[child.pid], reused], watch_s=0).closings
    ]
    assert outcomes == ["gone", "gone"]
    assert other.poll() is None
    zombie = start("zzfox")
    process = listed("zzfox")[zombie.pid]
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert close_processes([process], watch_s=0).closings[0].outcome == "gone"


def test_without_pidfd_the_start_time_is_compared_before_the_signal(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    child, other = start("zzfox"), start("zzfox")
    found = listed("zzfox")
    reused = replace(found[other.pid], started_s=(found[other.pid].started_s or 0.0) - 60)
    outcomes = [
        closing.outcome for closing in close_processes([found[child.pid], reused], watch_s=0).closings
    ]
    assert outcomes == ["closed", "gone"] and other.poll() is None
    with Held(other.pid, found[other.pid].started_s or 0.0) as held:
        other.kill()
        other.wait()
        assert held.has_ended()
        with pytest.raises(ProcessLookupError):
            held.send(signal.SIGTERM)


def test_what_must_not_be_closed_is_refused_with_the_reason(start: Start) -> None:
    kin = protected_pids()
    child = start("zzfox")
    process = listed("zzfox")[child.pid]
    for pid, words in ((os.getpid(), "llm-tui itself"), (os.getppid(), "runs in it"), (1, "first process")):
        info = find_process(pid)
        assert info is not None and pid in kin
        assert words in why_not(info, kin)
        # Whoever calls may be mistaken: the engine asks again, of the process itself.
        mistaken = replace(process, pid=pid, started_s=info.started_s)
        (closing,) = close_processes([mistaken], watch_s=0).closings
        assert closing.outcome == "refused" and words in closing.reason
    unseen = replace(process, started_s=None, may_close=False, why_not="unseen")
    assert close_processes([unseen], watch_s=0).closings[0].outcome == "refused"
    assert child.poll() is None


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"is_kernel_thread": True, "name": "kworker/0:1"}, "kernel"),
        ({"name": "Xorg"}, "desktop"),
        ({"name": "gnome-shell"}, "desktop"),
        ({"name": "tmux: server"}, "terminal"),
        ({"is_own": False, "user": "alice"}, "alice"),
        ({"arguments": ("python", "-P", "-m", "engine.train", "run", "/x")}, "llm-tui stop"),
        ({"arguments": ("/usr/bin/python3", "/home/me/.local/bin/llm-tui")}, "llm-tui"),
        ({"name": "firefox"}, ""),
    ],
)
def test_who_is_left_open(info: dict[str, object], words: str) -> None:
    facts: dict[str, object] = {"name": "x", "pid": 999_999_999, "started_s": 1.0, "user": "me"}
    facts |= {"rss_bytes": 1, "age_s": 1.0, "is_own": True} | info
    told = why_not(ProcessInfo(**facts), frozenset())  # type: ignore[arg-type]
    assert words in told and bool(words) == bool(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_the_process_of_another_user_is_listed_and_refused(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"], user=65534)
    try:
        wait_for(lambda: (info := find_process(child.pid)) is not None and not info.is_own)
        process = listed("sleep")[child.pid]
        assert not process.may_close and "belongs to" in process.why_not
        assert close_processes([replace(process, may_close=True)], watch_s=0).closings[0].outcome == "refused"
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_a_process_of_llm_tui_is_told_by_its_command_line() -> None:
    command = module_argv("engine.telemetry", "gpus", "1")
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        wait_for(
            lambda: (info := find_process(child.pid)) is not None and "engine.telemetry" in info.arguments
        )
        info = find_process(child.pid)
        assert info is not None and "llm-tui stop" in why_not(info, protected_pids())
    finally:
        child.kill()
        child.communicate()


def test_a_hostile_name_is_bounded_storable_text(tmp_path: Path) -> None:
    program = tmp_path / ("z" * 15)
    shutil.copy(shutil.which("sleep") or "", program)
    hostile = (
        b"z" * 15 + b"-\x1b]0;owned\x07\x1b[31m" + "\u202etxt.exe".encode() + b"[red]\xff\xfe" + b"A" * 4096
    )
    child = subprocess.Popen([hostile, b"60"], executable=program)
    try:
        wait_for(lambda: (info := find_process(child.pid)) is not None and info.name.startswith("zzz"))
        process = listed("z" * 15)
        info = find_process(child.pid)
        assert info is not None and len(info.name) == 256
        assert "\\xff\\xfe" in info.name and "\x1b" in info.name
        info.name.encode()
        assert all(part.encode() for part in info.arguments)
        assert process[child.pid].name == info.name
        (tmp_path / "settings.toml").write_text(f'[preflight]\nclose_apps = ["{"z" * 15}"]\n')
        command = [
            sys.executable,
            "-m",
            "tui",
            "--workspace",
            str(tmp_path),
            "close",
            str(child.pid),
            "--yes",
        ]
        told = subprocess.run(command[:-2], capture_output=True, check=True).stdout
        told += subprocess.run(command, capture_output=True, check=True).stdout
        assert str(child.pid).encode() in told and b" closed after" in told
        assert not set(told.decode()) & set("\x1b\x07\x9b\u202e")
        assert max(map(len, told.decode().splitlines())) < 200
    finally:
        child.kill()
        child.wait()


def test_what_came_free_is_measured_and_who_came_back_is_said(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin = build(tmp_path, memory_used_bytes=3 * 2**30)
    before = standin.file.read_text()
    standin.set(memory_used_bytes=2**30)
    after = tmp_path / "after.txt"
    after.write_text(standin.file.read_text())
    standin.file.write_text(before)
    for key, value in standin.env.items():
        monkeypatch.setenv(key, value)
    # A program that gives its memory back as it ends, and a shell that starts it again, as a desktop does.
    trap = f"trap 'cp {after} {standin.file}; exit 0' TERM; echo; while :; do sleep 0.05; done"
    child = start("zzfox", "-c", trap, program="bash")
    assert child.stdout is not None and child.stdout.readline()
    guardian = subprocess.Popen(
        [
            "bash",
            "-c",
            f"while kill -0 {child.pid}; do sleep 0.05; done; exec {tmp_path}/bin/zzfox -c 'sleep 60; :'",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        process = listed("zzfox")[child.pid]
        report = close_with_reaper(child, process)
        assert report.closings[0].outcome == "closed"
        assert (report.free_before_bytes, report.free_after_bytes) == (2**30, 3 * 2**30)
        assert report.freed_bytes == 2 * 2**30
        assert [back.name for back in report.came_back] == ["zzfox"]
        assert report.came_back[0].pid == guardian.pid
    finally:
        subprocess.run(["pkill", "-P", str(guardian.pid)], check=False)
        guardian.kill()
        guardian.wait()


def close_with_reaper(child: subprocess.Popen[bytes], process: OpenProcess) -> ClosingReport:
    """Close it while somebody reaps it, as its own parent would."""
    threading.Thread(target=child.wait, daemon=True).start()
    began = time.monotonic()
    report = close_processes([process])
    assert time.monotonic() - began < 10
    return report


def test_a_driver_that_does_not_tell_amounts_still_has_a_list(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (
        start("zzfox"),
        start("zzfoxtrot", "-c", "x = bytearray(60_000_000); print(); input()", program=sys.executable),
    )
    standin = build(tmp_path, compute=f"{small.pid}:na {large.pid}:na 4194303:na")
    for key, value in standin.env.items():
        monkeypatch.setenv(key, value)
    found = open_processes(PreflightSettings(close_apps=[]), snapshot())
    assert "does not tell" in found.note and found.free_bytes == 3 * 2**30
    assert [process.gpu_bytes for process in found.processes] == [None, None, None]
    (unseen,) = [process for process in found.processes if process.pid == 4194303]
    assert not unseen.may_close and "cannot be seen" in unseen.why_not
    known = [process.pid for process in found.processes if process.rss_bytes]
    rss = {process.pid: process.rss_bytes or 0 for process in found.processes}
    assert known == sorted(known, key=lambda pid: -rss[pid])
    standin.set(compute=f"{small.pid}:{2**30} {large.pid}:{2**29}")
    found = open_processes(PreflightSettings(close_apps=[]), snapshot())
    assert [process.pid for process in found.processes] == [small.pid, large.pid] and found.note == ""


CONTAINED = """
import subprocess, time
from engine.preflight.processes import why_not
from engine.telemetry.process import find_process, has_gpu_open, is_contained
child = subprocess.Popen(["sleep", "30"])
time.sleep(0.2)
info = find_process(child.pid)
print(is_contained(), has_gpu_open(child.pid), why_not(info, frozenset(), by_driver=True), why_not(info, frozenset()))
child.kill()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pid namespace")
def test_in_a_container_a_number_of_the_driver_may_be_of_another_process() -> None:
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", CONTAINED],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip("no pid namespace can be made here")
    assert done.stdout.startswith("True False The driver's number may be"), done.stdout + done.stderr
    assert done.stdout.endswith("no GPU open. \n"), "whom close_apps names is closed by that name"
