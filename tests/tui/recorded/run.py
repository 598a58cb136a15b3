"""Runs in every state: all that the engine tells of one, worked out of its pace and of how far it is."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from msgspec.structs import replace

from engine.ledger.cost import cost_view
from engine.records import (
    CheckpointRow,
    Device,
    EnergyRow,
    EventRow,
    Limits,
    LossPoint,
    RunPlan,
    RunSnapshot,
    RunState,
    RunSummary,
    Series,
    ShownSpan,
    Status,
    TextSampleRow,
    ThermalRow,
    TimeSpan,
)
from engine.settings import EnergySettings
from tests.tui.recorded import events as told
from tests.tui.recorded.curves import GAP_BUCKETS, NUM_BUCKETS, loss_at, losses, reading, sensors
from tests.tui.recorded.facts import CPU, LARGE_TOKENS, NOW, plan, run_id


class Pace(NamedTuple):
    """How a machine trains its model."""

    tokens_per_s: float
    preparing_s: float
    between_frac: float
    """Of the time of its steps, what validations, samples and checkpoints take."""
    memory_bytes: int
    checkpoint_steps: int
    sample_steps: int
    bytes_a_token: float
    corpus: str
    corpus_tokens: int
    peak_flops: float
    eta_range: tuple[float, float]
    """Of the expected time left."""


_PACES = {
    "cpu": Pace(
        6_204.0,
        9.6,
        0.03,
        734 * 2**20,
        50,
        50,
        3.308,
        "builtin:python",
        3_861_000,
        0.412e12,
        (0.96, 1.18),
    ),
    "cuda": Pace(
        3_150.0,
        96.0,
        0.0044,
        2_790 * 2**20,
        11,
        43,
        4.0,
        "data/wiki-az",
        310_000_000,
        5.22e12,
        (0.93, 1.16),
    ),
}
THROTTLED_S = 780.0
_KILLED_AGO_S = 17_600.0
SAMPLE_TEXT = (
    "test_error(self):\n        self.assertEqual(self._name, None)\n        return self.get_state(self.name)\n\n"
    "    def __init__(self, value=None):\n        if not isinstance(value, str):\n            raise TypeError(\n"
    '                "the argument must be a string")\n        self._value = value\n'
)


def _elapsed_s(device: Device, the_plan: RunPlan, frac: float | None) -> float:
    pace = _PACES[device.kind]
    if frac is None:
        return 8.2
    tokens = int(the_plan.steps * frac) * the_plan.tokens_per_step
    return round(pace.preparing_s + tokens / pace.tokens_per_s * (1 + pace.between_frac), 1)


RUN_ID = run_id(NOW - _elapsed_s(CPU, plan(), 0.42))
"""Of the run that `snapshot` gives on a CPU while it goes."""


def snapshot(
    state: RunState = RunState.RUNNING,
    *,
    device: Device = CPU,
    frac: float | None = 0.42,
    ended_ago_s: float = 0.0,
    idle_s: float = 0.0,
    above: float = 0.0,
    end: str = "ab12",
    **changes: Any,
) -> RunSnapshot:
    """A run of this machine in this state; `frac` None: before the first step.

    `idle_s` is how long it stood after its last step, `above` how much worse its loss is than the usual, `end` the end
    of its name.
    """
    is_gpu = device.kind == "cuda"
    pace = _PACES[device.kind]
    the_plan = plan(device, "134m", LARGE_TOKENS) if is_gpu else plan(device)
    elapsed_s, ended_at = _elapsed_s(device, the_plan, frac) + idle_s, NOW - ended_ago_s
    began_at, last_at = ended_at - elapsed_s, ended_at - idle_s
    named = RUN_ID if (began_at, is_gpu) == (_BEGAN_AT, False) else run_id(began_at, the_plan.preset, end)
    read = sensors(device, is_resting=state is RunState.PAUSED)
    status = _status(state, the_plan, frac, elapsed_s, named)
    train, val = _losses(the_plan, status, elapsed_s - idle_s, last_at, above)
    if frac is not None:
        bits = val[-1].loss / math.log(2) / pace.bytes_a_token
        status = replace(
            status, loss=train[-1].loss, val_loss=val[-1].loss, val_bits_per_byte=bits, restarts=int(is_gpu)
        )
    if is_gpu and not state.is_over:
        status = replace(status, gpu_celsius=read["gpu_celsius"].now, gpu_watts=read["gpu_watts"].now)
    energy = _energy(read, device, elapsed_s, ended_at)
    cost = cost_view([energy], EnergySettings(), the_plan, status, now=NOW)
    status = replace(
        status,
        gpu_energy_j=cost.gpu_energy_j,
        machine_energy_j=cost.machine_energy_j,
        energy_source=cost.machine_source,
        cost=cost.cost,
    )
    kept = _checkpoints(the_plan, status, last_at)
    eta = status.eta_s
    base = RunSnapshot(
        status=status,
        plan=the_plan,
        corpus=pace.corpus,
        phase="training" if state is RunState.RUNNING else state.value,
        is_stale=False,
        silent_s=0.6 + ended_ago_s,
        progress=None,
        train_losses=train,
        val_losses=val,
        learning_rate=None if frac is None else the_plan.learning_rate * min(1.0, (1 - frac) / 0.4 + 0.005),
        grad_norm=None if frac is None else 0.83,
        memory_bytes=None if frac is None else pace.memory_bytes,
        sensors=read,
        sensor=reading(read, device, elapsed_s, ended_at),
        cost=cost,
        text_sample=_sample(the_plan, status, last_at),
        events=_events(state, the_plan, status, began_at, ended_at, kept),
        checkpoint=kept[-1] if kept else None,
        num_checkpoints=len(kept),
        thermal=_thermal() if is_gpu and frac else None,
        version="0.1.0",
        span=ShownSpan(
            from_s=0.0,
            until_s=elapsed_s,
            newest_s=elapsed_s,
            is_whole=True,
            from_at=began_at,
            until_at=ended_at,
        ),
        eta_low_s=None if eta is None else eta * pace.eta_range[0],
        eta_high_s=None if eta is None else eta * pace.eta_range[1],
        corpus_tokens=pace.corpus_tokens,
        limits=Limits(max_gpu_celsius=87.0, resume_gpu_celsius=70.0, gpu_watts=35.0 if is_gpu else None),
    )
    return replace(base, **changes)


_BEGAN_AT = NOW - _elapsed_s(CPU, plan(), 0.42)


def _status(state: RunState, the_plan: RunPlan, frac: float | None, elapsed_s: float, named: str) -> Status:
    pace = _PACES[the_plan.device.kind]
    step = None if frac is None else int(the_plan.steps * frac)
    tokens = None if step is None else step * the_plan.tokens_per_step
    left_s = (the_plan.tokens_total - (tokens or 0)) / pace.tokens_per_s
    used_frac = pace.tokens_per_s * the_plan.shape.flops_per_token / pace.peak_flops
    is_known = tokens is not None
    return Status(
        id=named,
        state=state,
        step=step,
        steps=the_plan.steps,
        tokens=tokens,
        tokens_total=the_plan.tokens_total,
        loss=None,
        val_loss=None,
        val_bits_per_byte=None,
        tokens_per_second=pace.tokens_per_s if is_known else None,
        eta_s=left_s if is_known and state is RunState.RUNNING else None,
        elapsed_s=elapsed_s,
        gpu_energy_j=None,
        machine_energy_j=None,
        energy_source=None,
        cost=None,
        currency="USD",
        gpu_celsius=None,
        gpu_watts=None,
        micro_batch=the_plan.micro_batch,
        grad_accum=the_plan.grad_accum,
        restarts=0,
        supervisor_pid=None if state.is_over else 4242,
        trainer_pid=4243 if state in (RunState.RUNNING, RunState.PAUSED) else None,
        reason=None,
        peak_flops=pace.peak_flops if is_known else None,
        mfu_frac=used_frac if is_known else None,
    )


def _losses(
    the_plan: RunPlan, status: Status, elapsed_s: float, ended_at: float, above: float
) -> tuple[tuple[LossPoint, ...], tuple[LossPoint, ...]]:
    """Of the training and of the validations, which are about 20 a run."""
    if not status.step or not status.tokens:
        return (), ()
    common: dict[str, Any] = {
        "took_s": elapsed_s - _PACES[the_plan.device.kind].preparing_s,
        "tokens_total": the_plan.tokens_total,
        "tokens_per_step": the_plan.tokens_per_step,
        "ends_at": ended_at,
        "preset": the_plan.preset,
    }
    train = losses(status.tokens, min(300, status.step), above=above, **common)
    num_validations = max(1, round(20 * status.tokens / the_plan.tokens_total))
    return train, losses(status.tokens, num_validations, 0.01, above=above + 0.09, seed=8, **common)


def _energy(read: dict[str, Series], device: Device, elapsed_s: float, ended_at: float) -> EnergyRow:
    """The watts of the readings over the time that they cover."""
    is_gpu = device.kind == "cuda"
    first, last = GAP_BUCKETS if is_gpu else (0, 0)
    gap_s = elapsed_s * (last - first) / NUM_BUCKETS
    covered_s = elapsed_s - gap_s
    gpu_watts, machine_watts = read["gpu_watts"].mean, read["machine_watts"].mean
    return EnergyRow(
        segment=1,
        at=ended_at,
        elapsed_s=elapsed_s,
        covered_s=covered_s,
        gpu_j=None if gpu_watts is None else gpu_watts * covered_s,
        gpu_source="counter" if is_gpu else None,
        machine_j=None if machine_watts is None else machine_watts * covered_s,
        machine_source="partly measured" if is_gpu else "estimate",
        gap_s=gap_s,
    )


def _thermal() -> ThermalRow:
    return ThermalRow(segment=0, throttled_s=THROTTLED_S, throttled_tokens=412_000.0)


def _at(step: int, the_plan: RunPlan, status: Status, ended_at: float) -> float:
    """When a step was done."""
    ago = (status.step or 0) - step
    return ended_at - ago * the_plan.tokens_per_step / _PACES[the_plan.device.kind].tokens_per_s


def _checkpoints(the_plan: RunPlan, status: Status, ended_at: float) -> tuple[CheckpointRow, ...]:
    """Those that are kept; one is made at the end of a run, and when it is stopped."""
    if not status.step:
        return ()
    every = _PACES[the_plan.device.kind].checkpoint_steps
    newest = status.step - status.step % every
    steps = [newest - every, newest]
    if status.state in (RunState.FINISHED, RunState.STOPPED):
        steps = [newest, status.step]
    return tuple(
        told.checkpoint(
            step, _at(step, the_plan, status, ended_at), the_plan.preset, the_plan.tokens_per_step
        )
        for step in steps
    )


def sample_steps(the_plan: RunPlan) -> int:
    """How many steps there are from one text sample to the next."""
    return _PACES[the_plan.device.kind].sample_steps


def _sample(the_plan: RunPlan, status: Status, ended_at: float) -> TextSampleRow | None:
    if not status.step:
        return None
    step = status.step
    if status.state is not RunState.FINISHED:
        step -= step % sample_steps(the_plan)
    return TextSampleRow(step=step, at=_at(step, the_plan, status, ended_at), prompt="def ", text=SAMPLE_TEXT)


def _events(
    state: RunState,
    the_plan: RunPlan,
    status: Status,
    began_at: float,
    ended_at: float,
    kept: tuple[CheckpointRow, ...],
) -> tuple[EventRow, ...]:
    """What was told, the oldest first."""
    if not status.step:
        return told.preflight(began_at)
    is_gpu = the_plan.device.kind == "cuda"
    found = [*told.beginning(began_at, is_gpu), *map(told.saved, kept)]
    if is_gpu:
        killed_at = ended_at - _KILLED_AGO_S
        found += [
            told.sensor_fault(ended_at - 66_000.0),
            told.killed(killed_at),
            told.resumed(
                killed_at + 12.0, kept[0].step - 220, the_plan.tokens_per_step, the_plan.tokens_total
            ),
        ]
    if state is RunState.FINISHED:
        found += told.finishing(ended_at, the_plan.tokens_total, the_plan.steps, status.id)
    return tuple(sorted(found, key=lambda event: event.at))


def in_span(shot: RunSnapshot, span: TimeSpan) -> RunSnapshot:
    """The same run with the curves of a stretch of time; its steps took equally long."""
    whole = shot.span
    if whole is None or span.width_s is None or whole.from_at is None or whole.until_at is None:
        return shot
    newest_s = whole.newest_s
    until_s = newest_s if span.until_s is None else span.until_s
    from_s = until_s - span.width_s
    from_at, until_at = (whole.until_at - newest_s + end_s for end_s in (from_s, until_s))

    def within(points: tuple[LossPoint, ...]) -> tuple[LossPoint, ...]:
        return tuple(point for point in points if from_at <= (point.at or NOW) <= until_at)

    shown = ShownSpan(
        from_s=from_s, until_s=until_s, newest_s=newest_s, is_whole=False, from_at=from_at, until_at=until_at
    )
    return replace(
        shot, train_losses=within(_every_step(shot)), val_losses=within(shot.val_losses), span=shown
    )


def _every_step(shot: RunSnapshot) -> tuple[LossPoint, ...]:
    """The curve of a run with a point for each of its steps, of which the whole one has a few hundred."""
    points, plan, step = shot.train_losses, shot.plan, shot.status.step or 0
    if len(points) in (0, 1, step):
        return points
    first_at, last_at = points[0].at or NOW, points[-1].at or NOW
    usual = [loss_at(point.tokens / plan.tokens_total, plan.preset) for point in points]
    above = sum(point.loss for point in points) / len(points) - sum(usual) / len(usual)
    return losses(
        points[-1].tokens,
        step,
        took_s=(last_at - first_at) * len(points) / (len(points) - 1),
        tokens_total=plan.tokens_total,
        tokens_per_step=plan.tokens_per_step,
        ends_at=last_at,
        preset=plan.preset,
        above=above,
    )


def summary(shot: RunSnapshot, named: str | None = None) -> RunSummary:
    """The line of a run in the list."""
    began_at = shot.span.from_at if shot.span else None
    return RunSummary(
        id=named or shot.status.id,
        created_at=began_at or NOW,
        preset=shot.plan.preset,
        parameters=shot.plan.shape.parameters,
        is_stale=shot.is_stale,
        status=replace(shot.status, id=named or shot.status.id),
        version=shot.version,
    )
