"""How a supervisor is set free from the terminal that started it.

Everywhere: a session of its own and a double fork, no terminal, stdin on /dev/null, output to the run's log.
Where the user lingers: in a transient systemd scope of the user manager besides, which then outlives every login.
Without lingering the user manager ends with the last login and would take a scope of its own along, so that the
plain way is the safer one there. Source: logind.conf(5), loginctl(1), systemd-run(1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec

from engine import notify
from engine.errors import RunFailedError
from engine.process import module_argv, user_name
from engine.runs.folder import RunFolder
from engine.runs.owner import close_to_others, require_own

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
    """Start the supervisor of a run, detached; `notify_url` is a receiver of this run's own, empty: the workspace's.

    Raises: EngineError where it is another user's; RunFailedError where not even the plain way works.
    """
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
