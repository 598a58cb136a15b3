"""Checks that the run is left alone: the machine stays awake, and the person may log out."""

from __future__ import annotations

from pathlib import Path

from engine.preflight import logind
from engine.preflight.context import Context, Verdict, failed, passed, skipped, warned
from engine.process import user_name
from engine.runs.inhibit import Inhibitor
from engine.runs.launch import launch_method

OWN_GROUP = Path("/proc/self/cgroup")
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
    if not logind.RUNNING.exists():
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
    wants_scope, user = method.name == "systemd-scope", user_name()
    name, because = method.name, method.evidence
    if wants_scope and context.run_folder and not _is_in_scope(context.run_folder.name):
        name, because = "double-detach", "systemd-run did not give it a scope, the run's log says why"
    evidence = f"The run is set free by {name}: {because}."
    if name == "systemd-scope":
        return passed(evidence)
    if logind.kills_processes_of(user):
        evidence = f"{evidence} logind ends the processes of who logs out (KillUserProcesses=yes)."
        if wants_scope:
            return failed(
                evidence, "See what ails it: systemctl --user status; or have KillUserProcesses=no set."
            )
        return failed(evidence, f"Run: loginctl enable-linger {user}", action="enable-linger")
    return passed(f"{evidence} It has a session of its own, no terminal, and nothing here ends it at logout.")


def _is_in_scope(run_id: str) -> bool:
    """Whether this process, a child of the run's supervisor, is in the scope that was asked for the run."""
    try:
        return f"llm-tui-{run_id}.scope" in OWN_GROUP.read_text("utf-8", "replace")
    except OSError:
        return False
