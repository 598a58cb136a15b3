"""Measures tokens and time to a validation loss, beside Hugging Face's Trainer with AdamW and its cosine.

Run: python -m bench.loss [--tokens 1200128] [--seeds 1 2] [--rates 1e-3 1.4e-3 2e-3] [--python OTHER]

The Trainer trains the same model (preset tiny, equal parameters) on the same tokens of the same corpus with twice
the tokens; its peak rate is the best of --rates with the first seed. Ours is a run as `llm-tui run` trains it, with
the settings that ship. Both are measured by the trainer's own validation; the whole split at the end decides.
Prints tables in Markdown, writes the curves and their points; exit code 1 where the bar of half the tokens and half
the time is missed. OTHER is an interpreter that has transformers and accelerate. With --folder, what is trained already
is not trained again: a machine that was busy can be waited for, and a rate be added to a sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.engine import machine, say, versions
from bench.loss_chart import Curve, chart
from bench.loss_sides import Asked
from engine import Workspace, __version__
from engine.process import module_argv
from engine.runs import folder as folders
from engine.runs.folder import RunFolder

PEER_TIMES = 2
"""The peer's tokens are so many times ours."""
WARMUP_FRAC, WEIGHT_DECAY, BATCH = 0.05, 0.1, 8
"""Of the peer; 8 sequences a device are the Trainer's own default."""
NUM_POINTS = 20
COLOURS = {"Trainer": "#d55e00", "llm-tui": "#0072b2"}
ROOT = Path(__file__).parents[1]


class Side(msgspec.Struct, kw_only=True):
    """One training that is over."""

    name: str
    seed: int
    rate: float
    tokens_per_step: int
    parameters: int
    tokens: int
    train_s: float
    """From the first step's preparation to the end, compiling, checkpoints and samples included."""
    validation_s: float
    process_s: float
    """The whole process, imports and the last measurement included."""
    bits_per_byte: float
    """On the whole validation split, at the end."""
    points: list[tuple[int, float, float]]
    """Tokens, seconds and bits a byte on the windows of the trainer's validations."""
    how: str
    """Optimizer, and whether it was compiled."""
    load: float
    """Processes that wanted a core when it began, it itself not among them."""


def ours(workspace: Workspace, seed: int, tokens: int, overrides: list[str]) -> Side:
    """A run without its supervisor: corpus and trainer one after the other, as it starts them."""
    asked = [f"training.tokens={tokens}", f"training.seed={seed}", "model.preset=tiny", *overrides]
    settings, plan = workspace.plan(asked)
    run = folders.create(workspace.folder, settings, plan, {}, __version__)
    log = run.log_path.open("ab")
    call(module_argv("engine.corpus", str(run.path)), log)
    load, started = os.getloadavg()[0], time.monotonic()
    call(module_argv("engine.train", "run", str(run.path)), log)
    process_s = time.monotonic() - started
    found = json.loads(
        call([sys.executable, "-m", "bench.loss_sides", "measure", str(run.path)], log, is_answer=True)
    )
    return Side(
        name="llm-tui",
        seed=seed,
        rate=plan.learning_rate,
        tokens_per_step=plan.tokens_per_step,
        process_s=process_s,
        load=load,
        **found,
    )


def peer(python: str, run: RunFolder, asked: Asked) -> Side:
    """The Trainer; `run` is one of ours whose tokens it reads."""
    load, started = os.getloadavg()[0], time.monotonic()
    command = [python, "-m", "bench.loss_sides", "trainer", msgspec.json.encode(asked).decode()]
    with run.log_path.open("ab") as log:
        found = json.loads(call(command, log, is_answer=True))
    return Side(
        name="Trainer",
        seed=asked.seed,
        rate=asked.rate,
        tokens_per_step=asked.batch * asked.shape.context,
        process_s=time.monotonic() - started,
        load=load,
        **found,
    )


def call(command: list[str], log: Any, *, is_answer: bool = False) -> str:
    """Run a process to its end; what it answers. Raises: SystemExit with where to read what went wrong."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, stdout=subprocess.PIPE if is_answer else log, stderr=log, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{command[:5]} ended with {done.returncode}: read {log.name}")
    return done.stdout


def reached(side: Side, level: float) -> tuple[float, float] | None:
    """Tokens and seconds at which a curve first comes down to a level, between two points in a line; None: never."""
    before = side.points[0]
    for point in side.points[1:]:
        if point[2] <= level:
            share = (before[2] - level) / (before[2] - point[2])
            return (
                before[0] + share * (point[0] - before[0]),
                before[1] + share * (point[1] - before[1]),
            )
        before = point
    return None


def table(sides: list[Side]) -> list[str]:
    """Every training, in Markdown."""
    lines = [
        "| training | seed | peak rate | tokens a step | tokens | bits a byte, whole split | training s | "
        "validation s | process s | load before |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {side.name} | {side.seed} | {side.rate:g} | {side.tokens_per_step:,} | {side.tokens:,} | "
        f"{side.bits_per_byte:.4f} | {side.train_s:.0f} | {side.validation_s:.0f} | {side.process_s:.0f} | "
        f"{side.load:.1f} |"
        for side in sides
    ]
    return lines


def verdict(pairs: list[tuple[Side, Side]]) -> tuple[list[str], bool]:
    """Seed by seed, ours against the peer's best; whether the bar is met with every seed."""
    lines = [
        "| seed | Trainer ends at | llm-tui ends at | tokens | training time | the curve crosses at |",
        "|---|---|---|---|---|---|",
    ]
    is_met = True
    for mine, other in pairs:
        is_there = mine.bits_per_byte <= other.bits_per_byte
        tokens_frac, time_frac = mine.tokens / other.tokens, mine.train_s / other.train_s
        is_met = is_met and is_there and tokens_frac <= 0.5 and time_frac <= 0.5
        crossed = reached(mine, other.points[-1][2])
        where = (
            f"{crossed[0] / other.tokens:.2f} of the tokens, {crossed[1] / other.train_s:.2f} of the time"
            if crossed
            else "never"
        )
        lines.append(
            f"| {mine.seed} | {other.bits_per_byte:.4f} | {mine.bits_per_byte:.4f} | x {tokens_frac:.2f} | "
            f"x {time_frac:.2f} | {where} |"
        )
    mine_mean, other_mean = (statistics.mean(pair[which].bits_per_byte for pair in pairs) for which in (0, 1))
    lines.append(f"| mean | {other_mean:.4f} | {mine_mean:.4f} | | | |")
    return lines, is_met


