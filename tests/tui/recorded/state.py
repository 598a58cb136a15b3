"""The states that the screens have to tell apart, and the batch ramp of a run that is being prepared."""

from __future__ import annotations

from msgspec.structs import replace

from engine.ramp import PHASE, phase_text, result_text
from engine.records import ProgressRow, RampRow, RunSnapshot, RunState
from tests.tui.recorded import events as told
from tests.tui.recorded.curves import unknown
from tests.tui.recorded.facts import GPU, NOW
from tests.tui.recorded.run import snapshot

WHO = "ana@laptop (the app)"
MIB = 2**20
RAMP = tuple(
    RampRow(
        number=number,
        ramp=1,
        at=NOW - 96 + 16 * number,
        micro_batch=micro_batch,
        num_recomputed_blocks=num_recomputed_blocks,
        state=state,
        memory_bytes=memory_bytes,
        budget_bytes=3_420 * MIB,
        tokens_per_s=tokens_per_s,
        note=note,
    )
    for number, (micro_batch, num_recomputed_blocks, state, tokens_per_s, memory_bytes, note) in enumerate(
        (
            (1, 0, "proven", 2_710.0, 3_004 * MIB, ""),
            (2, 1, "proven", 2_990.0, 3_187 * MIB, ""),
            (4, 7, "proven", 3_080.0, 3_201 * MIB, ""),
            (8, 11, "proven", 3_150.0, 3_229 * MIB, ""),
            (16, 12, "slower", 2_960.0, 3_402 * MIB, ""),
            (32, 12, "trying", None, None, ""),
        ),
        start=1,
    )
)


def in_state(name: str) -> RunSnapshot:
    """A run in the state of that name."""
    return _MADE.get(name, snapshot)()


def _preparing() -> RunSnapshot:
    progress = ProgressRow(
        kind="tokens", at=NOW, done_bytes=5_200_000, total_bytes=12_900_000, bytes_per_s=4.1e6
    )
    return snapshot(RunState.PREPARING, frac=None, phase="tokenizing", progress=progress)


def _ramp() -> RunSnapshot:
    shot = snapshot(
        RunState.PREPARING, device=GPU, frac=None, idle_s=104.0, phase=phase_text(PHASE, RAMP), ramp=RAMP
    )
    tried = (
        told.event(row.at + 15.0, "ramp", "ramp-size", result_text(row))
        for row in RAMP
        if row.state != "trying"
    )
    return replace(shot, events=(*shot.events, told.corpus_ready(NOW - 101.0, is_gpu=True), *tried))


def _paused() -> RunSnapshot:
    return _because(snapshot(RunState.PAUSED), f"Paused by {WHO}.")


def _abandoned() -> RunSnapshot:
    shot = snapshot(RunState.FAILED, is_stale=True, ended_ago_s=4_210.0, silent_s=4_210.0)
    at = shot.checkpoint.step if shot.checkpoint else 0
    reason = (
        f"Its supervisor is gone without a word; `llm-tui resume {shot.status.id}` goes on from step {at}."
    )
    return _because(shot, reason)


def _failed(end: str = told.BROKEN) -> RunSnapshot:
    """A run whose trainer died again and again, last in the way of `end`."""
    shot = snapshot(RunState.FAILED, ended_ago_s=104_000.0, idle_s=126.0, above=0.21, end="03c9")
    reason = told.DIED.replace(told.BROKEN, end)
    step, plan = shot.checkpoint.step if shot.checkpoint else 0, shot.plan
    span = shot.span
    ended_at = NOW if span is None or span.until_at is None else span.until_at
    last = told.giving_up(ended_at, step, plan.tokens_per_step, plan.tokens_total, end)
    before = [event for event in shot.events if event.at < last[0].at]
    shot = _because(replace(shot, events=(*before, *last)), reason)
    return replace(shot, status=replace(shot.status, restarts=5))


def _stopped() -> RunSnapshot:
    reason = f"Stopped by {WHO}."
    shot = snapshot(RunState.STOPPED, frac=0.71, idle_s=1.5, ended_ago_s=203_000.0, above=0.08, end="77ff")
    span = shot.span
    ended_at = NOW if span is None or span.until_at is None else span.until_at
    last = told.stopping(ended_at, shot.status.step or 0, reason)
    found = tuple(sorted((*shot.events, *last), key=lambda event: event.at))
    return _because(replace(shot, events=found), reason)


def _because(shot: RunSnapshot, reason: str) -> RunSnapshot:
    return replace(shot, status=replace(shot.status, reason=reason))


def with_long_reason() -> RunSnapshot:
    """A run that failed with a great many words."""
    return _failed(
        "exit code 1 (RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 4194304000 bytes. Error code 12 (Cannot allocate memory))"
    )


def without_power(shot: RunSnapshot) -> RunSnapshot:
    """The same run on a machine whose power nothing tells: its energy and cost are unknown."""
    status = replace(shot.status, machine_energy_j=None, energy_source=None, cost=None)
    cost = replace(
        shot.cost,
        machine_energy_j=None,
        machine_source=None,
        cost=None,
        projected_cost=None,
        projected_kwh=None,
        gap_s=status.elapsed_s or 0.0,
    )
    read = {**shot.sensors, "machine_watts": unknown("machine_watts")}
    sensor = shot.sensor and replace(shot.sensor, machine_watts=None, machine_watts_source=None)
    return replace(shot, status=status, cost=cost, sensors=read, sensor=sensor)


_MADE = {
    "gpu": lambda: snapshot(device=GPU),
    "preparing": _preparing,
    "ramp": _ramp,
    "paused": _paused,
    "stale": lambda: snapshot(is_stale=True, silent_s=42.0),
    "abandoned": _abandoned,
    "failed": _failed,
    "stopped": _stopped,
    "finished": lambda: snapshot(RunState.FINISHED, frac=1.0, ended_ago_s=18_300.0, above=0.15, end="5e1d"),
}
