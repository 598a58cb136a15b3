"""What the app costs at its terminal: time to the first screen, bytes, processor, and what a stalled line does.

Run: python -m bench.terminal [PART ...]; without one all of them: paint, history, swing, stall. Paint and history are
ratios and differences of interleaved pairs, in one run. Swing and stall train a real tiny model on this machine's
cores, so nothing else should run there. A picture of a shorter or noisier machine: --pairs, --seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bench.pty_app import PtyApp

BARE = """
from textual.app import App, ComposeResult
from textual.widgets import Static


class Bare(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("Ready")


Bare().run()
"""
"""The ten lines that the first screen is compared with."""
APP = "from tui.__main__ import main; main()"
SCREEN = rb"8 Log|Log\x1b"
"""The last word of the header of every screen."""
WEEK_S = 604_800
TOKENS = 400_000_000
"""More than a tiny run gets through while it is watched."""


def python(code: str) -> list[str]:
    """A fresh interpreter."""
    return [sys.executable, "-c", code]


def paint(folder: Path, pairs: int) -> None:
    """The first screen of the app beside the first paint of an app of ten lines."""
    ours, bare = [], []
    for _ in range(pairs):
        bare.append(seconds_until(python(BARE), rb"Ready", folder))
        ours.append(seconds_until(python(APP), SCREEN, folder))
    ratios = sorted(mine / other for mine, other in zip(ours, bare, strict=True))
    print(
        f"first screen: {1000 * statistics.median(ours):.0f} ms, bare app {1000 * statistics.median(bare):.0f} ms; "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {pairs} pairs)"
    )


def seconds_until(argv: list[str], marker: bytes, folder: Path) -> float:
    """Seconds from the start of a process until its terminal has got the marker."""
    began = time.perf_counter()
    with PtyApp(argv, folder) as app:
        app.read_until(lambda seen: re.search(marker, seen) is not None, 30.0)
        return time.perf_counter() - began


def history(folder: Path, pairs: int) -> None:
    """A run with a week of readings and steps beside the same run without them."""
    from engine.runs import folder as folders

    short = folder / "short"
    make_workspace(short)
    subprocess.run(
        [*llm_tui(short), "run", "--set=training.tokens=40000", "--set=preflight.rehearsal=false"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    week = folder / "week"
    shutil.copytree(short, week)
    write_week(folders.all_runs(week)[0])
    times: dict[Path, list[float]] = {short: [], week: []}
    for _ in range(pairs):
        for place, found in times.items():
            with folders.all_runs(place)[0].supervisor_lock.open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                found.append(seconds_until(python(APP), rb"FINISHED", place))
    more = sorted(b - a for a, b in zip(times[short], times[week], strict=True))
    print(
        f"opening a run: {1000 * statistics.median(times[short]):.0f} ms, with 7 days of history "
        f"{1000 * statistics.median(times[week]):.0f} ms; {1000 * statistics.median(more):+.0f} ms more "
        f"({1000 * more[0]:+.0f} to {1000 * more[-1]:+.0f}, {pairs} pairs)"
    )


def write_week(run: object) -> None:
    """A reading a second and a step every two, for seven days, into a copy of a real run."""
    from engine.records import SensorRow, StepRow
    from engine.runs.folder import RunFolder

    assert isinstance(run, RunFolder)
    store = run.open(read_only=False)
    began = time.time() - WEEK_S
    for start in range(0, WEEK_S, 10_000):
        store.put(
            *(
                SensorRow(at=began + s, elapsed_s=float(s), gpu_celsius=60 + s % 17, gpu_watts=35 + s % 5)
                for s in range(start, min(start + 10_000, WEEK_S))
            )
        )
        store.put(
            *(
                StepRow(
                    step=1000 + s // 2,
                    at=began + s,
                    tokens=40_000 * s // WEEK_S,
                    loss=2.0 + 3000 / (1000 + s),
                    learning_rate=0.004,
                    tokens_per_s=1000.0,
                    micro_batch=8,
                    grad_accum=1,
                    attempt=1,
                    rollbacks=0,
                )
                for s in range(start, min(start + 10_000, WEEK_S), 2)
            )
        )
    store.roll_up()
    store.close()


def swing(folder: Path, seconds: float) -> None:
    """Bytes, processor and keys of a viewer while a run trains."""
    with training(folder):
        for rows, columns in ((24, 80), (50, 200)):
            with PtyApp(python(APP), folder, rows, columns) as app:
                app.read_until(lambda seen: b"RUNNING" in seen, 60.0)
                app.read_for(5.0)
                before, bytes_before, began = app.cpu_s(), app.num_bytes, time.perf_counter()
                app.read_for(seconds)
                took = time.perf_counter() - began
                print(
                    f"{columns}x{rows}, in full swing: {(app.num_bytes - bytes_before) / took / 1000:.2f} KB/s, "
                    f"viewer {100 * (app.cpu_s() - before) / took:.1f} % of a core"
                )
                if columns == 80:
                    print(f"keys: {key_times(app)}")


def beside(folder: Path, pairs: int, seconds: float) -> None:
    """The training beside a viewer that is read, and beside the same viewer frozen, in turn."""
    with training(folder) as window, PtyApp(python(APP), folder) as app:
        app.read_until(lambda seen: b"RUNNING" in seen, 60.0)
        app.read_for(15.0)  # until every screen is warm
        viewed, alone = [], []
        for number in range(pairs):
            # The order changes from pair to pair, so that a drift of the machine's speed falls on both.
            for is_viewed in (number % 2 == 0, number % 2 == 1):
                if is_viewed:
                    app.read_for(1.5)  # it catches up
                    viewed.append(window(seconds, app))
                else:
                    with app.frozen():
                        alone.append(window(seconds))
        print(f"training: {told(alone, viewed, 'alone', 'viewed')}")


class Window(NamedTuple):
    """The training over a few seconds."""

    tokens_per_s: float
    waited_frac: float
    """Of these seconds, what the trainer's threads waited for a processor that another process had."""


def told(first: list[Window], second: list[Window], first_name: str, second_name: str) -> str:
    """Two series, pair by pair."""
    losses = [100 * (1 - b.tokens_per_s / a.tokens_per_s) for a, b in zip(first, second, strict=True)]
    error = statistics.stdev(losses) / len(losses) ** 0.5
    speeds = [statistics.median(window.tokens_per_s for window in windows) for windows in (first, second)]
    waits = [100 * statistics.mean(window.waited_frac for window in windows) for windows in (first, second)]
    return (
        f"{speeds[0]:.0f} tokens/s {first_name}, {speeds[1]:.0f} {second_name}; median "
        f"{statistics.median(losses):+.2f} % slower, mean {statistics.mean(losses):+.2f} (standard error {error:.2f}), "
        f"{min(losses):+.1f} to {max(losses):+.1f}, {len(losses)} pairs; its threads waited for a processor for "
        f"{waits[0]:.2f} % of the time {first_name}, {waits[1]:.2f} % {second_name}"
    )


def waited_s(pid: int) -> float:
    """Seconds that a process' threads were ready but another ran. Source: Linux, sched-stats.rst, schedstat."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            nanoseconds += int((task / "schedstat").read_text().split()[1])
    return nanoseconds / 1e9


def key_times(app: PtyApp) -> str:
    """How long the keys take to be answered, each by the first bytes after it."""
    found = []
    for key in (
        "3",
        "4",
        "5",
        "6",
        "j",
        "k",
        "7",
        "8",
        "j",
        "2",
        "\t",
        "\t",
        "z",
        "z",
        "?",
        "\x1b",
        "1",
        "2",
    ) * 2:
        app.read_for(1.2)
        app.read_quiet()
        if (answer_s := app.answer_s(key, 0.9)) is not None:
            found.append((answer_s, key))
    known = sorted(time_s for time_s, _ in found)
    slowest = max(found)
    return (
        f"{len(known)} answered, median {1000 * statistics.median(known):.0f} ms, "
        f"slowest {1000 * slowest[0]:.0f} ms ({slowest[1]!r})"
    )


def stall(folder: Path, pairs: int) -> None:
    """A terminal that is not read for a minute: the run, the viewer's memory, and how it comes back."""
    # Wide enough for the number of the step.
    with training(folder) as window, PtyApp(python(APP), folder, 34, 120) as app:
        app.read_until(lambda seen: b"RUNNING" in seen, 60.0)
        app.read_for(15.0)
        read, stalled, grown, late = [], [], [], []
        for _ in range(pairs):
            memory = app.resident_bytes()
            stalled.append(window(60.0))
            grown.append(app.resident_bytes() - memory)
            step = newest_step(folder)
            began = time.perf_counter()
            app.seen.clear()
            for key in "42":  # another screen and back: all is drawn anew
                app.answer_s(key, 2.0)
            app.read_until(lambda seen, step=step: shows_step(seen, step), 20.0)
            late.append(time.perf_counter() - began)
            read.append(window(60.0, app))
        print(
            f"stalled for a minute: training {told(read, stalled, 'read', 'stalled')}; viewer at most "
            f"{max(grown) / 2**20:+.1f} MiB; up to date {statistics.median(late):.1f} s after (at most {max(late):.1f})"
        )


def shows_step(seen: bytearray, least: int) -> bool:
    """Whether a step of at least this number was sent; a change sends the whole end of its row."""
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen)
    return any(int(number) >= least for number in re.findall(rb"step (\d+)/", text))


