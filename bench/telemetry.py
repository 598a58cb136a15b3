"""Measures what watching costs: the CPU of the whole supervisor at 1 Hz, beside CodeCarbon and Zeus at the same rate.

Run: python -m bench.telemetry [--seconds 60] [--runs 3] [--python OTHER]; OTHER as in bench.energy. A real run of a
very small model is started on the stand-in driver and paused; counted are its supervisor and the process that reads the
GPU, not the trainer. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.energy import machine, version
from engine import Workspace
from tests.conftest import SMALL, write_text
from tests.nvml_standin import build

_FOLLOW = """
import sys, time
if sys.argv[1] == "codecarbon":
    from codecarbon import OfflineEmissionsTracker
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", measure_power_secs=1, save_to_file=False, log_level="critical")
    tracker.start()
else:
    from zeus.monitor.power import PowerMonitor
    monitor = PowerMonitor(gpu_indices=[0], update_period=1.0)
print("ready", flush=True)
time.sleep(100000)
"""


def tree(pid: int, is_counted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """A process and those of its descendants that count."""
    top = psutil.Process(pid)
    return [top, *(child for child in top.children(recursive=True) if is_counted(child))]


def cpu_s(processes: list[psutil.Process]) -> float:
    """CPU time of all of them so far; of children that have ended, what their parents waited for."""
    times = [process.cpu_times() for process in processes]
    return sum(t.user + t.system for t in times) + times[0].children_user + times[0].children_system


def measure(trees: dict[str, list[psutil.Process]], seconds: float, runs: int) -> dict[str, list[float]]:
    """Percent of a core that each took, in each of the windows."""
    found: dict[str, list[float]] = {name: [] for name in trees}
    for _ in range(runs):
        began_s, before = time.monotonic(), {name: cpu_s(processes) for name, processes in trees.items()}
        time.sleep(seconds)
        took_s = time.monotonic() - began_s
        for name, processes in trees.items():
            found[name].append(100 * (cpu_s(processes) - before[name]) / took_s)
    return found


def paused_run(folder: Path) -> tuple[Workspace, str, int]:
    """A real run, paused: the workspace, the run, and its supervisor."""
    write_text(folder / "text")
    settings = SMALL.format(tokens=10**9).replace("interval_s = 0.25", "interval_s = 1.0")
    (folder / "settings.toml").write_text(settings, "utf-8")
    workspace = Workspace(folder)
    run_id = workspace.start()
    while (workspace.status(run_id).step or 0) < 3:
        time.sleep(0.2)
    workspace.command(run_id, "pause")
    pid = workspace.status(run_id).supervisor_pid
    assert pid is not None
    return workspace, run_id, pid


def follow(meter: str, python: str) -> subprocess.Popen[str]:
    """Another program that watches at 1 Hz."""
    child = subprocess.Popen(
        [python, "-c", _FOLLOW, meter], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    while child.stdout.readline().strip() not in ("ready", ""):
        pass
    return child


def main(arguments: list[str]) -> None:
    """Measure all three at the same time, on the same stand-in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--python", default=sys.executable)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        smi = folder / "nvidia-smi"
        smi.write_text("#!/bin/sh\necho NVIDIA GeForce RTX 2050\n")
        smi.chmod(0o755)
        os.environ |= build(folder).env | {"XDG_STATE_HOME": name, "PATH": f"{name}:{os.environ['PATH']}"}
        (folder / "workspace").mkdir()
        workspace, run_id, pid = paused_run(folder / "workspace")
        others = [follow(meter, asked.python) for meter in ("codecarbon", "zeus")]
        try:
            time.sleep(5)
            trees = {
                "llm-tui: supervisor": [psutil.Process(pid)],
                "llm-tui: process that reads the GPU": tree(pid, lambda p: "gpus" in p.cmdline())[1:],
                "CodeCarbon": tree(others[0].pid, lambda p: True),
                "Zeus (PowerMonitor)": tree(others[1].pid, lambda p: True),
            }
            memory = {key: sum(p.memory_info().rss for p in found) for key, found in trees.items()}
            found = measure(trees, asked.seconds, asked.runs)
        finally:
            for other in others:
                other.kill()
            workspace.command(run_id, "stop")
    versions = ", ".join(f"{package} {version(asked.python, package)}" for package in ("zeus", "codecarbon"))
    print(f"{machine()}; {versions}; {asked.runs} windows of {asked.seconds:g} s.\n")
    print("| watching at 1 Hz | % of a core, median (range) | resident MiB |\n|---|---|---|")
    for key, values in found.items():
        text = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        print(f"| {key} | {text} | {memory[key] / 2**20:.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
