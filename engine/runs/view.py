"""What a run's store tells a person: its status, the snapshot of the run screen, its line in the ledger."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from engine.clock import Moment
from engine.errors import StoreError
from engine.ledger.cost import cost_view, total_energy
from engine.ledger.tariff import cost_so_far
from engine.ramp import phase_text
from engine.records import (
    AttemptRow,
    CheckpointRow,
    EnergyRow,
    EvaluationRow,
    EventRow,
    HeartbeatRow,
    Limits,
    LossPoint,
    MeasuredPeak,
    ProgressRow,
    RunPlan,
    RunSnapshot,
    RunState,
    RunSummary,
    SensorRow,
    ShownSpan,
    StateRow,
    Status,
    TariffRow,
    TextSampleRow,
    ThermalRow,
    TimeSpan,
)
from engine.runs.curves import CurveMemory
from engine.runs.folder import RunFolder
from engine.runs.store import RunStore
from engine.runs.stretch import WHOLE, Stretch, shown_span
from engine.settings import Settings
from engine.shelf import RunCurves

STARTING_S = 30.0
"""How long a new run may be without a supervisor before it counts as abandoned."""
STALE_S = 10.0
"""A supervisor that was silent for longer is shown as stale."""
Looked = TypeVar("Looked", EvaluationRow, TextSampleRow)


class _Reading:
    """A run's store, read once: what several views need."""

    def __init__(self, folder: RunFolder, store: RunStore) -> None:
        self.folder = folder
        self.store = store
        self.plan = store.meta("plan", RunPlan)
        self.settings: Settings = folder.settings()
        self.created_at = store.meta("created_at", float)
        self.stretch = Stretch.of(store)
        self.step = self.stretch.at
        self.lineage = store.lineage()
        self.evaluation = self._newest(EvaluationRow, "evaluation")
        self.energy = store.rows(EnergyRow, "ORDER BY segment")
        # A run at a flat price may be older than the table.
        self.tariff_rows = store.rows(TariffRow) if self.settings.energy.tariff else []
        self.supervisor = store.heartbeat("supervisor")
        self.trainer = store.heartbeat("trainer")
        self.num_attempts = store.num_rows(AttemptRow)
        self.is_supervised = folder.is_supervised
        written = store.state() or StateRow(at=self.created_at, state=RunState.PREPARING.value)
        self.written_state = RunState(written.state)
        self.reason = written.reason or None
        self.is_abandoned = (
            not self.is_supervised
            and not self.written_state.is_over
            and not (self.supervisor is None and self._age_s() < STARTING_S)
        )

    def _age_s(self) -> float:
        """Seconds since the run was made."""
        try:
            return self.store.meta("created", Moment).age_s
        except StoreError:  # made by an older version
            return Moment(self.created_at).age_s

    def _newest(self, record: type[Looked], table: str) -> Looked | None:
        """The newest that leads to where training stands."""
        where, origins = self.lineage.clause(table)
        found = self.store.rows(record, f"WHERE {where} ORDER BY step DESC LIMIT 1", origins)
        return found[0] if found else None

    @property
    def state(self) -> RunState:
        return RunState.FAILED if self.is_abandoned else self.written_state

    @property
    def version(self) -> str:
        """Of the llm-tui that keeps the run: its newest supervisor's, else its maker's."""
        store = self.store
        return store.find_meta("supervisor_version", str) or store.find_meta("version", str) or ""

    @property
    def tokens_per_s(self) -> float | None:
        return self.stretch.tokens_per_s(self.store, self.plan)

    def _used_frac(self, rate: float | None, peak: MeasuredPeak | None) -> float | None:
        """What a speed makes of the device's peak, as `Status.mfu_frac`."""
        if rate is None or peak is None:
            return None
        used = rate * self.plan.shape.flops_per_token / peak.flops
        return used if used <= 1.0 else None

    def status(self) -> Status:
        step, plan, state = self.step, self.plan, self.state
        rate = self.tokens_per_s
        peak = self.store.find_meta("peak", MeasuredPeak)
        tokens = step.tokens if step else None
        left = plan.tokens_total - (tokens or 0)
        is_moving = state is RunState.RUNNING and rate is not None
        sensor = self.store.newest(SensorRow, "elapsed_s") if not state.is_over else None
        used = total_energy(self.energy)
        is_trainer_alive = self.is_supervised and state in (RunState.RUNNING, RunState.PAUSED)
        return Status(
            id=self.folder.id,
            state=state,
            step=step.step if step else None,
            steps=plan.steps,
            tokens=tokens,
            tokens_total=plan.tokens_total,
            loss=step.loss if step else None,
            val_loss=self.evaluation.val_loss if self.evaluation else None,
            val_bits_per_byte=self.evaluation.val_bits_per_byte if self.evaluation else None,
            tokens_per_second=rate,
            eta_s=left / rate if is_moving and rate else None,
            elapsed_s=sum(row.elapsed_s for row in self.energy) if self.energy else None,
            gpu_energy_j=used.gpu_j,
            machine_energy_j=used.machine_j,
            energy_source=used.machine_source,
            cost=cost_so_far(used.machine_j, self.tariff_rows, self.settings.energy),
            currency=self.settings.energy.currency,
            gpu_celsius=sensor.gpu_celsius if sensor else None,
            gpu_watts=sensor.gpu_watts if sensor else None,
            micro_batch=step.micro_batch if step else plan.micro_batch,
            grad_accum=step.grad_accum if step else plan.grad_accum,
            restarts=max(0, self.num_attempts - 1),
            supervisor_pid=self.supervisor.pid if self.supervisor and self.is_supervised else None,
            trainer_pid=self.trainer.pid if self.trainer and is_trainer_alive else None,
            reason=self._abandoned_reason() if self.is_abandoned else self.reason,
            peak_flops=peak.flops if peak else None,
            mfu_frac=self._used_frac(rate, peak),
        )

    def _abandoned_reason(self) -> str:
        newest = self.store.newest_checkpoint()
        at = f"step {newest.step}" if newest else "the beginning"
        return f"Its supervisor is gone without a word; `llm-tui resume {self.folder.id}` goes on from {at}."

    def snapshot(self, num_points: int, num_buckets: int, span: TimeSpan, memory: CurveMemory) -> RunSnapshot:
        store, status = self.store, self.status()
        silent_s = None if self.supervisor is None else self.supervisor.age_s
        is_silent = silent_s is not None and silent_s > STALE_S and not self.written_state.is_over
        by_both = _by_both_meters(self.energy)
        is_preparing = status.state is RunState.PREPARING
        ramp = store.ramp() if is_preparing else []
        shown = shown_span(store, span, num_buckets)
        first, last = self._shown_steps(span, shown)
        thermal = _thermal_loss(store.rows(ThermalRow))
        cooling_s = thermal.paused_s if thermal else 0.0
        eta_low_s, eta_high_s = self.stretch.eta_range(store, status, cooling_s)
        sensor = store.newest(SensorRow, "elapsed_s")
        return RunSnapshot(
            status=status,
            plan=self.plan,
            corpus=describe_source(self.settings),
            phase=phase_text(self._phase(), ramp),
            is_stale=self.is_abandoned or is_silent,
            silent_s=silent_s,
            progress=store.newest(ProgressRow) if is_preparing else None,
            train_losses=tuple(store.train_losses(num_points, first, last)),
            val_losses=tuple(self.val_losses(first, last)),
            learning_rate=self.step.learning_rate if self.step else None,
            grad_norm=self.step.grad_norm if self.step else None,
            memory_bytes=self.step.memory_bytes if self.step else None,
            sensors=memory.sensors(self.folder.id, store, num_buckets, shown, sensor),
            sensor=sensor,
            cost=cost_view(self.energy, self.settings.energy, self.plan, status, self.tariff_rows),
            text_sample=self._newest(TextSampleRow, "text_sample"),
            events=tuple(reversed(store.rows(EventRow, "ORDER BY rowid DESC LIMIT 50"))),
            checkpoint=store.newest_checkpoint(),
            num_checkpoints=store.num_rows(CheckpointRow),
            gpu_counter_j=by_both[0],
            gpu_integrated_j=by_both[1],
            thermal=thermal,
            ramp=tuple(ramp),
            version=self.version,
            span=shown,
            eta_low_s=eta_low_s,
            eta_high_s=eta_high_s,
            corpus_tokens=_corpus_tokens(self.folder),
            limits=Limits(
                max_gpu_celsius=self.settings.limits.max_gpu_celsius or None,
                resume_gpu_celsius=self.settings.limits.resume_gpu_celsius or None,
                gpu_watts=sensor.gpu_limit_watts if sensor else None,
            ),
        )

    def val_losses(self, first: int = 1, last: int | None = None) -> list[LossPoint]:
        """The validations of some steps that lead to where training stands."""
        where, origins = self.lineage.clause("evaluation")
        tail = f"WHERE {where} AND step >= ? AND step <= ? ORDER BY step"
        rows = self.store.rows(EvaluationRow, tail, (*origins, first - 1, 2**62 if last is None else last))
        return [LossPoint(tokens=row.tokens, loss=row.val_loss, step=row.step, at=row.at) for row in rows]

    def _shown_steps(self, span: TimeSpan, shown: ShownSpan | None) -> tuple[int, int | None]:
        """The first and the last step of a stretch of time; None: up to where training stands."""
        if shown is None or shown.from_at is None or span.width_s is None:
            return 1, None
        first = self.store.first_step_since(shown.from_at)
        if span.until_s is None or shown.until_at is None:
            return first, None
        return first, self.store.first_step_since(shown.until_at) - 1

    def _phase(self) -> str:
        if self.state.is_over:
            return self.state.value
        newest = min(
            (beat for beat in (self.supervisor, self.trainer) if beat), key=_beat_age_s, default=None
        )
        if self.trainer and self.state in (RunState.RUNNING, RunState.PAUSED) and newest:
            return self.trainer.phase if self.trainer.age_s - newest.age_s < STALE_S else newest.phase
        return newest.phase if newest else "starting"


