"""Measures the error of GPU energy meters against a known truth: ours, Zeus and CodeCarbon side by side.

Run: python -m bench.energy [--runs 3] [--seconds 15] [--python OTHER] [CASE ...]; OTHER is the interpreter that has
Zeus and CodeCarbon, where it is not this one. Each case plays in real time on the stand-in driver of the tests, each
meter in a process of its own through the real pynvml; the truth is the stand-in's own integral over the very window
that the meter measured. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.meters import METERS
from tests.nvml_standin import VARIABLE, Standin, build

NO_COUNTER = "err:3"
NOW = "<now>"
"""Stands in a timeline for the instant at which it is played."""
Timeline = tuple[tuple[float, dict[str, object]], ...]


@dataclass(frozen=True)
class Case:
    """What the driver tells, and when that changes."""

    values: dict[str, object]
    timeline: Timeline = ()
    """(fraction of the window, values) from then on."""
    lost_frac: float = 0.0
    """Share of the window in which the GPU cannot be read."""


@dataclass
class Result:
    """One meter in one case, over the runs."""

    errors_pct: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


STEADY = {"power_mw": 25_000}
WAVE: dict[str, object] = {"wave_mw": "9000,40000,0.7", "limit_mw": 45_000}
LOST: Timeline = ((1 / 3, {"lost": 1}), (2 / 3, {"lost": None}))


def cases() -> dict[str, Case]:
    """Every case by its name."""
    found: dict[str, Case] = {}
    for counter, more in (("counter", {}), ("no counter", {"counter_mj": NO_COUNTER})):
        found |= {
            f"steady 25 W, {counter}": Case({**STEADY, **more}),
            f"9/40 W every 0.7 s, {counter}": Case({**WAVE, **more}),
            f"one reading in five 590 W, {counter}": Case({**STEADY, "spike": "590000,5", **more}),
            f"frozen at 588 W, {counter}": Case({"power_mw": 588_000, "true_mw": 25_000, **more}),
            f"lost for a third, {counter}": Case({**STEADY, **more}, LOST, 1 / 3),
        }
    for fault in ("reset", "freeze"):
        found[f"counter: {fault}"] = Case(dict(STEADY), ((0.5, {"counter_fault": f"{fault}:{NOW}"}),))
    found["counter: wrap"] = Case({**STEADY, "counter_fault": "wrap:1150000"})
    return found


def play(case: Case, seconds: float, python: dict[str, str]) -> dict[str, dict[str, Any]]:
    """One run of a case with all meters at once; their answers, `truth_j` added where there is a window."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        standin = build(folder, **case.values)
        smi = folder / "nvidia-smi"  # CodeCarbon looks for the program, and then reads NVML itself
        smi.write_text("#!/bin/sh\necho NVIDIA GeForce RTX 2050\n")
        smi.chmod(0o755)
        env = {**os.environ, **standin.env, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": name}
        children = {
            meter: subprocess.Popen(
                [python[meter], "-m", "bench.meters", meter, str(seconds)],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for meter in METERS
        }
        first_lines = {meter: _line(child) for meter, child in children.items()}
        begun_s = time.monotonic()
        for child in children.values():
            assert child.stdin is not None
            if child.poll() is None:
                child.stdin.write("\n")
                child.stdin.flush()
        for at_frac, values in case.timeline:
            time.sleep(max(0.0, begun_s + at_frac * seconds - time.monotonic()))
            now = f"{time.monotonic():.3f}"
            standin.set(
                **{key: str(value).replace(NOW, now) if value else value for key, value in values.items()}
            )
        answers = {}
        for meter, child in children.items():
            line = _line(child) if first_lines[meter] == "ready" else first_lines[meter]
            answers[meter] = json.loads(line) if line else {"failed": "no answer"}
            child.communicate()
            if "begin_s" in answers[meter]:
                answers[meter]["truth_j"] = truth_j(standin, answers[meter])
        return answers


def _line(child: subprocess.Popen[str]) -> str:
    """The next line that is ours: a meter may print banners."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "ready" or line.startswith("{"):
            return line.strip()
    return ""


def truth_j(standin: Standin, answer: dict[str, Any]) -> float:
    """The stand-in's own integral over a meter's window, in another process: its file is named by the environment."""
    library = standin.env["LD_LIBRARY_PATH"].split(":")[0] + "/libnvidia-ml.so.1"
    code = (
        "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).standin_true_mj; f.restype = ctypes.c_double; "
        "f.argtypes = [ctypes.c_double] * 2; print(f(float(sys.argv[2]), float(sys.argv[3])) / 1000)"
    )
    arguments = [sys.executable, "-c", code, library, repr(answer["begin_s"]), repr(answer["end_s"])]
    env = {**os.environ, VARIABLE: str(standin.file)}
    return float(subprocess.run(arguments, env=env, capture_output=True, text=True, check=True).stdout)


def judge(answer: dict[str, Any], result: Result) -> None:
    """Enter one answer: its error against the truth of the time that it counts, a gap told by itself left out."""
    if "failed" in answer:
        result.notes.append(f"fails: {answer['failed']}")
        return
    window_s, gap_s = answer["end_s"] - answer["begin_s"], answer.get("gap_s") or 0.0
    if answer["joules"] is None:
        result.notes.append(f"unknown, a gap of {gap_s:.0f} of {window_s:.0f} s")
        return
    truth = answer["truth_j"] * (1 - gap_s / window_s)
    result.errors_pct.append(100 * (answer["joules"] / truth - 1) if truth > 0 else float("nan"))
    result.gaps_s.append(gap_s)


def cell(result: Result) -> str:
    """A result in a table: the median error, the range where runs differ, the gap that the meter tells."""
    if not result.errors_pct:
        return result.notes[0] if result.notes else "—"
    low, high = min(result.errors_pct), max(result.errors_pct)
    text = f"{statistics.median(result.errors_pct):+.2f} %"
    if high - low >= 0.01:
        text += f" ({low:+.2f} to {high:+.2f})"
    if max(result.gaps_s) > 0.05:
        text += f", tells a gap of {statistics.median(result.gaps_s):.1f} s"
    return text + (f"; {len(result.notes)} x {result.notes[0]}" if result.notes else "")


def machine() -> str:
    """What this was measured on."""
    kernel = platform.release()
    return f"{os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}"


def version(python: str, package: str) -> str:
    """The version of a package that an interpreter has."""
    if python == sys.executable:
        return metadata.version(package)
    code = f"from importlib import metadata; print(metadata.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: list[str]) -> None:
    """Play the cases, several at once: the meters sleep most of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--at-once", type=int, default=4)
    asked = parser.parse_args(arguments)
    chosen = {
        name: case for name, case in cases().items() if not asked.cases or any(c in name for c in asked.cases)
    }
    python = {meter: sys.executable if meter == "ours" else asked.python for meter in METERS}
    results = {name: {meter: Result() for meter in METERS} for name in chosen}
    jobs = [(name, case) for _ in range(asked.runs) for name, case in chosen.items()]
    with ThreadPoolExecutor(asked.at_once) as pool:
        played = pool.map(lambda job: play(job[1], asked.seconds, python), jobs)
        for (name, _), answers in zip(jobs, played, strict=True):
            for meter, answer in answers.items():
                judge(answer, results[name][meter])
            print(f"{name}: {answers}", file=sys.stderr, flush=True)
    versions = ", ".join(f"{package} {version(asked.python, package)}" for package in ("zeus", "codecarbon"))
    print(f"{machine()}; {versions}; {asked.runs} runs of {asked.seconds:g} s.\n")
    print("| case | llm-tui | Zeus | CodeCarbon |\n|---|---|---|---|")
    for name, by_meter in results.items():
        print(f"| {name} | {' | '.join(cell(result) for result in by_meter.values())} |")


if __name__ == "__main__":
    main(sys.argv[1:])
