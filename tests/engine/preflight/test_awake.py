"""The lock that keeps the machine awake: a stand-in for systemd-inhibit, which is a real process that is held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import EngineError, Workspace
from engine.preflight import logind, presence
from engine.preflight.context import Context
from engine.runs.inhibit import Inhibitor
from engine.runs.launch import LaunchMethod
from tests.conftest import wait_for

STANDIN = """#!/bin/sh
for argument; do case "$argument" in --what=*) what=${argument#--what=};; esac; done
while case "$1" in -*) true;; *) false;; esac; do shift; done
case ":$GRANTED:" in
    *":all:"*) ;;
    *) case "$what" in
           "$GRANTED") ;;
           *) echo "Failed to inhibit: Access denied" >&2; exit 1;;
       esac;;
esac
echo "$what" > "$HELD"
"$@"
code=$?
rm -f "$HELD"
exit $code
"""


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A logind that grants all; the file is there while the lock is held."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tool = folder / "systemd-inhibit"
    tool.write_text(STANDIN)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("GRANTED", "all")
    monkeypatch.setenv("HELD", str(tmp_path / "held"))
    return tmp_path / "held"


def test_the_lock_is_held_until_it_is_given_back(held: Path) -> None:
    inhibitor = Inhibitor()
    assert inhibitor.take() and inhibitor.is_held and inhibitor.reason == ""
    assert held.read_text().strip() == "sleep:idle:handle-lid-switch"
    assert inhibitor.what == "sleep, idling and the lid's switch"
    inhibitor.release()
    wait_for(lambda: not held.exists(), 30)
    assert not inhibitor.is_held


def test_the_lock_goes_with_a_process_that_is_killed(held: Path) -> None:
    code = (
        "import time; from engine.runs.inhibit import Inhibitor; lock = Inhibitor(); "
        "print(lock.take(), flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "True\n"
    assert held.exists()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    wait_for(lambda: not held.exists(), 30)


def test_what_is_refused_is_told_in_the_words_of_who_refused(
    held: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logind, "RUNNING", tmp_path)
    context = Context(tmp_path)
    assert presence.check_sleep(context).status == "pass" and not held.exists()
    monkeypatch.setenv("GRANTED", "idle")
    verdict = presence.check_sleep(context)
    assert verdict.status == "warn" and "holds off idling alone" in verdict.evidence
    assert "Failed to inhibit: Access denied" in verdict.evidence and "over SSH" in verdict.remedy
    monkeypatch.setenv("GRANTED", "nothing")
    verdict = presence.check_sleep(context)
    assert verdict.status == "warn" and "Access denied" in verdict.evidence
    assert not held.exists()


def test_a_silent_logind_is_given_up(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runs.inhibit.PATIENCE_S", 0.2)
    monkeypatch.setattr("engine.runs.inhibit.LADDER", (("sleep", "sleep"),))
    Path(str(held.parent / "bin" / "systemd-inhibit")).write_text("#!/bin/sh\nexec sleep 60\n")
    inhibitor = Inhibitor()
    assert not inhibitor.take() and "within 0.2 s" in inhibitor.reason


def test_without_any_tool_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = presence.check_sleep(Context(tmp_path))
    assert verdict.status == "skipped" and "neither systemd-inhibit" in verdict.evidence
    monkeypatch.setattr(logind, "RUNNING", tmp_path)
    assert presence.check_sleep(Context(tmp_path)).status == "warn"


def test_inside_of_windows_no_lock_is_taken_and_windows_is_named(
    held: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = tmp_path / "version"
    version.write_text("Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f)\n")
    monkeypatch.setattr(presence, "KERNEL_VERSION", version)
    verdict = presence.check_sleep(Context(tmp_path))
    assert verdict.status == "warn" and "Windows decides" in verdict.evidence and "Sleep" in verdict.remedy
    assert not held.exists()


def test_logout_that_ends_processes_blocks_and_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    conf = tmp_path / "logind.conf"
    conf.write_text("[Login]\nKillUserProcesses=yes\n")
    monkeypatch.setattr(logind, "RUNNING", tmp_path)
    monkeypatch.setattr(logind, "MAIN_FILE", conf)
    monkeypatch.setattr(logind, "FOLDERS", (tmp_path / "logind.conf.d",))
    monkeypatch.setenv("LOGNAME", "ana")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    verdict = presence.check_logout(Context(tmp_path))
    assert verdict.status == "fail" and verdict.remedy_action == "enable-linger"
    assert "loginctl enable-linger" in verdict.remedy
    for said, status in (
        ("KillUserProcesses=no", "pass"),
        ("KillUserProcesses=yes\nKillExcludeUsers=ana bob", "pass"),
        ("KillUserProcesses=no\nKillOnlyUsers=ana", "fail"),
        ("KillUserProcesses=yes\nKillOnlyUsers=bob", "pass"),
    ):
        conf.write_text(f"[Login]\n{said}\n")
        assert presence.check_logout(Context(tmp_path)).status == status, said
    (tmp_path / "logind.conf.d").mkdir()
    (tmp_path / "logind.conf.d" / "own.conf").write_text("[Login]\nKillOnlyUsers=\nKillUserProcesses=yes\n")
    assert presence.check_logout(Context(tmp_path)).status == "fail", "the later file counts"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_can_log_out_too(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from engine.preflight.context import Context; "
        "from engine.preflight.presence import check_logout; os.setuid(54321); "
        "print(check_logout(Context(Path('/nonexistent'))).status)"
    )
    nameless = {
        key: value for key, value in os.environ.items() if key not in ("LOGNAME", "USER", "LNAME", "USERNAME")
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=nameless, capture_output=True, text=True, check=False
    )
    assert done.stdout == "pass\n", done.stderr


def test_the_method_that_is_in_force_is_told_not_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meant = LaunchMethod("systemd-scope", "the user lingers")
    monkeypatch.setattr(presence, "launch_method", lambda: meant)
    group = tmp_path / "cgroup"
    monkeypatch.setattr(presence, "OWN_GROUP", group)
    run = tmp_path / "runs" / "1123-one"
    group.write_text("0::/user.slice/user-1000.slice/user@1000.service/app.slice/llm-tui-1123-one.scope\n")
    assert "set free by systemd-scope" in presence.check_logout(Context(tmp_path, run_folder=run)).evidence
    group.write_text("0::/user.slice/user-1000.slice/session-3.scope\n")
    assert "set free by systemd-scope" in presence.check_logout(Context(tmp_path)).evidence
    verdict = presence.check_logout(Context(tmp_path, run_folder=run))
    assert "set free by double-detach" in verdict.evidence and "did not give it a scope" in verdict.evidence


def test_lingering_is_switched_on_or_refused_in_the_words_of_who_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "loginctl"
    tool.write_text('#!/bin/sh\necho "$@" > "$0.asked"; exit 0\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "lingers now" in Workspace(tmp_path).apply_remedy("enable-linger")
    assert "enable-linger" in (tmp_path / "loginctl.asked").read_text()
    tool.write_text("#!/bin/sh\necho 'Could not enable linger: Access denied' >&2; exit 1\n")
    with pytest.raises(EngineError, match="Access denied") as caught:
        Workspace(tmp_path).apply_remedy("enable-linger")
    assert "sudo loginctl enable-linger" in caught.value.remedy
