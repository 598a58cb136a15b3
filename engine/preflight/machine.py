"""Checks of the machine around the device: memory, disk, power supply."""

from __future__ import annotations

from engine.corpus.build import inspect
from engine.errors import CorpusError
from engine.estimate import storage_estimate
from engine.preflight.context import GIB, Context, Verdict, failed, gib, passed, skipped, warned
from engine.records import Figure
from engine.telemetry.host import disk, memory, read_battery

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
        f"{gib(swap_free)} of {gib(swap_total)} swap free"
        if swap_total and swap_free is not None
        else "no swap"
    )
    evidence = (
        f"{gib(ram.available_bytes)} of {gib(ram.total_bytes or 0)} RAM free{within}, the run needs {gib(needed)}; "
        f"{swap}."
    )
    budget = plan.memory_budget_bytes
    if on_cpu and budget is not None and plan.memory_total_bytes > budget:
        return failed(
            f"The model needs {gib(plan.memory_total_bytes)}, the budget is {gib(budget)}. {evidence}",
            "Choose a smaller model.preset or training.micro_batch.",
            *figures,
        )
    if ram.available_bytes < needed:
        return failed(evidence, "Close programs, or choose a smaller model.preset.", *figures)
    if swap_total and swap_free is not None and swap_free < LOW_SWAP_FRAC * swap_total:
        return warned(
            evidence, "Close programs: what is swapped out slows the run when it comes back.", *figures
        )
    return passed(evidence, *figures)


def check_disk(context: Context) -> Verdict:
    """Whether the disk holds the tokens, every planned checkpoint at its peak, and the model, and will keep them.

    Where not even one checkpoint fits no waiver helps.
    """
    found = disk(context.workspace)
    if found is None:
        return failed(
            "The free space cannot be told.", f"Look at {context.workspace}: is it there?", is_waivable=False
        )
    try:
        corpus_tokens = inspect(context.settings.corpus, context.workspace).estimated_tokens
    except CorpusError:
        corpus_tokens = None
    planned = storage_estimate(context.plan, context.settings, corpus_tokens)
    num_checkpoints = context.settings.training.keep_checkpoints + 1
    checkpoint_bytes = planned.checkpoints_bytes // num_checkpoints
    reserve = round(context.settings.limits.min_free_disk_gib * GIB)
    kind = found.file_system or "unknown file system"
    evidence = (
        f"{gib(found.free_bytes)} free on {found.mount_point or '?'} ({kind}); at its peak the run needs "
        f"{gib(planned.total_bytes)}: {num_checkpoints} checkpoints of {gib(checkpoint_bytes)}, one of them being "
        f"written, the model {gib(planned.model_bytes)}, the tokens {gib(planned.corpus_bytes or 0)}; {gib(reserve)} "
        "are to stay free."
    )
    figure = Figure(
        label="disk free", unit="bytes", now=found.free_bytes, needed=planned.total_bytes + reserve
    )
    if found.free_bytes < planned.total_bytes + reserve:
        return failed(
            evidence,
            "Free some space, or lower training.keep_checkpoints or limits.min_free_disk_gib.",
            figure,
            is_waivable=found.free_bytes >= checkpoint_bytes + planned.model_bytes,
        )
    if kind in NETWORK_FILE_SYSTEMS:
        return warned(
            f"{evidence} It is a network file system.", "A local disk is faster and locks reliably.", figure
        )
    if kind in PASSING_FILE_SYSTEMS:
        return warned(
            f"{evidence} {PASSING_FILE_SYSTEMS[kind]}.",
            "Put the workspace on a disk or a volume that stays, or copy the model away when the run is over.",
            figure,
        )
    return passed(evidence, figure)


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
