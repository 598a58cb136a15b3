"""Measures tokens a second of the training step against its peers, on the CPU, in one interleaved run.

Run: python -m bench.engine [NAME ...] [--rounds 7] [--steps 3] [--json FILE] [--python OTHER] [--logs FOLDER]; NAME is
a part of a contender's name, OTHER an interpreter that has the peers. Every contender is a process that warms up first;
then each round gives each of them a turn, in an order drawn anew, while all others sleep. What is compared is the ratio
within a round: whatever else the machine does hits all of a round alike. 14 million parameters, 6 layers x 384, context
256, vocabulary 8,192, batch 8, two threads. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.train.__main__ import TUNED_ENVIRONMENT

BASE = "plain-fp32"
"""What the others are multiples of."""
SECOND = "llama-bf16-compiled"
"""The second bar."""
TOKENS_PER_STEP = 8 * 256
TITLES = {
    BASE: "plain GPT loop, fp32, eager",
    "plain-bf16-compiled": "plain GPT loop, bf16, compiled",
    "plain-tuned": "the same, malloc tuned, AdamW fused",
    SECOND: "transformers' Llama in a plain loop, bf16, compiled, AdamW fused",
    "llama-tuned": "the same, malloc tuned",
    "trainer-llama-fp32": "Hugging Face Trainer, Llama, fp32",
    "trainer-llama-bf16": "Hugging Face Trainer, Llama, bf16",
    "trainer-llama-bf16-compiled": "Hugging Face Trainer, Llama, bf16, torch_compile",
    "trainer-gpt2-bf16": "Hugging Face Trainer, GPT-2, bf16",
    "litgpt-bf16-compiled": "litgpt pretrain, bf16-mixed, compiled, AdamW fused",
    "ours-adamw-eager": "llm-tui, AdamW, eager",
    "ours-adamw": "llm-tui, AdamW, compiled",
    "ours-muon": "llm-tui, Muon, compiled",
}
TUNED = ("plain-tuned", "llama-tuned", "ours-adamw-eager", "ours-adamw", "ours-muon")
"""Those that get the environment that llm-tui gives its trainer."""
PACKAGES = ("torch", "transformers", "accelerate", "litgpt", "lightning")
_STDERR_LINES = 3


@dataclasses.dataclass
class Contender:
    """One process and what it has shown."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    parameters: int | None = None
    warmup_s: float = 0.0
    failed: str = ""
    tokens_per_s: dict[int, float] = dataclasses.field(default_factory=dict)
    """By round."""
    cpu_s_per_step: list[float] = dataclasses.field(default_factory=list)
    peak_bytes: int = 0

    @classmethod
    def start(cls, name: str, python: str, folder: Path) -> Contender:
        """Begin its warm-up."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{name}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[1])}
        for key in TUNED_ENVIRONMENT:
            environment.pop(key, None)
        if name in TUNED:
            environment |= TUNED_ENVIRONMENT
        with log.open("w") as errors:
            process = subprocess.Popen(
                [python, "-m", "bench.peers", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        return cls(name, process, log)

    def answer(self) -> dict[str, Any] | None:
        """What it says next; None where it has died, which it then says why."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        lines = self.log.read_text().strip().splitlines()[-_STDERR_LINES:]
        self.failed = " | ".join(lines) or f"ended with {self.process.returncode}"
        return None

    def warm_up(self) -> None:
        """Wait until it is ready for its turns."""
        answer = self.answer()
        if answer is not None:
            self.parameters, self.warmup_s = answer["parameters"], answer["ready_s"]

    def turn(self, number: int, steps: int) -> None:
        """Let it do so many steps while all others wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self.answer()
        if answer is None:
            return
        self.tokens_per_s[number] = TOKENS_PER_STEP * answer["steps"] / answer["wall_s"]
        self.cpu_s_per_step.append(answer["cpu_s"] / answer["steps"])
        self.peak_bytes = answer["peak_bytes"]

    def end(self) -> None:
        """Close its stdin, and see to it that it goes."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ratios(contender: Contender, other: Contender | None) -> list[float]:
    """How many times as fast it was, round by round."""
    if other is None:
        return []
    return [
        rate / other.tokens_per_s[number]
        for number, rate in contender.tokens_per_s.items()
        if number in other.tokens_per_s
    ]


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and the quartiles."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return middle, low, high


