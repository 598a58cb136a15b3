"""What a run has to tell: its samples, its log, and what it did in a night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from engine.records import EventRow, LogMarkRow, RunSnapshot, RunState
from engine.runs.folder import RunFolder
from engine.story import FINISHED, Digest, Incident, SampleAt, SampleBook
from tests.tui.recorded.curves import HOTTEST_CELSIUS, loss_at
from tests.tui.recorded.facts import GPU, NOW
from tests.tui.recorded.run import SAMPLE_TEXT, THROTTLED_S, sample_steps, snapshot

EVENTS = snapshot().events
"""Of a run on a CPU that is going."""
_TEXTS = (
    "\x1b[2J\u202e= ,, ( the\n the ) ) _ _",
    "self.self.self(\n    return return",
    SAMPLE_TEXT,
    SAMPLE_TEXT,
)
_AWAY_S, _AWAY_STEPS = 28_800.0, 343
TRACEBACK = """\
Traceback (most recent call last):
  File "/home/ana/.venv/lib/python3.11/site-packages/engine/train/loop.py", line 268, in train
    batch = self.order.batch(self.position, self.stepper.micro_batch)
  File "/home/ana/.venv/lib/python3.11/site-packages/engine/train/data.py", line 91, in batch
    return torch.stack([self.window(at) for at in range(position.window, position.window + micro_batch)])
  File "/home/ana/.venv/lib/python3.11/site-packages/engine/corpus/shard.py", line 64, in read
    return numpy.fromfile(file, dtype=numpy.uint16, count=count, offset=offset)
OSError: [Errno 5] Input/output error: '/home/ana/gpt/cache/shards/train-00000.bin'
"""
"""What a trainer prints whose disk is broken."""
LONG_LINE = "W1124 torch/_dynamo: recompiling " + ", ".join(f"guard {n} of block.{n % 4}" for n in range(60))


def book_of(shot: RunSnapshot) -> SampleBook:
    """What the model of a run has said as it learnt, from noise to words."""
    every, end, last_at = sample_steps(shot.plan), shot.status.step or 0, shot.train_losses[-1].at or NOW
    took_s = shot.plan.tokens_per_step / (shot.status.tokens_per_second or 1.0)
    found = []
    for quarter, text in enumerate(_TEXTS, start=1):
        step = every * (end // every * quarter // 4)
        before = [point.loss for point in shot.val_losses if (point.step or 0) <= step]
        found.append(
            SampleAt(
                step=step,
                at=last_at - (end - step) * took_s,
                tokens=step * shot.plan.tokens_per_step,
                loss=next(point.loss for point in shot.train_losses if (point.step or 0) >= step),
                val_loss=before[-1] if before else None,
                prompt="def ",
                text=text,
            )
        )
    saved = [event.text.split()[1].rstrip(":") for event in shot.events if event.kind == "checkpoint"]
    model = (FINISHED,) if shot.status.state is RunState.FINISHED else ()
    return SampleBook(run_id=shot.status.id, samples=tuple(found), sources=(*model, *reversed(saved)))


def recorded_log(path: Path, shot: RunSnapshot | None = None, output: str = "") -> RunFolder:
    """The folder of a run with what was told of it, and with what its processes printed: a line a step."""
    folder = RunFolder(path)
    if folder.store_path.exists():
        return folder
    path.mkdir(parents=True)
    shot = shot or snapshot()
    events: Sequence[EventRow] = shot.events
    store = folder.open(read_only=False)
    store.put(*events)
    with folder.log_path.open("w", encoding="utf-8") as log:
        for point in shot.train_losses:
            log.write(f"step {point.step}: a line that the trainer has printed\n")
            if point.step and point.step % 3 == 0:
                store.put(LogMarkRow(offset=log.tell(), at=point.at or NOW))
        log.write(output)
        end_at = shot.span.until_at if shot.span and shot.span.until_at else NOW
        store.put(LogMarkRow(offset=log.tell(), at=end_at))
    store.close()
    return folder


def digest(**changes: Any) -> Digest:
    """What the run on the GPU did in a night."""
    shot = snapshot(device=GPU)
    status, plan = shot.status, shot.plan
    tokens = _AWAY_STEPS * plan.tokens_per_step
    tokens_now = status.tokens or 0
    then = (tokens_now - tokens) / plan.tokens_total
    used_j = (shot.sensors["machine_watts"].mean or 0.0) * _AWAY_S
    restarts = [event for event in shot.events if event.kind == "restart" and event.at > NOW - _AWAY_S]
    eta_at = NOW + (status.eta_s or 0.0)
    base = Digest(
        run_id=status.id,
        at=NOW,
        since=NOW - _AWAY_S,
        away_s=_AWAY_S,
        state_then=RunState.RUNNING,
        state=RunState.RUNNING,
        reason="",
        tokens=tokens,
        tokens_total=plan.tokens_total,
        tokens_now=tokens_now,
        loss_then=loss_at(then, plan.preset),
        loss=status.loss,
        val_loss_then=loss_at(then, plan.preset) + 0.09,
        val_loss=status.val_loss,
        machine_energy_j=used_j,
        cost=used_j / 3.6e6 * shot.cost.price_per_kwh,
        currency="USD",
        gpu_celsius_max=HOTTEST_CELSIUS,
        cpu_celsius_max=shot.sensors["cpu_celsius"].high,
        throttled_s=THROTTLED_S,
        cooling_s=0.0,
        restarts=status.restarts,
        incidents=tuple(
            Incident(kind=event.kind, level=event.level, num=1, text=event.text) for event in restarts
        ),
        eta_then=eta_at - 420.0,
        eta=eta_at,
    )
    return replace(base, **changes)