def newest_step(folder: Path) -> int:
    """The step that the run stands at."""
    from engine import Workspace

    workspace = Workspace(folder)
    return workspace.status(workspace.find(None)).step or 0


@contextmanager
def training(folder: Path) -> Iterator[Callable[..., Window]]:
    """A run that trains in a workspace of its own; yields what measures its speed."""
    from engine import Workspace
    from engine.records import StepRow

    make_workspace(folder)
    subprocess.run(
        [*llm_tui(folder), "run", "--detach", f"--set=training.tokens={TOKENS}"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    workspace = Workspace(folder)
    run_id = workspace.find(None)
    run = workspace.folder_of(run_id)

    def window(seconds: float, app: PtyApp | None = None) -> Window:
        """By the time that each step took, which is finer than counting steps, and without validations and saves."""
        pid = workspace.status(run_id).trainer_pid or 0
        began_at, began_s, waited = time.time(), time.perf_counter(), waited_s(pid)
        if app is None:
            time.sleep(seconds)
        else:
            app.read_for(seconds)
        waited_frac = (waited_s(pid) - waited) / (time.perf_counter() - began_s)
        with closing(run.open()) as store:
            found = store.rows(StepRow, "WHERE at >= ? AND at <= ?", (began_at, time.time()))
        return Window(statistics.harmonic_mean([row.tokens_per_s for row in found]), waited_frac)

    try:
        deadline = time.monotonic() + 240
        while not (workspace.status(run_id).step or 0) > 3 and time.monotonic() < deadline:
            time.sleep(0.5)
        yield window
    finally:
        workspace.command(run_id, "stop")


def make_workspace(folder: Path) -> None:
    """A documented settings.toml, and no rehearsal."""
    from engine.settings_file import write_template

    if not (folder / "settings.toml").exists():
        path = write_template(folder)
        text = path.read_text("utf-8").replace("rehearsal = true", "rehearsal = false")
        text = text.replace("require_ac_power = true", "require_ac_power = false")
        path.write_text(text, "utf-8")


def llm_tui(folder: Path) -> list[str]:
    """The command line in a workspace."""
    return [sys.executable, "-m", "tui", "--workspace", str(folder)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    wanted = options.parts or ["paint", "history", "swing", "beside", "stall"]
    print(f"load before: {os.getloadavg()[0]:.1f}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="llm-tui-bench-") as place:
        empty = Path(place) / "empty"
        make_workspace(empty)
        if "paint" in wanted:
            paint(empty, options.pairs)
        if "history" in wanted:
            history(Path(place), options.pairs)
        if "swing" in wanted:
            swing(Path(place) / "swing", options.seconds)
        if "beside" in wanted:
            beside(Path(place) / "beside", 8 * options.pairs, 6.0)
        if "stall" in wanted:
            stall(Path(place) / "stall", min(options.pairs, 5))
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
