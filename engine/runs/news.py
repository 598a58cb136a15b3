"""News of a run, sent to the person while nobody is attached: what of its events is told, how often, and by whom.

The supervisor only picks what is worth telling. Each message is sent by a process of its own, detached and short, so
that a receiver that is dead, slow or wrong costs the run nothing, and the last message outlives its supervisor. The
address is read anew for each message and handed over by a pipe: it is in no run folder, no argument and no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine import notify
from engine.errors import EngineError, StoreError
from engine.process import module_argv
from engine.records import EventRow, Status, StepRow
from engine.runs.events import event
from engine.runs.folder import RunFolder
from engine.runs.store import RunStore
from engine.runs.view import read_status
from engine.sqlite import BusyError

HEADLINES = {
    "trainer-started": "training started",
    "run-finished": "finished",
    "run-stopped": "stopped",
    "run-failed": "FAILED",
    "supervisor-died": "FAILED: its supervisor ended",
    "restart": "the trainer crashed and starts again",
    "frozen": "the trainer was frozen and starts again",
    "stalled": "no progress",
    "corpus-died": "preparing the corpus crashed",
    "rolled-back": "the loss blew up; gone back to a checkpoint",
    "too-hot": "too hot, paused",
    "too-hot-blind": "paused, the temperature is unknown",
    "cooled-down": "cool again",
    "limit-near": "near a limit",
    "limit": "a limit is reached",
    "checkpoint-failed": "a checkpoint could not be saved",
    "checkpoint-damaged": "a checkpoint is damaged",
}
"""The kinds of events that are news; in a message of several, the first of them here is the headline of the last."""
ENDS = frozenset(("run-finished", "run-stopped", "run-failed", "supervisor-died"))
"""Told whatever was told before."""
BEAT_S = 2.0
AGAIN_S = 600.0
"""News of one kind are told at most this often; what was held back is counted in the next message."""
MOST_AN_HOUR = 20
"""Messages in all, those of the end not counted."""
MOST_CHARACTERS = 3500
"""Of a message's text; Telegram takes 4096."""
STALL_S = 900.0
"""A trainer that lives but has done no step for this long makes no progress."""
DELAYS_S = (0.0, 5.0, 20.0)
"""When a message is tried, counted from the try before."""
LONGEST_S = 90
"""What sending may take in all; the process ends then, whatever it waits for."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a sending process is handed by its stdin."""

    url: str
    title: str
    text: str


class News:
    """Picks from a run's events what is told, and has it sent; for one supervisor's life."""

    def __init__(self, folder: RunFolder, store: RunStore, *, has_begun: bool = False) -> None:
        self._folder = folder
        self._seen = store.num_rows(EventRow)
        self._has_begun = has_begun
        """Whether the preflight let the run begin: before, whoever started it is there to be told."""
        self._pending: list[EventRow] = []
        self._told_s: dict[str, float] = {}
        self._held_back = 0
        self._sent_s: list[float] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._step = -1
        self._step_s = time.monotonic()
        self._usual_s = 0.0
        """What the step before took; a large model on a slow machine takes its time."""
        self._is_stalled = False
        """Told once, until there is a step again."""

    async def run(self, store: RunStore) -> None:
        """Tell news until cancelled; a store that is locked now is read at the next beat."""
        while True:
            with contextlib.suppress(BusyError, StoreError):
                self._watch_progress(store)
                self._pick(store)
            self._children = [child for child in self._children if child.poll() is None]
            if self._pending and not self._children:
                self._send()
            await asyncio.sleep(BEAT_S)

    def last_words(self, store: RunStore) -> None:
        """Tell the end, at once and without waiting for anybody."""
        with contextlib.suppress(BusyError, StoreError):
            self._pick(store)
        if self._pending:
            self._send()

    def _pick(self, store: RunStore) -> None:
        now_s = time.monotonic()
        for number, row in store.events(self._seen):
            self._seen = number
            self._has_begun = self._has_begun or row.kind == "preflight-clear"
            if row.kind not in HEADLINES or not self._has_begun:
                continue
            if row.kind in ENDS or self._may_tell(row.kind, now_s):
                self._pending.append(row)
            else:
                self._held_back += 1

    def _may_tell(self, kind: str, now_s: float) -> bool:
        is_again = now_s - self._told_s.get(kind, float("-inf")) < AGAIN_S
        self._sent_s = [sent_s for sent_s in self._sent_s if now_s - sent_s < 3600]
        is_repeated_start = kind == "trainer-started" and kind in self._told_s
        if is_again or is_repeated_start or len(self._sent_s) >= MOST_AN_HOUR:
            return False
        self._told_s[kind] = now_s
        return True

    def _watch_progress(self, store: RunStore) -> None:
        """Write an event once a run that should be training has done no step for long.

        A trainer's sign of life comes from a thread of its own, which a hanging driver leaves alone.
        """
        newest, state = store.newest(StepRow, "step"), store.state()
        beat = store.heartbeat("supervisor")
        is_training = (
            state is not None and state.state == "running" and beat is not None and beat.phase == "training"
        )
        step = newest.step if newest else 0
        now_s = time.monotonic()
        if step != self._step or not is_training:
            if is_training and not self._is_stalled:
                self._usual_s = now_s - self._step_s
            self._step, self._step_s, self._is_stalled = step, now_s, False
        elif not self._is_stalled and now_s - self._step_s > max(STALL_S, 3 * self._usual_s):
            self._is_stalled = True
            minutes = (now_s - self._step_s) / 60
            text = f"The trainer lives, but has done no step for {minutes:.0f} min; it is at step {step:,}."
            store.put(event("warning", "stalled", text, step=step))

    def _send(self) -> None:
        """Hand what is pending to a process that sends it; with no address, or none that can be read, drop it."""
        told, self._pending = self._pending, []
        with contextlib.suppress(EngineError, OSError):
            url = notify.address(self._folder.workspace)
            if not url:
                return
            message = message_of(self._folder.id, told, self._held_back, self._status(), url)
            self._held_back = 0
            self._sent_s.append(time.monotonic())
            self._children.append(_start(self._folder, message))

    def _status(self) -> Status | None:
        try:
            return read_status(self._folder)
        except (EngineError, BusyError):
            return None