def draw(pairs: list[tuple[Side, Side]], folder: Path) -> None:
    """The curves over tokens and over time, and their points."""
    level = max(other.points[-1][2] for _, other in pairs)
    for axis, name, unit, scale in ((0, "tokens", "million tokens", 1e-6), (1, "time", "seconds", 1.0)):
        curves = [
            Curve(
                f"{side.name}, seed {side.seed}",
                COLOURS[side.name],
                index > 0,
                [(point[axis] * scale, point[2]) for point in side.points],
            )
            for index, pair in enumerate(pairs)
            for side in pair
        ]
        title = f"Validation loss over {name}: the same model, tokens and machine"
        picture = chart(title, unit, "bits a byte", curves, level, "where the Trainer ends")
        (folder / f"loss-{name}.svg").write_text(picture, "utf-8")
    points = json.dumps([msgspec.to_builtins(side) for pair in pairs for side in pair])
    (folder / "loss-points.json").write_text(points + "\n", "utf-8")


def compete(asked: argparse.Namespace, folder: Path) -> tuple[list[Side], list[tuple[Side, Side]]]:
    """All trainings, and the pairs that are compared, a seed each."""
    (folder / "settings.toml").write_text("", "utf-8")
    workspace = Workspace(folder)
    _, plan = workspace.plan([f"training.tokens={asked.tokens}", "model.preset=tiny", *asked.set])
    done = Done(folder, plan.tokens_total)
    pairs: list[tuple[Side, Side]] = []
    rate: float | None = None
    for seed in asked.seeds:
        mine = done.find("llm-tui", seed) or done.keep(ours(workspace, seed, asked.tokens, asked.set))
        tell(mine)
        run = folders.all_runs(folder)[0]
        others = []
        for tried in asked.rates if rate is None else [rate]:
            wanted = Asked(
                manifest=str(run.corpus_path),
                shape=plan.shape,
                tokens=PEER_TIMES * mine.tokens,
                batch=asked.batch,
                rate=tried,
                warmup_frac=WARMUP_FRAC,
                weight_decay=WEIGHT_DECAY,
                seed=seed,
                num_points=NUM_POINTS,
            )
            other = done.find("Trainer", seed, tried) or done.keep(peer(asked.python, run, wanted))
            tell(other)
            others.append(other)
        best = min(others, key=lambda side: side.bits_per_byte)
        rate = best.rate
        assert best.parameters == mine.parameters, "both sides must be the same model"
        pairs.append((mine, best))
    return done.sides, pairs


class Done:
    """The trainings that are over, kept in a file of the folder."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self._path, self._tokens = folder / "sides.json", tokens
        self.sides: list[Side] = []
        if self._path.exists():
            self.sides = msgspec.json.decode(self._path.read_bytes(), type=list[Side])

    def find(self, name: str, seed: int, rate: float | None = None) -> Side | None:
        """One that was trained before, of ours or of the peer; None: there is none."""
        tokens = self._tokens if rate is None else PEER_TIMES * self._tokens
        for side in self.sides:
            if (side.name, side.seed, side.tokens) == (name, seed, tokens) and rate in (None, side.rate):
                return side
        return None

    def keep(self, side: Side) -> Side:
        """Add one."""
        self.sides.append(side)
        self._path.write_bytes(msgspec.json.encode(self.sides))
        return side


def tell(side: Side) -> None:
    """Say how it went."""
    say(
        f"{side.name}, seed {side.seed}, rate {side.rate:g}: {side.bits_per_byte:.4f} bits a byte after "
        f"{side.tokens:,} tokens and {side.train_s:.0f} s"
    )


def main(arguments: list[str]) -> int:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_200_128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 1.4e-3, 2e-3])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--set", action="append", default=[], help="a setting of ours, as of `llm-tui run`")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--folder", type=Path, help="an empty one that keeps our runs")
    asked = parser.parse_args(arguments)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        sides, pairs = compete(asked, asked.folder or Path(scratch))
    draw(pairs, asked.pictures)
    lines, is_met = verdict(pairs)
    packages = ", ".join(f"{name} {version}" for name, version in versions(asked.python).items())
    print(f"{machine()}; {packages}; {time.monotonic() - began_s:,.0f} s.\n")
    print("\n".join([*lines, "", *table(sides), ""]))
    print(f"Half the tokens and half the time: {'met' if is_met else 'missed'}.")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