class _CorpusSize(msgspec.Struct):
    """What of the corpus' manifest a viewer needs."""

    train_tokens: int


def _corpus_tokens(folder: RunFolder) -> int | None:
    try:
        return msgspec.json.decode(folder.corpus_path.read_bytes(), type=_CorpusSize).train_tokens
    except (OSError, msgspec.MsgspecError):
        return None


def _by_both_meters(rows: list[EnergyRow]) -> tuple[float | None, float | None]:
    """The GPU's energy by counter and by integral, over the segments that know both."""
    known = [
        (row.gpu_counter_j, row.gpu_integrated_j)
        for row in rows
        if row.gpu_counter_j is not None and row.gpu_integrated_j is not None
    ]
    return (sum(c for c, _ in known), sum(i for _, i in known)) if known else (None, None)


def _thermal_loss(rows: list[ThermalRow]) -> ThermalRow | None:
    """The sum over segments; tokens are unknown only where no segment knows them."""
    if not rows:
        return None

    def known(values: list[float | None]) -> float | None:
        numbers = [value for value in values if value is not None]
        return sum(numbers) if numbers else None

    return ThermalRow(
        segment=0,
        throttled_s=sum(row.throttled_s for row in rows),
        throttled_tokens=known([row.throttled_tokens for row in rows]),
        paused_s=sum(row.paused_s for row in rows),
        paused_tokens=known([row.paused_tokens for row in rows]),
    )