def cell(values: list[float], form: str = ".2f") -> str:
    """Median and quartiles as text."""
    if not values:
        return "—"
    middle, low, high = spread(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def table(contenders: dict[str, Contender]) -> list[str]:
    """The result, in Markdown."""
    base, second = contenders.get(BASE), contenders.get(SECOND)
    lines = [
        "| contender | x fp32 loop | x compiled Llama | tokens/s | CPU s/step | peak MiB | million parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for contender in contenders.values():
        if contender.failed or not contender.tokens_per_s:
            lines.append(f"| {TITLES[contender.name]} | fails: {contender.failed} | | | | | |")
            continue
        columns = [
            TITLES[contender.name],
            cell(ratios(contender, base)),
            cell(ratios(contender, second)),
            f"{statistics.median(contender.tokens_per_s.values()):,.0f}",
            f"{statistics.median(contender.cpu_s_per_step):.2f}",
            f"{contender.peak_bytes / 2**20:,.0f}",
            f"{(contender.parameters or 0) / 1e6:.2f}",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def versions(python: str) -> dict[str, str]:
    """Of the packages that were measured; those that are missing are left out."""
    if python == sys.executable:
        found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    else:
        code = (
            "import json; from importlib import metadata as m; "
            "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
        )
        output = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
        found = json.loads(output)
    return {name: found[name] for name in PACKAGES if name in found}


def machine() -> str:
    """What this was measured on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    has_amx = Path("/proc/cpuinfo").exists() and "amx_bf16" in Path("/proc/cpuinfo").read_text()
    return (
        f"{os.cpu_count()} cores of {model}{', with AMX' if has_amx else ''}, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def report(contenders: dict[str, Contender], python: str, seconds: float) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "machine": machine(),
        "versions": versions(python),
        "seconds": round(seconds),
        "load_before": os.getloadavg()[2],
        "contenders": [
            {
                "name": contender.name,
                "title": TITLES[contender.name],
                "failed": contender.failed or None,
                "parameters": contender.parameters,
                "warmup_s": contender.warmup_s,
                "tokens_per_s": list(contender.tokens_per_s.values()),
                "cpu_s_per_step": contender.cpu_s_per_step,
                "peak_bytes": contender.peak_bytes,
                "times_base": ratios(contender, contenders.get(BASE)),
                "times_second": ratios(contender, contenders.get(SECOND)),
            }
            for contender in contenders.values()
        ],
    }


def compete(names: list[str], asked: argparse.Namespace, folder: Path) -> dict[str, Contender]:
    """Warm all up one after another, then play the rounds."""
    contenders: dict[str, Contender] = {}
    try:
        for name in names:
            contender = contenders[name] = Contender.start(name, asked.python, folder)
            contender.warm_up()
            say(f"{name}: {contender.failed or f'ready after {contender.warmup_s:.0f} s'}")
        for number in range(asked.rounds):
            order = [contender for contender in contenders.values() if not contender.failed]
            random.shuffle(order)
            for contender in order:
                contender.turn(number, asked.steps)
            rates = {c.name: round(c.tokens_per_s.get(number, 0)) for c in contenders.values()}
            say(f"round {number + 1} of {asked.rounds}: {rates}")
    finally:
        for contender in contenders.values():
            contender.end()
    return contenders


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args(arguments)
    names = [name for name in TITLES if not asked.names or any(part in name for part in asked.names)]
    began_s = time.monotonic()
    contenders = compete(names, asked, asked.logs)
    found = report(contenders, asked.python, time.monotonic() - began_s)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    print(
        f"{found['machine']}; {packages}; {asked.rounds} rounds of {asked.steps} steps, {found['seconds']} s.\n"
    )
    print("\n".join(table(contenders)))


if __name__ == "__main__":
    main(sys.argv[1:])