def message_of(
    run_id: str, told: Sequence[EventRow], held_back: int, status: Status | None, url: str
) -> Message:
    """One message of one event or several: the gravest is the title, each is a line, and how the run stands."""
    order = list(HEADLINES)
    gravest = max(told, key=lambda row: (row.kind in ENDS, row.level == "error", row.level == "warning"))
    lines = [row.text for row in sorted(told, key=lambda row: (row.at, order.index(row.kind)))]
    if held_back:
        lines.append(f"({held_back} more of the kinds told before; the app's log has them.)")
    if status is not None:
        lines.append(standing(status))
    return Message(
        url=url, title=f"llm-tui {run_id}: {HEADLINES[gravest.kind]}", text="\n".join(lines)[:MOST_CHARACTERS]
    )


def standing(status: Status) -> str:
    """How a run stands, on one line; what is unknown is left out."""
    parts = [f"step {status.step or 0:,} of {status.steps:,}"]
    if status.val_loss is not None:
        parts.append(f"validation loss {status.val_loss:.3f}")
    elif status.loss is not None:
        parts.append(f"loss {status.loss:.3f}")
    if status.eta_s is not None and not status.state.is_over:
        parts.append(f"{status.eta_s / 3600:.1f} h to go")
    if status.machine_energy_j is not None:
        parts.append(
            f"{status.machine_energy_j / 3.6e6:.2f} kWh ({status.energy_source or 'source unknown'})"
        )
    if status.cost is not None:
        parts.append(f"{status.cost:.2f} {status.currency}")
    return ", ".join(parts) + "."


def _start(folder: RunFolder, message: Message) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        module_argv("engine.runs.news", str(folder.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # a library that tells the address tells it to nobody
        start_new_session=True,
        cwd=folder.workspace,
    )
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(
            msgspec.json.encode(message)
        )  # far less than a pipe holds, so this waits for nobody
        child.stdin.close()
    return child


def main(folder: RunFolder) -> int:
    """Send the message on stdin; where it does not get through, say so among the run's events."""
    signal.alarm(LONGEST_S)
    message = msgspec.json.decode(sys.stdin.buffer.read(), type=Message)
    failure: notify.NotifyError | notify.UnsupportedError | None = None
    for delay_s in DELAYS_S:
        time.sleep(delay_s)
        try:
            notify.send(message.url, message.title, message.text, timeout_s=10.0)
            return 0
        except (notify.RefusedError, notify.UnsupportedError) as error:
            failure = error
            break
        except notify.NotifyError as error:
            failure = error
    with contextlib.suppress(EngineError), contextlib.closing(folder.open(read_only=False)) as store:
        store.put(event("warning", "news-not-sent", f"News could not be sent: {failure}"))
    return 1


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(RunFolder(Path(sys.argv[1]))))