def _beat_age_s(beat: HeartbeatRow) -> float:
    return beat.age_s


def describe_source(settings: Settings) -> str:
    """The corpus as the settings name it."""
    return ", ".join(settings.corpus.sources)


def read_status(folder: RunFolder) -> Status:
    """One run's state. Raises: StoreError, SettingsError."""
    store = folder.open()
    try:
        return _Reading(folder, store).status()
    finally:
        store.close()


def read_snapshot(
    folder: RunFolder,
    num_points: int,
    num_buckets: int,
    span: TimeSpan = WHOLE,
    memory: CurveMemory | None = None,
) -> RunSnapshot:
    """Everything of the run screen, its curves over a stretch of time. Raises: StoreError, SettingsError.

    Who asks again and again keeps a `memory`.
    """
    store = folder.open()
    try:
        return _Reading(folder, store).snapshot(num_points, num_buckets, span, memory or CurveMemory())
    finally:
        store.close()


def read_summary(folder: RunFolder) -> RunSummary:
    """One line of the runs screen. Raises: StoreError, SettingsError."""
    store = folder.open()
    try:
        reading = _Reading(folder, store)
        return RunSummary(
            id=folder.id,
            created_at=reading.created_at,
            preset=reading.plan.preset,
            parameters=reading.plan.shape.parameters,
            is_stale=reading.is_abandoned,
            status=reading.status(),
            version=reading.version,
            tags=store.find_meta("tags", tuple[str, ...]) or (),
            archived_at=store.find_meta("archived_at", float),
        )
    finally:
        store.close()


def read_curves(folder: RunFolder, num_points: int) -> RunCurves:
    """One run of a comparison. Raises: StoreError, SettingsError."""
    store = folder.open()
    try:
        reading = _Reading(folder, store)
        status = reading.status()
        return RunCurves(
            run_id=folder.id,
            state=status.state,
            tags=store.find_meta("tags", tuple[str, ...]) or (),
            tokens=status.tokens,
            tokens_total=status.tokens_total,
            loss=status.loss,
            val_loss=status.val_loss,
            val_bits_per_byte=status.val_bits_per_byte,
            elapsed_s=status.elapsed_s,
            machine_energy_j=status.machine_energy_j,
            cost=status.cost,
            currency=status.currency,
            train_losses=tuple(store.train_losses(num_points)),
            val_losses=tuple(reading.val_losses()),
        )
    finally:
        store.close()
