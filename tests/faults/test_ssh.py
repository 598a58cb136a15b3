"""A run that is looked at through a real sshd: the client killed, stalled for a minute, logged out."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine import Workspace
from tests.conftest import wait_for
from tests.faults.seat import ROOT, Seat

pytestmark = pytest.mark.faults

ON_RUN = "Heat and power"
STALL_S = 60.0
CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/me.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PasswordAuthentication no
"""


class Sshd:
    """A server of our own on loopback, and how one logs in."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("ssh") is None:
            pytest.skip("neither sshd nor ssh is installed here")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd(8): its privilege separation
        for name in ("host", "me"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._folder = folder
        config = folder / "sshd_config"
        config.write_text(CONFIG.format(port=self._port, folder=folder))
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(self._answers, 20, "sshd")

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            said = self._process.stderr.read() if self._process.stderr else ""
            pytest.skip(f"sshd does not run here: {said.strip()[-200:]}")
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False

    def login(self, workspace: Path, *arguments: str) -> list[str]:
        """The command that runs llm-tui in a workspace on the other end; its number goes into the file `viewer`."""
        kept = {name: os.environ[name] for name in ("HOME", "PATH", "OMP_NUM_THREADS") if name in os.environ}
        variables = kept | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        far = [
            *("env", *(f"{name}={value}" for name, value in variables.items())),
            *(sys.executable, "-m", "tui", "--workspace", str(workspace), *arguments),
        ]
        command = f"echo $$ > {shlex.quote(str(self._folder / 'viewer'))}; exec {shlex.join(far)}"
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
        ]
        return [
            *("ssh", "-tt", "-F", "none", "-i", str(self._folder / "me"), "-p", str(self._port)),
            *(part for option in options for part in ("-o", option)),
            f"{getpass.getuser()}@127.0.0.1",
            command,
        ]

    @property
    def viewer(self) -> psutil.Process:
        """The process at the other end, of the newest login."""
        return psutil.Process(int((self._folder / "viewer").read_text()))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    server = Sshd(folder)
    yield server
    server.close()


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace]) -> Workspace:
    return make_workspace(10**9)


def steps(workspace: Workspace) -> int:
    (run,) = workspace.runs()
    return run.status.step or 0


def test_a_killed_client_takes_the_viewer_along_and_never_the_run(sshd: Sshd, workspace: Workspace) -> None:
    run_id = workspace.start()
    for _ in range(2):  # the second finds the run as the first had it
        seat = Seat(sshd.login(workspace.folder))
        try:
            seat.wait_to_see(ON_RUN)
            viewer = sshd.viewer
            seat.process.kill()
            wait_for(lambda viewer=viewer: not viewer.is_running(), 15, "the end of the viewer")
        finally:
            seat.close()
        before = steps(workspace)
        wait_for(lambda before=before: steps(workspace) > before + 3, 60, "steps after the line broke")
    status = workspace.status(run_id)
    assert status.restarts == 0
    assert workspace.command(run_id, "stop").is_done


def test_a_line_that_stalls_for_a_minute_holds_up_nobody(sshd: Sshd, workspace: Workspace) -> None:
    run_id = workspace.start()
    seat = Seat(sshd.login(workspace.folder), size=(200, 50))
    try:
        seat.wait_to_see(ON_RUN)
        viewer, before = sshd.viewer, steps(workspace)
        used_s = sum(viewer.cpu_times()[:2])
        seat.process.send_signal(signal.SIGSTOP)
        time.sleep(STALL_S)
        assert steps(workspace) > before + 3
        assert sum(viewer.cpu_times()[:2]) - used_s < 0.25 * STALL_S
        seat.process.send_signal(signal.SIGCONT)
        shown = len(seat.sent)
        seat.type(b"42")
        seat.wait_to_see(ON_RUN, shown)
        seat.type(b"q")
        assert seat.wait_for_end() == 0
        seat.wait_for_quiet()
        assert "goes on" in seat.text
    finally:
        seat.close()
    assert workspace.command(run_id, "stop").is_done


def test_a_run_that_was_started_over_ssh_outlives_the_logout(sshd: Sshd, workspace: Workspace) -> None:
    started = subprocess.run(
        sshd.login(workspace.folder, "run", "--detach"),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=150,
    )
    assert started.returncode == 0, started.stdout
    (run,) = workspace.runs()
    sshd.close()  # every session of it is gone
    before = steps(workspace)
    wait_for(lambda: steps(workspace) > before + 5, 90, "steps after the logout")
    supervisor = psutil.Process(workspace.status(run.id).supervisor_pid or 0)
    assert supervisor.terminal() is None
    assert os.getsid(supervisor.pid) != supervisor.pid  # it cannot get a terminal either
    assert workspace.command(run.id, "stop").is_done
