"""Who is open: the programs that hold GPU memory or that should be closed, and which of them may be."""

from __future__ import annotations

import itertools
import os

from engine.records import OpenProcess, OpenProcesses
from engine.settings import PreflightSettings
from engine.telemetry.nvml import GpuSnapshot
from engine.telemetry.process import (
    ProcessInfo,
    find_process,
    find_processes,
    goes_by,
    has_gpu_open,
    is_contained,
    lineage,
)

UNSEEN = "a process that cannot be seen from here"
OWN_ROOMS = ("engine.runs", "engine.train", "engine.corpus", "engine.telemetry", "engine.preflight")
"""Modules of which llm-tui's own processes are made."""
DESKTOP = frozenset(
    (
        *(
            "x",
            "xorg",
            "xorg.bin",
            "xwayland",
            "xvfb",
            "xvnc",
            "weston",
            "sway",
            "hyprland",
            "labwc",
            "wayfire",
            "river",
        ),
        *(
            "niri",
            "gamescope",
            "gnome-shell",
            "gnome-session-binary",
            "mutter",
            "mutter-x11-frames",
            "kwin_wayland",
        ),
        *("kwin_x11", "plasmashell", "ksmserver", "cosmic-comp", "cosmic-session", "xfwm4", "xfce4-session"),
        *("cinnamon", "cinnamon-session", "muffin", "marco", "mate-session", "lxqt-session", "openbox", "i3"),
        *("gdm", "gdm3", "gdm-x-session", "gdm-wayland-session", "sddm", "lightdm", "xdg-desktop-portal"),
        *("windowserver", "loginwindow", "dwm.exe", "explorer.exe"),
    )
)
"""What draws the desktop, by the name of the process: closing it ends every window."""
SESSION = frozenset(
    (
        "systemd",
        "dbus-daemon",
        "dbus-broker",
        "sshd",
        "sshd-session",
        "mosh-server",
        "login",
        "tmux",
        "screen",
        "nvidia-persistenced",
        "dockerd",
        "containerd",
    )
)
"""What holds a login together, a terminal that outlives it, or is a service of the machine."""


def open_processes(settings: PreflightSettings, seen: GpuSnapshot) -> OpenProcesses:
    """Every program that holds GPU memory, and those of `close_apps` even if they hold none."""
    held_bytes = _held_bytes(seen)
    unwanted = {info.pid: info for info in find_processes(settings.close_apps)}
    kin = protected_pids()
    found = []
    for pid in {**held_bytes, **unwanted}:
        info = unwanted.get(pid) or find_process(pid)
        gpu_bytes = held_bytes.get(pid, 0)
        if info is None:
            found.append(_unseen(pid, gpu_bytes))
            continue
        is_unwanted = pid in unwanted or any(goes_by(info.name, name) for name in settings.close_apps)
        found.append(_open(info, gpu_bytes, is_unwanted, why_not(info, kin, by_driver=pid not in unwanted)))
    free = [reading.memory_free_bytes for reading in seen.gpus if reading.memory_free_bytes is not None]
    return OpenProcesses(
        processes=tuple(sorted(found, key=_rank)),
        free_bytes=sum(free) if free else None,
        note=_note(seen),
    )


def _rank(process: OpenProcess) -> tuple[int, int, int]:
    amount = 0.5 if process.gpu_bytes is None else process.gpu_bytes  # unknown is more than none
    return -round(2 * amount), -(process.rss_bytes or 0), process.pid


def _held_bytes(seen: GpuSnapshot) -> dict[int, int | None]:
    """GPU memory of every other program by its pid, over all GPUs; None: the driver does not tell how much."""
    found: dict[int, int | None] = {}
    for process in seen.processes or ():
        before = found.get(process.pid, 0)
        is_known = before is not None and process.used_bytes is not None
        found[process.pid] = (before or 0) + (process.used_bytes or 0) if is_known else None
    found.pop(os.getpid(), None)
    return found


def _note(seen: GpuSnapshot) -> str:
    """What the list does not know."""
    told = [seen.reason] if seen.reason and seen.has_unreadable_gpu else []
    amounts = [process.used_bytes for process in seen.processes or ()]
    if seen.processes is None and seen.gpus:
        told.append("The driver does not tell which programs hold GPU memory.")
    elif amounts and all(num_bytes is None for num_bytes in amounts):
        told.append(
            "The driver does not tell how much GPU memory each program holds, as under WSL2: the order is by RAM."
        )
    elif None in amounts:
        told.append("Of some programs the driver does not tell how much GPU memory they hold.")
    return " ".join(told)


def protected_pids(pid: int | None = None) -> frozenset[int]:
    """This process (or `pid`) and all that it descends from: app, shell, terminal, tmux, sshd."""
    return frozenset(lineage(os.getpid() if pid is None else pid))


def why_not(info: ProcessInfo, kin: frozenset[int], *, by_driver: bool = False) -> str:
    """Why llm-tui does not close a process; empty where it may.

    `kin` are the `protected_pids`; `by_driver`: the driver alone gave the number, which in a container may be
    another process's.
    """
    name = info.name.lower().removesuffix(": server").removesuffix(": client")
    if info.pid == 1:
        return "It is the machine's first process."
    if info.is_kernel_thread:
        return "It is a part of the kernel."
    if info.pid == os.getpid() or (info.pid in kin and is_own_program(info)):
        return "It is llm-tui itself."
    if info.pid in kin:
        return "llm-tui runs in it."
    if is_own_program(info):
        return "It is a run or a window of llm-tui: stop the run with `llm-tui stop`."
    if not info.is_own:
        return f"It belongs to {info.user or 'another user'}."
    if name in DESKTOP:
        return "It draws the desktop: every window would close with it."
    if name in SESSION:
        return "It is a service, or holds a login or a terminal together."
    if info.started_s is None:
        return "It has ended."
    if by_driver and is_contained() and has_gpu_open(info.pid) is False:
        return "The driver's number may be that of a process outside of this container: this one has no GPU open."
    return ""


def is_own_program(info: ProcessInfo) -> bool:
    """Whether a process is llm-tui's: its app, its command line, a supervisor, a trainer or one of their helpers."""
    arguments = info.arguments
    by_module = any(
        flag == "-m" and module.partition(" ")[0] in (*OWN_ROOMS, "tui")
        for flag, module in itertools.pairwise(arguments)
    )
    return by_module or any(part.rpartition("/")[2] == "llm-tui" for part in arguments[:3])


def _open(info: ProcessInfo, gpu_bytes: int | None, is_unwanted: bool, why: str) -> OpenProcess:
    return OpenProcess(
        pid=info.pid,
        started_s=info.started_s,
        name=info.name,
        user=info.user,
        gpu_bytes=gpu_bytes,
        rss_bytes=info.rss_bytes,
        age_s=info.age_s,
        is_unwanted=is_unwanted,
        may_close=not why,
        why_not=why,
    )


def as_open(info: ProcessInfo) -> OpenProcess:
    """A process found by its name alone, of whose GPU memory nothing is known."""
    return _open(info, None, False, why_not(info, protected_pids()))


def _unseen(pid: int, gpu_bytes: int | None) -> OpenProcess:
    return OpenProcess(
        pid=pid,
        started_s=None,
        name=UNSEEN,
        user=None,
        gpu_bytes=gpu_bytes,
        rss_bytes=None,
        age_s=None,
        is_unwanted=False,
        may_close=False,
        why_not="It cannot be seen from here: it runs outside of this container, or as a user that is hidden.",
    )
