"""What the engine tells of a run as it goes, in the engine's own words."""

from __future__ import annotations

from engine.records import CheckpointRow, EventRow
from tests.tui.recorded.facts import NOW

CHECKPOINT_BYTES = {"tiny": 36_209_664, "134m": 1_269_550_080}
"""As `engine.estimate.checkpoint_bytes` reckons."""
WRITE_S = {"tiny": 0.4, "134m": 9.1}
BROKEN = "exit code 1 (OSError: [Errno 5] Input/output error: '/home/ana/gpt/cache/shards/train-00000.bin')"
"""How a trainer ends whose disk does."""
DIED = f"The trainer ended with {BROKEN}, 6 times in a row without a new checkpoint."


def event(at: float, source: str, kind: str, text: str, level: str = "info") -> EventRow:
    """Something that was told then."""
    return EventRow(at=at, level=level, source=source, kind=kind, text=text)


def checkpoint(step: int, at: float, preset: str, tokens_per_step: int) -> CheckpointRow:
    """A checkpoint that was written then."""
    return CheckpointRow(
        step=step,
        at=at,
        tokens=step * tokens_per_step,
        folder=f"step-{step}",
        total_bytes=CHECKPOINT_BYTES[preset],
        write_s=WRITE_S[preset],
    )


def saved(row: CheckpointRow) -> EventRow:
    """What is told of a checkpoint."""
    text = f"Saved {row.folder}: {row.total_bytes / 2**20:,.1f} MiB, verified, in {row.write_s:.1f} s."
    return event(row.at, "trainer", "checkpoint", text)


def preflight(began_at: float) -> tuple[EventRow, ...]:
    """The first words of every run."""
    awake = "Nothing keeps the machine from falling asleep when it is idle or its lid is shut."
    refused = "Failed to inhibit: Interactive authentication required."
    return (
        event(
            began_at + 0.8,
            "supervisor",
            "sleep-not-inhibited",
            f"Nothing keeps the machine from falling asleep: {refused}",
        ),
        event(began_at + 5.1, "supervisor", "preflight-warning", f"Sleep and lid: {awake} {refused}"),
        event(
            began_at + 5.2,
            "supervisor",
            "preflight-clear",
            "The preflight is clear: 12 of 15 checks passed.",
        ),
    )


def corpus_ready(at: float, is_gpu: bool) -> EventRow:
    """What the corpus came to."""
    text = (
        "The corpus has 310,000,000 tokens to train on and 3,131,000 to validate with, from 1,240.0 MB of text in "
        "412,871 documents."
        if is_gpu
        else "The corpus has 3,861,000 tokens to train on and 39,000 to validate with, from 12.9 MB of text in 1,672 "
        "documents."
    )
    return event(at, "corpus", "corpus-ready", text)


def beginning(began_at: float, is_gpu: bool) -> tuple[EventRow, ...]:
    """All that is told until the first step."""
    at_work, peak, compiled = (
        (
            "Training on AMD Ryzen 5 5600H with torch 2.13.0: bf16, 6 threads.",
            "The fastest matrix product here runs at 0.412 TFLOP/s in bf16.",
            "The model is not compiled: the run takes 5 min at the 6,204 tokens/s that a rehearsal measured, and it "
            "pays from about 30 min on.",
        )
        if not is_gpu
        else (
            "Training on NVIDIA GeForce RTX 2050 with torch 2.13.0+cu130: bf16, 6 threads.",
            "The fastest matrix product here runs at 5.22 TFLOP/s in bf16.",
            "Compiled the model in 74 s: the run takes 5,291 min at the 3,150 tokens/s that the batch ramp measured.",
        )
    )
    return (
        *preflight(began_at),
        corpus_ready(began_at + 7.0, is_gpu),
        event(began_at + 9.0, "trainer", "trainer-started", at_work),
        event(began_at + 9.4, "trainer", "peak", peak),
        event(began_at + 9.5, "trainer", "compiled" if is_gpu else "not-compiled", compiled),
    )


def sensor_fault(at: float) -> EventRow:
    """A sensor that cannot be believed."""
    text = "The GPU GPU-0d1e has an energy counter that stands still under load."
    return event(at, "supervisor", "sensor-fault", text, "warning")


def killed(at: float) -> EventRow:
    """A trainer that the kernel has killed, and that was started again."""
    text = (
        "The trainer ended with signal SIGKILL: the kernel killed it, because the machine or its control group ran out "
        "of memory; starting it again from its newest good checkpoint in 1 s."
    )
    return event(at, "supervisor", "restart", text, "warning")


def resumed(at: float, step: int, tokens_per_step: int, tokens_total: int) -> EventRow:
    """Where it goes on from."""
    text = f"Resumed from step-{step}, {step * tokens_per_step:,} of {tokens_total:,} tokens."
    return event(at, "trainer", "resumed", text)


def giving_up(
    ended_at: float, step: int, tokens_per_step: int, tokens_total: int, how: str = BROKEN
) -> tuple[EventRow, ...]:
    """Five restarts in a row, and the end."""
    found = [
        event(
            ended_at - 118.0,
            "trainer",
            "checkpoint-failed",
            f"The checkpoint of step {step + 50} could not be written: Input/output error. Make room on the disk of "
            "/home/ana/gpt/runs, or make it writable. Training goes on without it.",
            "error",
        )
    ]
    at = ended_at - 112.0
    for number in range(5):
        text = f"The trainer ended with {how}; starting it again from its newest good checkpoint in {2**number} s."
        found.append(event(at, "supervisor", "restart", text, "warning"))
        at += 2**number + 4.0
        found.append(resumed(at, step, tokens_per_step, tokens_total))
        at += 11.0
    return (*found, event(ended_at, "supervisor", "run-failed", DIED.replace(BROKEN, how)))


def stopping(ended_at: float, step: int, reason: str) -> tuple[EventRow, ...]:
    """What is told of a stop."""
    return (
        event(ended_at - 1.0, "trainer", "trainer-left", f"{reason} Saved step-{step}."),
        event(ended_at, "supervisor", "run-stopped", reason),
    )


def finishing(ended_at: float, tokens: int, steps: int, run_id: str) -> tuple[EventRow, ...]:
    """What is told at the end."""
    text = (
        f"Finished: {tokens:,} tokens in {steps:,} steps; the model is in /home/ana/gpt/runs/{run_id}/model."
    )
    return (
        event(ended_at - 0.7, "trainer", "model-written", text),
        event(ended_at, "supervisor", "run-finished", "The run is finished."),
    )


ARCHIVED = event(NOW, "supervisor", "archived", "Archived: 2 checkpoints deleted, 72419328 bytes.")
