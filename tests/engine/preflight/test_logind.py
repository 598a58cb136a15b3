"""The lock against sleep and the logout, with the real logind and polkit on a bus of the test's own.

They run in a mount namespace, so that nothing of the machine's own is touched. Skipped where they are not installed
or no namespace can be made.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.preflight import logind, presence
from engine.preflight.context import Context
from engine.runs.inhibit import Inhibitor
from tests.conftest import wait_for
from tests.nvml_standin import REPOSITORY

LOGIND, POLKIT = Path("/lib/systemd/systemd-logind"), Path("/usr/lib/polkit-1/polkitd")
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
"""
SERVICES = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/systemd || exit 9
mkdir -p /run/systemd/system /run/systemd/logind.conf.d
printf '[Login]\\nKillUserProcesses=yes\\nKillExcludeUsers=bob\\n' > /run/systemd/logind.conf.d/own.conf
dbus-daemon --config-file="$1/bus.conf" --nofork 2> /dev/null & bus=$!
while [ ! -S "$1/bus" ]; do kill -0 $bus || exit 9; sleep 0.05; done
export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$1/bus"
"$3" --no-debug > /dev/null 2>&1 & polkit=$!
"$2" 2> /dev/null & logind=$!
echo; read -r line
kill $logind $polkit $bus
"""
AS_NOBODY = """
import os
from pathlib import Path
from engine.preflight import presence
from engine.preflight.context import Context
from engine.preflight.remedy import enable_linger
os.environ["LOGNAME"] = "nobody"
os.setgroups([]), os.setgid(65534), os.setuid(65534)
"""
"""Imports first: that user may not be let read the interpreter's folders."""
HOLD = """
import time
from engine.runs.inhibit import Inhibitor
lock = Inhibitor()
print(lock.take(), flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0
    or not (LOGIND.exists() and POLKIT.exists())
    or not all(
        map(shutil.which, ("dbus-daemon", "busctl", "loginctl", "nsenter", "systemd-inhibit", "unshare"))
    ),
    reason="needs root, and logind, polkit and dbus-daemon",
)


@pytest.fixture(scope="module")
def machine() -> Iterator[subprocess.Popen[str]]:
    """A machine's logind; DBUS_SYSTEM_BUS_ADDRESS names its bus. The end of its input ends it."""
    folder = Path(tempfile.mkdtemp(prefix="logind-"))
    folder.chmod(0o755)
    (folder / "bus.conf").write_text(BUS.format(folder=folder))
    command = ["unshare", "--mount", "sh", "-c", SERVICES, "sh", str(folder), str(LOGIND), str(POLKIT)]
    services = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    before = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={folder}/bus"
    try:
        assert services.stdout is not None
        if not services.stdout.readline():
            pytest.skip("no mount namespace can be made here")
        wait_for(lambda: inhibitors() is not None, 20, "logind answers")
        yield services
    finally:
        if before is None:
            del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
        else:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = before
        if services.poll() is None:
            services.communicate("\n", timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def inhibitors() -> str | None:
    """Who holds what off, as logind itself tells; None where it does not answer."""
    done = subprocess.run(["systemd-inhibit", "--list"], capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout


def on(machine: subprocess.Popen[str], *command: str) -> str:
    """What a command prints that sees that machine's files."""
    done = subprocess.run(
        ["nsenter", f"--mount=/proc/{machine.pid}/ns/mnt", *command],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_logind_tells_that_the_lock_is_held_and_that_it_is_given_back(
    machine: object, tmp_path: Path
) -> None:
    inhibitor = Inhibitor()
    assert inhibitor.take() and inhibitor.reason == "" and inhibitor.tool == "systemd-inhibit"
    held = inhibitors() or ""
    assert "llm-tui" in held and "sleep:idle:handle-lid-switch" in held and "block" in held
    inhibitor.release()
    wait_for(lambda: "llm-tui" not in (inhibitors() or "llm-tui"), 30, "it is given back")
    verdict = presence.check_sleep(Context(tmp_path))
    assert verdict.status == "pass" and "sleep, idling and the lid's switch was held off" in verdict.evidence
    assert "llm-tui" not in (inhibitors() or "llm-tui"), "a check keeps nothing"
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert child.stdout is not None and child.stdout.readline() == b"True\n"
    assert "llm-tui" in (inhibitors() or "")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    wait_for(lambda: "llm-tui" not in (inhibitors() or "llm-tui"), 30, "it goes with who held it")


def test_an_ordinary_user_over_ssh_is_told_what_was_refused_in_the_words_of_logind(
    machine: subprocess.Popen[str],
) -> None:
    code = "found = presence.check_sleep(Context(Path('/nonexistent'))); print(found.status, found.evidence)"
    told = on(machine, sys.executable, "-c", f"{AS_NOBODY}{code}")
    assert told.startswith("warn Tried: systemd-inhibit holds off idling alone.")
    assert told.endswith("it said: Failed to inhibit: Access denied\n")


def test_logind_is_asked_whose_processes_it_ends_at_the_logout(
    machine: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logind, "RUNNING", tmp_path)
    monkeypatch.setattr(logind, "MAIN_FILE", tmp_path / "nothing")
    monkeypatch.setattr(logind, "FOLDERS", ())
    assert logind.kills_processes_of("nobody") and not logind.kills_processes_of("bob")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
    assert not logind.kills_processes_of("nobody"), "nobody is there to ask, and no file says so"


def test_lingering_is_really_switched_on(machine: subprocess.Popen[str]) -> None:
    told = on(machine, sys.executable, "-c", f"{AS_NOBODY}print(enable_linger())")
    assert told == "nobody lingers now: a run outlives the logout.\n"
    assert on(machine, "ls", "/var/lib/systemd/linger").split() == ["nobody"], "what logind keeps of it"
