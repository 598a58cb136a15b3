"""Checks of the machine around the device: memory, disk, power supply."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.corpus.build import inspect
from engine.corpus.cache import cache_folder
from engine.errors import CorpusError
from engine.estimate import checkpoint_bytes, storage_estimate
from engine.preflight.context import GIB, Context, Verdict, amount, failed, passed, skipped, warned
from engine.records import Figure
from engine.runs.folder import runs_folder
from engine.telemetry.host import Disk, disk, memory, read_battery

NETWORK_FILE_SYSTEMS = frozenset(
    (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "fuse.sshfs",
    )
)
PASSING_FILE_SYSTEMS = {
    "overlay": "It is a container's own layer, which goes with the container",
    "tmpfs": "It lies in memory and is gone after a restart",
    "ramfs": "It lies in memory and is gone after a restart",
}
"""File systems that outlive no restart, and why."""
SPARE_RAM_GIB = 1.0
LOW_SWAP_FRAC = 0.25
"""Less of the swap free than this means that the machine is short of memory already."""


def check_memory(context: Context) -> Verdict:
    """Whether the RAM is enough: for the model on a CPU, for the program around it on a GPU."""
    ram = memory()
    if ram.available_bytes is None:
        return warned("The free memory cannot be told.", "Look with free -h.")
    plan = context.plan
    on_cpu = context.device.kind == "cpu"
    needed = (plan.memory_total_bytes if on_cpu else 0) + round(SPARE_RAM_GIB * GIB)
    swap_free, swap_total = ram.swap_free_bytes, ram.swap_total_bytes
    figures = (
        Figure(label="RAM free", unit="bytes", now=ram.available_bytes, needed=needed),
        Figure(label="swap free", unit="bytes", now=swap_free),
    )
    within = " (a limit of its control group)" if ram.source == "cgroup" else ""
    swap = (
        f"{amount(swap_free)} of {amount(swap_total)} swap free"
        if swap_total and swap_free is not None
        else "no swap"
    )
    evidence = (
        f"{amount(ram.available_bytes)} of {amount(ram.total_bytes)} RAM free{within}, the run needs {amount(needed)}; "
        f"{swap}."
    )
    budget = plan.memory_budget_bytes
    if on_cpu and budget is not None and plan.memory_total_bytes > budget:
        return failed(
            f"The model needs {amount(plan.memory_total_bytes)}, the budget is {amount(budget)}. {evidence}",
            "Choose a smaller model.preset or training.micro_batch.",
            *figures,
            is_waivable=not context.settings.limits.vram_budget_gib,
        )
    if ram.available_bytes < needed:
        return failed(evidence, "Close programs, or choose a smaller model.preset.", *figures)
    if swap_total and swap_free is not None and swap_free < LOW_SWAP_FRAC * swap_total:
        return warned(
            evidence, "Close programs: what is swapped out slows the run when it comes back.", *figures
        )
    return passed(evidence, *figures)


class _Place(msgspec.Struct, frozen=True):
    """A file system that the run writes on."""

    disk: Disk
    contents: tuple[str, ...]
    """What of the run lies there at its peak, in words with amounts."""
    peak_bytes: int
    least_bytes: int
    """Below this not even the first checkpoint can be kept."""
    reserve_bytes: int = 0
    """What is to stay free besides."""

    @property
    def needed_bytes(self) -> int:
        """At the peak, with what is to stay free."""
        return self.peak_bytes + self.reserve_bytes


def check_disk(context: Context) -> Verdict:
    """Whether each disk holds what the run puts there at its peak, may be written, and will keep it.

    `runs` and `cache` may lie on disks of their own. Where not even one checkpoint fits beside what the settings
    want to stay free, no waiver helps: it overrules a check, and no setting.
    """
    folders = (runs_folder(context.workspace), cache_folder(context.workspace))
    for folder in folders:
        if told := _obstacle(folder):
            return failed(told, "Look at it: is its disk there, and yours to write?", is_waivable=False)
    of_runs, of_cache = (disk(folder) for folder in folders)
    if of_runs is None or of_cache is None:
        remedy = f"Look at {context.workspace}: is it there?"
        return failed("The free space cannot be told.", remedy, is_waivable=False)
    places = _places(context, of_runs, of_cache)
    reserve_bytes = places[0].reserve_bytes
    evidence = " ".join(map(_told, places))
    evidence += f" {amount(reserve_bytes)} are to stay free." if reserve_bytes else ""
    figures = [
        Figure(
            label="disk free" if len(places) == 1 else f"{place.disk.mount_point} free",
            unit="bytes",
            now=place.disk.free_bytes,
            needed=place.needed_bytes,
        )
        for place in places
    ]
    if any(place.disk.free_bytes < place.needed_bytes for place in places):
        return failed(
            evidence,
            "Free some space, or lower training.keep_checkpoints or limits.min_free_disk_gib.",
            *figures,
            is_waivable=all(
                place.disk.free_bytes >= place.least_bytes + place.reserve_bytes for place in places
            ),
        )
    return _lasting(places[0].disk.file_system, evidence, figures)


def _obstacle(folder: Path) -> str:
    """Why nothing can be written in a folder, which may still have to be made; empty where something can."""
    there = folder
    while not there.exists() and there != there.parent:
        if there.is_symlink():
            return f"{there} is a link to {there.readlink()}, which is not there."
        there = there.parent
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written."


def _places(context: Context, of_runs: Disk, of_cache: Disk) -> list[_Place]:
    """What the run writes where, its checkpoints first."""
    try:
        corpus_tokens = inspect(context.settings.corpus, context.workspace).estimated_tokens
    except CorpusError:
        corpus_tokens = None
    planned = storage_estimate(context.plan, context.settings, corpus_tokens)
    num_checkpoints, one_bytes = (
        context.settings.training.keep_checkpoints + 1,
        checkpoint_bytes(context.plan),
    )
    runs = _Place(
        disk=of_runs,
        contents=(
            f"{num_checkpoints} checkpoints of {amount(one_bytes)}, one of them being written",
            f"the model {amount(planned.model_bytes)}",
        ),
        peak_bytes=planned.checkpoints_bytes + planned.model_bytes,
        least_bytes=one_bytes + planned.model_bytes,
        reserve_bytes=round(context.settings.limits.min_free_disk_gib * GIB),
    )
    tokens_bytes = planned.corpus_bytes or 0
    cache = _Place(of_cache, (f"the tokens {amount(planned.corpus_bytes)}",), tokens_bytes, tokens_bytes)
    if of_runs.device != of_cache.device and of_runs.mount_point != of_cache.mount_point:
        return [runs, cache]
    both = (*runs.contents, *cache.contents)
    return [msgspec.structs.replace(runs, contents=both, peak_bytes=runs.peak_bytes + tokens_bytes)]


def _told(place: _Place) -> str:
    found, kind = place.disk, place.disk.file_system or "unknown file system"
    return (
        f"{amount(found.free_bytes)} free on {found.mount_point or '?'} ({kind}); "
        f"at its peak the run needs {amount(place.peak_bytes)} there: {', '.join(place.contents)}."
    )


def _lasting(kind: str, evidence: str, figures: list[Figure]) -> Verdict:
    """Enough room: whether the file system that the checkpoints go to is one to rely on."""
    if kind in NETWORK_FILE_SYSTEMS:
        return warned(
            f"{evidence} It is a network file system.", "A local disk is faster and locks reliably.", *figures
        )
    if kind in PASSING_FILE_SYSTEMS:
        return warned(
            f"{evidence} {PASSING_FILE_SYSTEMS[kind]}.",
            "Put the workspace on a disk or a volume that stays, or copy the model away when the run is over.",
            *figures,
        )
    return passed(evidence, *figures)


def check_power(context: Context) -> Verdict:
    """Whether the machine hangs on the mains."""
    battery = read_battery()
    if battery.is_on_ac is None:
        return skipped("No battery here.")
    figure = Figure(label="battery", unit="frac", now=battery.fraction)
    charge = "" if battery.fraction is None else f", battery at {battery.fraction:.0%}"
    if battery.is_on_ac:
        return passed(f"On the mains{charge}.", figure)
    if not context.settings.preflight.require_ac_power:
        return warned(f"On battery{charge}.", "Plug it in: a run of days outlasts every battery.", figure)
    return failed(
        f"On battery{charge}.", "Plug the machine in, or set preflight.require_ac_power = false.", figure
    )
