"""Checks of the machine around the device: memory, disk, power, sleep, logout, sensors, temperature."""

from __future__ import annotations

import configparser
import getpass
import time
from pathlib import Path

from engine.corpus.build import inspect
from engine.errors import CorpusError
from engine.estimate import storage_estimate
from engine.preflight.context import GIB, Context, Verdict, failed, gib, passed, skipped, warned
from engine.runs.launch import launch_method
from engine.telemetry.host import disk, memory, read_battery
from engine.telemetry.reading import Reading
from engine.telemetry.sampler import Sampler

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre")
LOGIND_CONF = (Path("/etc/systemd/logind.conf"), Path("/etc/systemd/logind.conf.d"))
SYSTEMD_RUNNING = Path("/run/systemd/system")
SPARE_RAM_GIB = 1.0


def check_memory(context: Context) -> Verdict:
    """Whether the RAM is enough: for the model on a CPU, for the program around it on a GPU."""
    ram = memory()
    if ram.available_bytes is None:
        return warned("The free memory cannot be told.", "Look with free -h.")
    plan = context.plan
    on_cpu = context.device.kind == "cpu"
    needed = (plan.memory_total_bytes if on_cpu else 0) + round(SPARE_RAM_GIB * GIB)
    budget = plan.memory_budget_bytes
    evidence = (
        f"{gib(ram.available_bytes)} of {gib(ram.total_bytes or 0)} RAM free, the run needs {gib(needed)}."
    )
    if on_cpu and budget is not None and plan.memory_total_bytes > budget:
        return failed(
            f"The model needs {gib(plan.memory_total_bytes)}, the budget is {gib(budget)}.",
            "Choose a smaller model.preset or training.micro_batch.",
        )
    if ram.available_bytes < needed:
        return failed(evidence, "Close programs, or choose a smaller model.preset.")
    return passed(evidence)


def check_disk(context: Context) -> Verdict:
    """Whether the disk holds the tokens, every planned checkpoint at its peak, and the model."""
    found = disk(context.workspace)
    if found is None:
        return failed("The free space cannot be told.", f"Look at {context.workspace}: is it there?")
    try:
        corpus_tokens = inspect(context.settings.corpus, context.workspace).estimated_tokens
    except CorpusError:
        corpus_tokens = None
    needed = storage_estimate(context.plan, context.settings, corpus_tokens).total_bytes
    reserve = round(context.settings.limits.min_free_disk_gib * GIB)
    kind = found.file_system or "unknown file system"
    where = f"{found.mount_point or '?'} ({kind})"
    evidence = f"{gib(found.free_bytes)} free on {where}, the run needs up to {gib(needed)} and leaves {gib(reserve)}."
    if found.free_bytes < needed + reserve:
        return failed(
            evidence, "Free some space, or lower training.keep_checkpoints or limits.min_free_disk_gib."
        )
    if kind in NETWORK_FILE_SYSTEMS:
        return warned(
            f"{evidence} It is a network file system.", "A local disk is faster and locks reliably."
        )
    return passed(evidence)


def check_power(context: Context) -> Verdict:
    """Whether the machine hangs on the mains."""
    battery = read_battery()
    if battery.is_on_ac is None:
        return skipped("No battery here.")
    charge = "" if battery.fraction is None else f", battery at {battery.fraction:.0%}"
    if battery.is_on_ac:
        return passed(f"On the mains{charge}.")
    if not context.settings.preflight.require_ac_power:
        return warned(f"On battery{charge}.", "Plug it in: a run of days outlasts every battery.")
    return failed(f"On battery{charge}.", "Plug the machine in, or set preflight.require_ac_power = false.")


def check_sleep(context: Context) -> Verdict:
    """Whether the machine may fall asleep under the run."""
    if not SYSTEMD_RUNNING.exists():
        return skipped("No logind here that would put the machine to sleep.")
    return warned(
        "logind may put this machine to sleep when it is idle or its lid is shut; llm-tui takes no inhibit lock yet.",
        "Turn automatic suspend off for the time of the run.",
    )


def check_logout(context: Context) -> Verdict:
    """Whether the run goes on when the person logs out."""
    method = launch_method()
    evidence = f"The run is set free by {method.name}: {method.evidence}."
    if method.name == "double-detach" and _kills_user_processes():
        return failed(
            f"{evidence} logind ends the processes of who logs out (KillUserProcesses=yes).",
            f"Run: loginctl enable-linger {getpass.getuser()}",
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


def _probe(context: Context) -> Reading:
    """Two readings: loads and powers are differences."""
    sampler = Sampler(context.settings.energy, interval_s=0.2)
    try:
        sampler.wait_ready(3.0)
        time.sleep(0.3)
        return sampler.read()
    finally:
        sampler.close()


def check_sensors(context: Context) -> Verdict:
    """What can be measured here, each by its name: measured, estimated or absent."""
    row = _probe(context).row
    told = [
        f"GPU temperature {_celsius(row.gpu_celsius)}",
        f"GPU power {_watts(row.gpu_watts, row.gpu_watts_source)}",
        f"CPU temperature {_celsius(row.cpu_celsius)}",
        f"CPU power {_watts(row.cpu_watts, row.cpu_watts_source)}",
        f"machine power {_watts(row.machine_watts, row.machine_watts_source)}",
    ]
    evidence = "; ".join(told) + "."
    if row.machine_watts is None:
        return warned(evidence, "The machine's energy and cost will be unknown.")
    if row.machine_watts_source == "estimate":
        return warned(
            evidence, "Set energy.cpu_rated_watts and energy.rest_of_machine_watts to your machine's."
        )
    return passed(evidence)


def _celsius(value: float | None) -> str:
    return "absent" if value is None else f"{value:.0f} °C"


def _watts(value: float | None, source: str | None) -> str:
    return "absent" if value is None else f"{value:.0f} W ({source or 'unknown source'})"


def check_temperature(context: Context) -> Verdict:
    """Whether the GPU starts cool."""
    celsius, limits = _probe(context).row.gpu_celsius, context.settings.limits
    if context.device.kind == "cpu":
        return skipped("Trains on the CPU, whose governor guards it.")
    if celsius is None:
        return warned(
            "The GPU does not tell its temperature: nothing will guard it.", "Look that its fan is free."
        )
    if limits.max_gpu_celsius and celsius >= limits.resume_gpu_celsius:
        return failed(
            f"The GPU is at {celsius:.0f} °C before it does anything, {limits.resume_gpu_celsius:g} °C is the most.",
            "Let it cool down; look that its fan is free.",
        )
    return passed(f"The GPU is at {celsius:.0f} °C.")
