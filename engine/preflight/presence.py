"""Checks that the run is left alone: the machine stays awake, and the person may log out."""

from __future__ import annotations

import configparser
from pathlib import Path

from engine.preflight.context import Context, Verdict, failed, passed, skipped, warned
from engine.process import user_name
from engine.runs.inhibit import Inhibitor
from engine.runs.launch import launch_method

LOGIND_CONF = (Path("/etc/systemd/logind.conf"), Path("/etc/systemd/logind.conf.d"))
SYSTEMD_RUNNING = Path("/run/systemd/system")
KERNEL_VERSION = Path("/proc/version")


def check_sleep(context: Context) -> Verdict:
    """Whether the machine stays awake: the lock that a run holds is taken for real, and given back."""
    if _is_wsl():
        return warned(
            "Linux runs inside of Windows here: Windows decides when the machine sleeps, and no lock reaches it.",
            "In Windows: Settings, Power, Sleep: Never, for the time of the run.",
        )
    inhibitor = Inhibitor()
    try:
        is_held, what, reason = inhibitor.take(), inhibitor.what, inhibitor.reason
    finally:
        inhibitor.release()
    if is_held and not reason:
        return passed(f"Tried: {what} was held off by {inhibitor.tool}, as it will be for the run's life.")
    if is_held:
        return warned(
            f"Tried: {inhibitor.tool} holds off {what} alone. For more it said: {reason}",
            "Leave the lid open, or start the run at the machine itself: over SSH an ordinary user may hold off less. "
            "For good: sudo systemctl mask sleep.target suspend.target",
        )
    if not SYSTEMD_RUNNING.exists():
        return skipped(f"No logind runs here that would put the machine to sleep. {reason}")
    return warned(
        f"Nothing keeps the machine from falling asleep when it is idle or its lid is shut. {reason}",
        "Turn automatic suspend off for the time of the run: sudo systemctl mask sleep.target suspend.target; "
        "over SSH an ordinary user may not take the lock, at the machine itself they may.",
    )


def _is_wsl() -> bool:
    try:
        return "microsoft" in KERNEL_VERSION.read_text("utf-8", "replace").lower()
    except OSError:
        return False


def check_logout(context: Context) -> Verdict:
    """Whether the run goes on when the person logs out."""
    method = launch_method()
    evidence = f"The run is set free by {method.name}: {method.evidence}."
    if method.name == "double-detach" and _kills_user_processes():
        return failed(
            f"{evidence} logind ends the processes of who logs out (KillUserProcesses=yes).",
            f"Run: loginctl enable-linger {user_name()}",
            action="enable-linger",
        )
    if method.name == "double-detach":
        return passed(
            f"{evidence} It has a session of its own, no terminal, and nothing here ends it at logout."
        )
    return passed(evidence)


def _kills_user_processes() -> bool:
    """Whether logind is set to end a user's processes at logout; its own default is no. Source: logind.conf(5)."""
    files = [LOGIND_CONF[0], *sorted(LOGIND_CONF[1].glob("*.conf"))] if SYSTEMD_RUNNING.exists() else []
    kills = False
    for file in files:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            parser.read_string(file.read_text("utf-8", "replace"))
        except (OSError, configparser.Error):
            continue
        kills = parser.get("Login", "KillUserProcesses", fallback=str(kills)).strip().lower() in (
            "yes",
            "true",
            "1",
            "on",
        )
    return kills
