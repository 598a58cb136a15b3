"""What a run did while nobody looked: the difference between a viewer's last look and this one.

Every look is kept, outside of the run, below the user's state folder: viewers only read a run. Energy and money are
the run's own books then and now, so that a tariff and a gap are in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

import msgspec

from engine import atomic
from engine.records import EventRow, RunPlan, RunState, SensorRow, StateRow, Status, ThermalRow
from engine.runs.folder import RunFolder
from engine.runs.lock import state_folder
from engine.runs.store import RunStore
from engine.runs.view import read_status
from engine.story import Digest, Incident

AWAY_S = 600.0
"""Who looks again sooner was not away."""
NEWS_S = 86_400.0
"""A run that nobody ever looked at is told of as long as it goes, and for so long after its end."""
_TROUBLE = ("warning", "error")


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stood when somebody looked. None: unknown then."""

    at: float
    state: RunState
    tokens: int
    restarts: int
    event: int
    """The number of its newest event."""
    readings_s: float
    """`SensorRow.elapsed_s` of its newest reading."""
    loss: float | None = None
    val_loss: float | None = None
    machine_energy_j: float | None = None
    cost: float | None = None
    eta_at: float | None = None
    throttled_s: float = 0.0
    cooling_s: float = 0.0


def look(folder: RunFolder) -> Digest | None:
    """Keep this look; the answer is what happened since the one before, None where that is not worth telling.

    Raises: StoreError, SettingsError where the run cannot be read. A look that cannot be kept tells nothing.
    """
    path = _path_of(folder)
    then = _load(path)
    with contextlib.closing(folder.open()) as store:
        status = read_status(folder)
        now = _visit(status, store)
        try:
            atomic.make_private(path.parent)
            atomic.write_bytes(path, msgspec.json.encode(now))
        except OSError:
            return None
        if not _is_news(store, then, now):
            return None
        return _digest(status, store, then, now)


def _path_of(folder: RunFolder) -> Path:
    name = hashlib.sha256(str(folder.path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return state_folder() / "visits" / f"{name}.json"


def _load(path: Path) -> Visit | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Visit)
    except (OSError, msgspec.MsgspecError):
        return None


def _visit(status: Status, store: RunStore) -> Visit:
    now = time.time()
    reading = store.newest(SensorRow, "elapsed_s")
    heat = store.rows(ThermalRow)
    return Visit(
        at=now,
        state=status.state,
        tokens=status.tokens or 0,
        restarts=status.restarts,
        event=store.num_rows(EventRow),
        readings_s=reading.elapsed_s if reading else 0.0,
        loss=status.loss,
        val_loss=status.val_loss,
        machine_energy_j=status.machine_energy_j,
        cost=status.cost,
        eta_at=None if status.eta_s is None else now + status.eta_s,
        throttled_s=sum(row.throttled_s for row in heat),
        cooling_s=sum(row.paused_s for row in heat),
    )


def _is_news(store: RunStore, then: Visit | None, now: Visit) -> bool:
    if then is not None:
        is_same = (then.state, then.tokens, then.event) == (now.state, now.tokens, now.event)
        return now.at - then.at >= AWAY_S and not is_same
    state = store.state()
    age_s = now.at - store.meta("created_at", float)
    ended_s = now.at - state.at if state is not None and now.state.is_over else 0.0
    return age_s >= AWAY_S and ended_s < NEWS_S and now.tokens > 0


def _digest(status: Status, store: RunStore, then: Visit | None, now: Visit) -> Digest:
    plan = store.meta("plan", RunPlan)
    began_at = store.meta("created_at", float)
    state = store.state() or StateRow(at=now.at, state=now.state)
    before = then or Visit(
        at=began_at,
        state=RunState.PREPARING,
        tokens=0,
        restarts=0,
        event=0,
        readings_s=0.0,
        machine_energy_j=0.0,
        cost=0.0,
    )
    is_gpu = plan.device.kind == "cuda"
    return Digest(
        run_id=status.id,
        at=now.at,
        since=then.at if then else None,
        away_s=now.at - before.at,
        state_then=then.state if then else None,
        state=now.state,
        reason=status.reason or "",
        tokens=now.tokens - before.tokens,
        tokens_total=plan.tokens_total,
        tokens_now=now.tokens,
        loss_then=before.loss,
        loss=now.loss,
        val_loss_then=before.val_loss,
        val_loss=now.val_loss,
        machine_energy_j=_grown(before.machine_energy_j, now.machine_energy_j),
        cost=_grown(before.cost, now.cost),
        currency=status.currency,
        gpu_celsius_max=store.highest("gpu_celsius", before.readings_s),
        cpu_celsius_max=store.highest("cpu_celsius", before.readings_s),
        throttled_s=now.throttled_s - before.throttled_s if is_gpu else None,
        cooling_s=now.cooling_s - before.cooling_s if is_gpu else None,
        restarts=now.restarts - before.restarts,
        incidents=_incidents(store, before.event),
        eta_then=before.eta_at,
        eta=state.at if now.state is RunState.FINISHED else now.eta_at,
    )


def _grown(before: float | None, now: float | None) -> float | None:
    return None if now is None else now - (before or 0.0)


def _incidents(store: RunStore, after: int) -> tuple[Incident, ...]:
    found: dict[tuple[str, str], Incident] = {}
    for _, event in store.events(after):
        if event.level in _TROUBLE:
            key = (event.level, event.kind)
            num = found[key].num + 1 if key in found else 1
            found[key] = Incident(kind=event.kind, level=event.level, num=num, text=event.text)
    return tuple(sorted(found.values(), key=lambda incident: (incident.level != "error", -incident.num)))
