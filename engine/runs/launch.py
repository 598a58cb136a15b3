"""How a supervisor is started, set free from the terminal that started it, and waited for.

Everywhere: a session of its own and a double fork, no terminal, stdin on /dev/null, output to the run's log.
Where the user lingers: in a transient systemd scope of the user manager besides, which then outlives every login.
Without lingering the user manager ends with the last login and would take a scope of its own along, so that the
plain way is the safer one there. Source: logind.conf(5), loginctl(1), systemd-run(1).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import msgspec

from engine import notify
from engine.errors import BlockedError, RunFailedError
from engine.process import module_argv, user_name
from engine.records import Check, RunState
from engine.runs.folder import RunFolder, discard
from engine.runs.lock import holder
from engine.runs.owner import close_to_others, require_own

START_PATIENCE_S = 240.0
"""How long a supervisor may take to come up and to repeat the checks, the rehearsal among them."""
LINGER = Path("/var/lib/systemd/linger")
"""One file a user who lingers."""


class LaunchMethod(msgspec.Struct, frozen=True):
    """How a run will be detached on this machine."""

    name: str
    """"systemd-scope" or "double-detach"."""
    evidence: str


def launch_method() -> LaunchMethod:
    """What is to be had here: a user scope where the user lingers, else a plain double detach."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not shutil.which("systemd-run") or not runtime or not (Path(runtime) / "systemd" / "private").exists():
        return LaunchMethod("double-detach", "no systemd user manager answers here")
    if not (LINGER / user_name()).exists():
        return LaunchMethod("double-detach", "the user does not linger")
    return LaunchMethod("systemd-scope", "the user lingers, so the user manager outlives every login")


def launch(folder: RunFolder, notify_url: str = "") -> None:
    """Start the supervisor of a run, detached, and wait until it lets the run begin.

    `notify_url` is a receiver of this run's own; empty: the workspace's.
    Raises: BlockedError naming each check that blocks; EngineError where the run is another user's; RunFailedError
    where no supervisor came up, or it went away.
    """
    with folder.writing() as store:
        store.set_meta(checks=())
        num_states = store.num_states()
        _set_free(folder, notify_url)
        deadline, was_there = time.monotonic() + START_PATIENCE_S, False
        while True:
            # Asked before what it tells is read: who goes away has told first.
            is_gone = was_there and not folder.is_supervised
            # One that came and went between two looks has left its first state behind.
            was_there = was_there or folder.is_supervised or store.num_states() > num_states
            checks = store.meta("checks", tuple[Check, ...])
            blocking = [check for check in checks if check.blocking]
            if checks and not blocking:
                return
            state = store.state()
            if state and RunState(state.state).is_over and store.num_states() > num_states:
                wait_until_unsupervised(folder)
                if checks:
                    raise BlockedError(state.reason, checks=blocking)
                raise RunFailedError(state.reason)
            if is_gone or time.monotonic() > deadline:
                what = "went away" if is_gone else f"was not ready within {START_PATIENCE_S:.0f} s"
                raise RunFailedError(
                    f"The supervisor of {folder.id} {what}: it did not get through the checks.",
                    f"Read {folder.log_path}.",
                )
            time.sleep(0.05)


def abandon(folder: RunFolder) -> None:
    """End the supervisor of a run that was not let begin, and delete the run's folder."""
    text = holder(folder.supervisor_lock)
    if text and text.strip().isdigit():
        # Who holds the lock is alive, so its process id cannot have been given to another.
        with contextlib.suppress(ProcessLookupError):  # it has just gone
            os.kill(int(text), signal.SIGTERM)
        wait_until_unsupervised(folder, timeout_s=30.0)
    if not folder.is_supervised:
        discard(folder)


def wait_until_unsupervised(folder: RunFolder, timeout_s: float = 10.0) -> None:
    """Wait for a supervisor that is on its way out: a run's last state is told before its lock is free."""
    deadline = time.monotonic() + timeout_s
    while folder.is_supervised and time.monotonic() < deadline:
        time.sleep(0.02)


def _set_free(folder: RunFolder, notify_url: str) -> None:
    """Start the supervisor, detached; RunFailedError where not even the plain way works."""
    require_own(folder.path)
    close_to_others(folder.path)
    command = module_argv("engine.runs", str(folder.path))
    if launch_method().name == "systemd-scope":
        scope = ["systemd-run", "--user", "--scope", "--quiet", "--collect", f"--unit=llm-tui-{folder.id}"]
        if _start([*scope, *command], folder, notify_url) == 0:
            return
    if _start(command, folder, notify_url) != 0:
        raise RunFailedError("The run's supervisor did not start.", f"Read {folder.log_path}.")


def _start(command: list[str], folder: RunFolder, notify_url: str) -> int:
    """Run the command, which forks itself away at once; its exit code."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if notify_url:
        environment[notify.ENVIRONMENT] = notify_url
    with folder.log_path.open("ab") as log:
        folder.log_path.chmod(0o600)
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder.workspace,
            env=environment,
            check=False,
        ).returncode


def detach() -> None:
    """Fork the calling process away from its parent; only the child returns.

    The parent leads a session already (`start_new_session`), so the child can never get a terminal again.
    """
    if os.fork() > 0:
        os._exit(0)
