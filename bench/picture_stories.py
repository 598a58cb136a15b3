"""What is on each picture of the screens: the facts that the app is given, and the keys that lead there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from bench.pictures import WAIT, Story
from engine.records import DamagedRun, RunSnapshot, RunState
from tests.tui.recorded import (
    GPU,
    LONG_LINE,
    TRACEBACK,
    RecordedBridge,
    booked,
    checks,
    closings,
    digest,
    estimated,
    in_state,
    program,
    snapshot,
    unticked,
    with_long_reason,
    without_power,
)

RUN_STATES = (
    "running",
    "gpu",
    "preparing",
    "ramp",
    "paused",
    "stale",
    "abandoned",
    "failed",
    "stopped",
    "finished",
)
DAY_S = 86_400.0


def on(*shots: RunSnapshot, **facts: Any) -> Callable[[], RecordedBridge]:
    """A bridge to these runs, with further facts as its attributes."""

    def made() -> RecordedBridge:
        bridge = RecordedBridge(*shots)
        for name, value in facts.items():
            setattr(bridge, name, value)
        return bridge

    return made


def stopped_on_gpu(frac: float, ended_ago_s: float, end: str) -> RunSnapshot:
    """A run on the GPU that was stopped on the way."""
    shot = snapshot(RunState.STOPPED, device=GPU, frac=frac, ended_ago_s=ended_ago_s, end=end)
    reason = "Stopped by ana@laptop (the app)."
    return replace(shot, status=replace(shot.status, reason=reason))


def shelf(is_going: bool = True) -> RecordedBridge:
    """A workspace of some weeks: its runs, and the ledger of those that are over."""
    over = [
        *map(in_state, ("finished", "failed", "stopped")),
        stopped_on_gpu(0.21, 3.4 * DAY_S, "9c40"),
        without_power(stopped_on_gpu(0.08, 5.1 * DAY_S, "e2f1")),
    ]
    going = [in_state("running")] if is_going else []
    waived = {"stopped": '{"power": "the socket is on a UPS"}'}
    entries = [
        booked(shot, waivers=waived.get(str(shot.status.state), "{}") if shot.plan.preset == "tiny" else "{}")
        for shot in over
    ]
    return RecordedBridge(*going, *over, entries=tuple(entries))


def tagged() -> RecordedBridge:
    """Runs with tags, one of them archived, and one that cannot be read."""
    bridge = shelf()
    ids = [run.id for run in bridge.runs()]
    bridge.tags = {ids[1]: ("best", "night"), ids[3]: ("muon",), ids[4]: ("first-134m", "keep")}
    bridge.archived = {ids[3]: time.time() - DAY_S}
    return bridge


def damaged() -> RecordedBridge:
    """Runs, and one of which nothing can be read."""
    bridge = shelf()
    bridge.damaged = (
        DamagedRun(
            id="1121-034410-tiny-d00d",
            damage="run.db cannot be read: database disk image is malformed.",
            remedy="Resume it: what can be read is taken over into a new run.db.",
        ),
    )
    return bridge


def many() -> RecordedBridge:
    """More runs than a screen has rows."""
    states = (RunState.FINISHED, RunState.FINISHED, RunState.STOPPED)
    shots = [
        snapshot(
            states[n % 3],
            frac=1.0 if n % 3 < 2 else 0.2 + 0.015 * n,
            ended_ago_s=9_000.0 + 13_700.0 * n,
            above=0.013 * (n * 7 % 23),
            end=f"{40_503 * (n + 1) % 65_536:04x}",
        )
        for n in range(48)
    ]
    return RecordedBridge(in_state("running"), *shots, entries=tuple(map(booked, shots)))


def traced() -> RecordedBridge:
    """A log that ends with a traceback, after a line that is wider than any screen."""
    shot = in_state("failed")
    bridge = RecordedBridge(shot)
    bridge.outputs[shot.status.id] = f"{LONG_LINE}\n" + TRACEBACK * 2
    return bridge


def stories() -> dict[str, Story]:
    """Name to the bridge and the keys that lead to the picture."""
    running, gpu = in_state("running"), in_state("gpu")
    found: dict[str, Story] = {f"run-{state}": (on(in_state(state)), ("2",)) for state in RUN_STATES}
    return (
        found
        | _run_stories(running, gpu)
        | _list_stories()
        | _word_stories(running)
        | preflight_stories()
        | {
            "welcome": (lambda: RecordedBridge(has_settings=False), ()),
            "plan": (on(), ("5",)),
            "plan-running": (on(running), ("5",)),
            "plan-move": (on(gpu, plan=estimated(move=True)), ("5",)),
            "plan-cpu": (on(plan=estimated(running.plan.device)), ("5",)),
            "settings": (on(running), ("6",)),
            "settings-changed": (
                on(),
                (
                    "6",
                    "space",
                    "space",
                    *"/tokens",
                    "enter",
                    "j",
                    "j",
                    *("enter", "ctrl+u"),
                    *"5000000",
                    "enter",
                ),
            ),
            "settings-refused": (on(), ("6", "j", "enter", *"12x")),
            "settings-help": (on(), ("6", "question_mark")),
        }
    )


def _run_stories(running: RunSnapshot, gpu: RunSnapshot) -> dict[str, Story]:
    return {
        "run-failed-long": (on(with_long_reason()), ("2",)),
        "run-no-cost": (on(without_power(gpu)), ("2",)),
        "run-empty": (on(), ("2",)),
        "run-help": (on(running), ("2", "question_mark")),
        "run-stop": (on(running), ("2", "x")),
        "run-zoom": (on(running), ("2", "z")),
        "run-cursor": (on(gpu), ("2", *["left"] * 9)),
        "run-smooth": (on(gpu), ("2", "y", "m", "plus", "z")),
        "run-hour": (on(gpu), ("2", *["plus"] * 3, "comma")),
        "run-sensors": (on(gpu), ("2", "tab", "tab", "z")),
        "run-away": (on(gpu, digest=digest()), ()),
    }


def _list_stories() -> dict[str, Story]:
    idle: Callable[[], Any] = lambda: shelf(is_going=False)  # noqa: E731 - as short as the others
    return {
        "ledger": (shelf, ("3",)),
        "ledger-idle": (idle, ("3",)),
        "ledger-unknown": (shelf, ("3", *["j"] * 4)),
        "ledger-sorted": (shelf, ("3", *["s"] * 9)),
        "ledger-many": (many, ("3", *["j"] * 30)),
        "ledger-empty": (on(), ("3",)),
        "runs": (shelf, ("4",)),
        "runs-idle": (idle, ("4",)),
        "runs-tagged": (tagged, ("4", "j")),
        "runs-archived": (tagged, ("4", "j", "j", "j")),
        "runs-damaged": (damaged, ("4", *["j"] * 6)),
        "runs-many": (many, ("4", *["j"] * 30)),
        "runs-sorted": (shelf, ("4", *["s"] * 4)),
        "runs-marked": (shelf, ("4", "space", "space", "space")),
        "runs-filter": (shelf, ("4", "slash", *"tiny -failed")),
        "runs-tags": (tagged, ("4", "j", "t")),
        "runs-archive": (shelf, ("4", "j", "a")),
        "runs-delete": (shelf, ("4", "j", "D")),
        "runs-overlay": (shelf, ("4", "space", "space", "space", "o", *["left"] * 5)),
        "runs-help": (shelf, ("4", "question_mark")),
    }


def _word_stories(running: RunSnapshot) -> dict[str, Story]:
    failed = in_state("failed")
    return {
        "samples": (on(running), ("7",)),
        "samples-ask": (on(running), ("7", "p")),
        "samples-own": (on(running), ("7", "p", *"for x", "enter", WAIT)),
        "samples-empty": (on(), ("7",)),
        "log": (on(running), ("8",)),
        "log-search": (on(running), ("8", "slash", *"step 12", "enter")),
        "log-warnings": (on(failed), ("8", "l")),
        "log-traceback": (traced, ("8", "o", "o", "o", "o", "o")),
        "log-empty": (on(), ("8",)),
    }


def preflight_stories() -> dict[str, Story]:
    """The checks before a run in every state, and the dialogs that mend them."""
    clear = on(verdicts=checks(blocking=False))
    known = tuple(replace(check, at=time.time() - 11_000) for check in checks(blocking=False))
    opened = RecordedBridge().open
    blender, firefox, content = (opened.processes[index] for index in (0, 2, 4))
    told = closings((blender, "still-there"), (firefox, "closed"), (content, "gone"))
    back = program(5120, "firefox", age_s=1.0, gpu_bytes=None, is_unwanted=False)
    killed = on(closing_reports=[replace(told, came_back=(back,))])
    alone = checks(blocking=False)
    nobody = "No other program holds GPU memory, and none of preflight.close_apps is running."
    alone[3] = replace(alone[3], evidence=nobody, figures=())
    untold = replace(
        opened,
        processes=tuple(replace(process, gpu_bytes=None) for process in opened.processes),
        note="The driver does not tell how much GPU memory each program holds, as under WSL2: the order is by RAM.",
    )
    return {
        "preflight-locked": (on(), ("1",)),
        "preflight-clear": (clear, ("1",)),
        "preflight-checking": (on(slow={"device": 9.0}, known=known), ("1", WAIT)),
        "preflight-figures": (clear, ("1", "j", "j", "j", "j")),
        "preflight-large": (on(), ("1", "enter")),
        "preflight-lock-told": (on(), ("1", "s")),
        "preflight-waive": (on(), ("1", "w", *"test")),
        "preflight-tick": (on(verdicts=unticked()), ("1", "space")),
        "preflight-help": (clear, ("1", "question_mark")),
        "preflight-running": (on(in_state("running")), ("1",)),
        "close-list": (on(), ("1", "x", "a")),
        "close-not-told": (on(open=untold), ("1", "x", "j")),
        "close-none": (
            on(verdicts=alone, open=replace(opened, processes=(), free_bytes=3_716 * 2**20)),
            ("1", "x"),
        ),
        "close-question": (on(), ("1", "x", "a", "enter")),
        "close-waiting": (on(close_s=2.0, closing_reports=[told]), ("1", "x", "a", "enter", "y", WAIT)),
        "close-kill": (killed, ("1", "x", "a", "enter", "y")),
        "close-told": (killed, ("1", "x", "a", "enter", "y", "n")),
    }
