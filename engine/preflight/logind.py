"""What logind, which keeps the logins of a machine, does with a user's processes at the logout."""

from __future__ import annotations

import configparser
import shlex
import subprocess
from pathlib import Path

RUNNING = Path("/run/systemd/system")
"""There while systemd runs the machine."""
MAIN_FILE = Path("/etc/systemd/logind.conf")
FOLDERS = tuple(Path(top, "systemd/logind.conf.d") for top in ("/usr/lib", "/run", "/etc"))
"""Of files whose settings come after those of `MAIN_FILE`, the later over the earlier."""
_ASK = (
    *("busctl", "--system", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"),
    *("org.freedesktop.login1.Manager", "KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers"),
)
_PATIENCE_S = 5.0


def kills_processes_of(user: str) -> bool:
    """Whether logind ends what a user's login has started when that login ends.

    It is asked itself; where it does not answer its files are read, whose silence means no, as distributions build it.
    Source: org.freedesktop.login1(5), logind.conf(5); of three answers together, manager_shall_kill of systemd.
    """
    if not RUNNING.exists():
        return False
    kills, only, but = _asked() or _read()
    if user in but or (user == "root" and not but):
        return False
    return user in only if only else kills


def _asked() -> tuple[bool, list[str], list[str]] | None:
    """Whether processes are ended, whose alone, and whose not; None where logind does not answer."""
    try:
        done = subprocess.run(
            _ASK, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=True
        )
        kills, only, but = (shlex.split(line) for line in done.stdout.decode().splitlines())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return kills[1:] == ["true"], only[2:], but[2:]


def _read() -> tuple[bool, list[str], list[str]]:
    """The same by the files."""
    found: dict[str, str] = {}
    for file in (MAIN_FILE, *(file for folder in FOLDERS for file in sorted(folder.glob("*.conf")))):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            parser.read_string(file.read_text("utf-8", "replace"))
        except (OSError, configparser.Error):
            continue
        if parser.has_section("Login"):
            found |= parser["Login"]
    kills = found.get("killuserprocesses", "").strip().lower() in ("yes", "true", "1", "on")
    return kills, found.get("killonlyusers", "").split(), found.get("killexcludeusers", "").split()
