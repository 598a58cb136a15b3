"""What a checklist can mend by itself, once the person says so."""

from __future__ import annotations

import shutil
import subprocess

from engine.errors import RunFailedError
from engine.process import user_name

PATIENCE_S = 20.0


def enable_linger() -> str:
    """Let the user's own manager outlive the logout; the answer says that it was done.

    Raises: RunFailedError with the exact reason where it cannot be.
    """
    user = user_name()
    remedy = f"Ask an administrator to run: sudo loginctl enable-linger {user}"
    if shutil.which("loginctl") is None:
        raise RunFailedError("There is no loginctl here.", remedy)
    try:
        done = subprocess.run(
            ["loginctl", "--no-ask-password", "enable-linger", user],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunFailedError(f"loginctl enable-linger: {error}", remedy) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise RunFailedError(f"loginctl enable-linger {user}: {said}", remedy)
    return f"{user} lingers now: a run outlives the logout."
