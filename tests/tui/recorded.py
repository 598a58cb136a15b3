"""Facts of imagined runs for the windows to show, and a bridge that hands them out.

The shapes of the curves are those of a small run; no figure here is a measurement of anything.
"""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from engine import settings_edit
from engine.appearance import Appearance, read_appearance
from engine.bill import CheckpointSize, DayLine, EntryDetail, StorageBook
from engine.errors import BlockedError, EngineError
from engine.estimate import Estimate, estimate
from engine.ledger.breakeven import break_evens, move_of
from engine.ledger.cloud import entry_flop, quotes_for, run_flop
from engine.opening import Opening
from engine.records import (
    Bucket,
    Check,
    CheckpointRow,
    CheckStep,
    Closing,
    ClosingReport,
    CloudQuote,
    CostView,
    DamagedRun,
    Device,
    EventRow,
    Figure,
    LedgerEntry,
    Limits,
    LogMarkRow,
    LossPoint,
    OpenProcess,
    OpenProcesses,
    ProgressRow,
    RampRow,
    RunPlan,
    RunSnapshot,
    RunState,
    RunSummary,
    SensorRow,
    Series,
    ShownSpan,
    Status,
    TextSampleRow,
    TimeSpan,
)
from engine.runs.folder import RunFolder
from engine.runs.logs import LogReader
from engine.settings import CloudOffer, CloudSettings, Settings
from engine.settings_edit import SettingsForm
from engine.settings_file import template
from engine.shape import PRESETS
from engine.shelf import Comparison, Difference, Removal, RemovalKind, RunCurves
from engine.story import Digest, Incident, SampleAt, SampleBook, TextRequest

NOW = time.time()
RUN_ID = "1123-192601-tiny-ab12"
CPU = Device(
    kind="cpu", name="AMD Ryzen 5 5600H", identity="cpu", total_bytes=16 * 2**30, free_bytes=11 * 2**30
)
GPU = Device(
    kind="cuda",
    name="NVIDIA GeForce RTX 2050",
    identity="GPU-0d1e",
    total_bytes=4 * 2**30,
    free_bytes=3600 * 2**20,
    capability=(8, 6),
)


def plan(device: Device = CPU, preset: str = "tiny", tokens_total: int = 2_002_944) -> RunPlan:
    """A plan; the memory figures are made up."""
    return RunPlan(
        preset=preset,
        shape=PRESETS[preset],
        device=device,
        precision="bf16",
        optimizer="muon",
        learning_rate=4e-3,
        tokens_total=tokens_total,
        tokens_per_step=4096,
        micro_batch=8,
        grad_accum=2,
        steps=tokens_total // 4096,
        is_compiled=False,
        num_recomputed_blocks=0,
        memory_parts_bytes={"weights": 2**24},
        memory_total_bytes=2**28,
        memory_budget_bytes=2**30,
    )


def losses(
    tokens: int, num_points: int = 300, noise: float = 0.05, took_s: float = 134.0
) -> tuple[LossPoint, ...]:
    """A falling curve up to `tokens`."""
    chance = random.Random(7)
    return tuple(
        LossPoint(
            tokens=tokens * (index + 1) // num_points,
            loss=3.1
            + 5.2 * math.exp(-14 * (index + 1) / num_points)
            - 0.6 * index / num_points
            + chance.gauss(0, noise),
            step=tokens * (index + 1) // num_points // 4096,
            at=NOW - took_s + took_s * (index + 1) / num_points,
        )
        for index in range(num_points)
    )


def series(name: str, middle: float, swing: float, gap: tuple[int, int] = (0, 0)) -> Series:
    """A wavy sensor, with a gap."""
    chance = random.Random(name)
    buckets = tuple(
        Bucket(index=i, low=v * 0.97, mean=v, high=v * 1.03)
        for i in range(120)
        if not gap[0] <= i < gap[1]
        for v in [
            middle
            + swing * math.sin(i / 9) * min(1, i / 40)
            + chance.gauss(0, swing / 9)
            - 2 * swing / (1 + i / 3)
        ]
    )
    return Series(
        name=name,
        num_buckets=120,
        buckets=buckets,
        now=buckets[-1].mean,
        low=min(b.low for b in buckets),
        mean=middle,
        high=max(b.high for b in buckets),
    )


def unknown(name: str) -> Series:
    """A sensor that this machine does not have."""
    return Series(name=name, num_buckets=120, buckets=(), now=None, low=None, mean=None, high=None)


def sensors(device: Device) -> dict[str, Series]:
    """What such a machine would read."""
    gpu = device.kind == "cuda"
    return {
        "gpu_celsius": series("gpu_celsius", 66, 6, (60, 68)) if gpu else unknown("gpu_celsius"),
        "gpu_watts": series("gpu_watts", 34, 5, (60, 68)) if gpu else unknown("gpu_watts"),
        "gpu_util_frac": series("gpu_util_frac", 0.96, 0.02) if gpu else unknown("gpu_util_frac"),
        "cpu_celsius": series("cpu_celsius", 71, 8) if gpu else unknown("cpu_celsius"),
        "cpu_watts": unknown("cpu_watts"),
        "cpu_load_frac": series("cpu_load_frac", 0.9, 0.06),
        "machine_watts": series("machine_watts", 62, 9),
        "memory_used_bytes": unknown("memory_used_bytes"),
        "gpu_memory_used_bytes": series("gpu_memory_used_bytes", 3.3e9, 4e7)
        if gpu
        else unknown("gpu_memory_used_bytes"),
    }


T4 = CloudQuote(
    provider="the course's cloud",
    gpu="T4",
    kind="quoted",
    usd_per_hour=0.70,
    hours=48.0,
    usd=33.60,
    as_of="2026-11-01",
    source="course",
    basis="as quoted",
)


def cost(device: Device, machine_j: float | None) -> CostView:
    """A bill."""
    kwh = None if machine_j is None else machine_j / 3.6e6
    return CostView(
        currency="USD",
        price_per_kwh=0.17,
        machine_energy_j=machine_j,
        gpu_energy_j=None if device.kind == "cpu" or machine_j is None else machine_j * 0.55,
        machine_source=None if machine_j is None else "estimate",
        gpu_source="counter" if device.kind == "cuda" else None,
        cost=None if kwh is None else kwh * 0.17,
        projected_cost=None if kwh is None else kwh * 0.17 * 2.4,
        projected_kwh=None if kwh is None else kwh * 2.4,
        projected_hours=None if kwh is None else 0.21,
        gap_s=0.0,
        cloud=T4,
    )


def status(state: RunState, the_plan: RunPlan, frac: float | None, **changes: Any) -> Status:
    """A status `frac` of the way."""
    tokens = None if frac is None else int(the_plan.tokens_total * frac)
    is_over = state.is_over
    base = Status(
        id=RUN_ID,
        state=state,
        step=None if frac is None else int(the_plan.steps * frac),
        steps=the_plan.steps,
        tokens=tokens,
        tokens_total=the_plan.tokens_total,
        loss=None if frac is None else 3.412,
        val_loss=None if frac is None else 3.507,
        val_bits_per_byte=None if frac is None else 1.684,
        tokens_per_second=None if frac is None else 6_204.0,
        eta_s=187.0 if state is RunState.RUNNING else None,
        elapsed_s=134.0,
        gpu_energy_j=None,
        machine_energy_j=8_300.0,
        energy_source="estimate",
        cost=0.00039,
        currency="USD",
        gpu_celsius=None,
        gpu_watts=None,
        micro_batch=8,
        grad_accum=2,
        restarts=0,
        supervisor_pid=None if is_over else 4242,
        trainer_pid=None if is_over else 4243,
        reason=None,
    )
    return replace(base, **changes)


EVENTS = (
    EventRow(
        at=NOW - 130,
        level="info",
        source="supervisor",
        kind="started",
        text="Supervisor started: detached session, survives the terminal.",
    ),
    EventRow(
        at=NOW - 90,
        level="info",
        source="trainer",
        kind="checkpoint-saved",
        text="Checkpoint step-100 written in 0.4 s and read back.",
    ),
    EventRow(
        at=NOW - 40,
        level="warning",
        source="supervisor",
        kind="sensor-lost",
        text="The battery sensor does not answer; the machine's power is an estimate from here.",
    ),
    EventRow(
        at=NOW - 5,
        level="info",
        source="trainer",
        kind="checkpoint-saved",
        text="Checkpoint step-200 written in 0.4 s and read back.",
    ),
)
SAMPLE = TextSampleRow(
    step=200,
    at=NOW - 12,
    prompt="def ",
    text=(
        "test_error(self):\n        self.assertEqual(self._name, None)\n        return self.get_state(self.name)\n\n"
        "    def __init__(self, value=None):\n        if not isinstance(value, str):\n            raise TypeError(\n"
        '                "the argument must be a string")\n        self._value = value\n'
    ),
)


def samples() -> tuple[SampleAt, ...]:
    """What a model has said as it learnt, from noise to words."""
    texts = (
        "\x1b[2J\u202e= ,, ( the\n the ) ) _ _",
        "self.self.self(\n    return return",
        SAMPLE.text,
        SAMPLE.text,
    )
    return tuple(
        SampleAt(
            step=(number + 1) * 100,
            at=NOW - 400 + 100 * number,
            tokens=409_600 * (number + 1),
            loss=4.8 - 0.5 * number,
            val_loss=None if number == 0 else 4.9 - 0.5 * number,
            prompt="def ",
            text=text,
        )
        for number, text in enumerate(texts)
    )


def recorded_log(path: Path, num_lines: int = 400) -> RunFolder:
    """The folder of a run with events and output."""
    folder = RunFolder(path)
    if folder.store_path.exists():
        return folder
    path.mkdir(parents=True)
    lines = [f"step {number}: a line that the trainer has printed\n" for number in range(num_lines)]
    folder.log_path.write_text("".join(lines), "utf-8")
    store = folder.open(read_only=False)
    size = folder.log_path.stat().st_size
    store.put(*EVENTS, LogMarkRow(offset=size // 2, at=NOW - 60), LogMarkRow(offset=size, at=NOW - 20))
    store.close()
    return folder


def digest(**changes: Any) -> Digest:
    """What a run did in a night."""
    base = Digest(
        run_id=RUN_ID,
        at=NOW,
        since=NOW - 28_800,
        away_s=28_800,
        state_then=RunState.RUNNING,
        state=RunState.RUNNING,
        reason="",
        tokens=61_000_000,
        tokens_total=1_000_341_504,
        tokens_now=420_000_000,
        loss_then=3.61,
        loss=3.412,
        val_loss_then=3.69,
        val_loss=3.507,
        machine_energy_j=1.9e6,
        cost=0.0897,
        currency="USD",
        gpu_celsius_max=84.0,
        cpu_celsius_max=71.0,
        throttled_s=780.0,
        cooling_s=0.0,
        restarts=1,
        incidents=(
            Incident(kind="restart", level="warning", num=1, text="The trainer ended with signal SIGKILL."),
            Incident(kind="sensor-fault", level="warning", num=3, text="The battery does not answer."),
        ),
        eta_then=NOW + 180_000,
        eta=NOW + 186_000,
    )
    return replace(base, **changes)


def snapshot(
    state: RunState = RunState.RUNNING, *, device: Device = CPU, frac: float | None = 0.42, **changes: Any
) -> RunSnapshot:
    """A run of this machine in this state; `frac` None: before the first step."""
    the_plan = plan(device)
    if device.kind == "cuda":
        the_plan = plan(device, "134m", 1_000_341_504)
    tokens = int(the_plan.tokens_total * (frac or 0))
    has_steps = frac is not None
    is_gpu = device.kind == "cuda"
    took_s = 134_000.0 if is_gpu else 134.0
    is_moving = has_steps and state is RunState.RUNNING
    gpu_status = {"elapsed_s": took_s, "machine_energy_j": 8.3e6, "cost": 0.39, "mfu_frac": 0.431} | (
        {"tokens_per_second": 3_120.0} if has_steps else {}
    )
    base = RunSnapshot(
        status=status(
            state,
            the_plan,
            frac,
            eta_s=(186_000.0 if device.kind == "cuda" else 187.0) if state is RunState.RUNNING else None,
            **gpu_status if device.kind == "cuda" else {},
        ),
        plan=the_plan,
        corpus="builtin:python",
        phase="training" if state is RunState.RUNNING else state.value,
        is_stale=False,
        silent_s=0.6,
        progress=None,
        train_losses=losses(tokens, took_s=took_s) if has_steps else (),
        val_losses=losses(tokens, 9, 0.01, took_s) if has_steps else (),
        learning_rate=4e-3 if has_steps else None,
        grad_norm=0.83 if has_steps else None,
        memory_bytes=734 * 2**20 if has_steps else None,
        sensors=sensors(device),
        sensor=SensorRow(
            at=NOW,
            gpu_watts_source="nvml" if device.kind == "cuda" else None,
            cpu_watts_source="estimate",
            machine_watts_source="partly measured" if device.kind == "cuda" else "estimate",
            gpu_limit_watts=35.0 if is_gpu else None,
            gpu_memory_used_bytes=3_420_000_000 if is_gpu else None,
            gpu_memory_total_bytes=4 * 2**30 if is_gpu else None,
        ),
        cost=cost(device, (8.3e6 if is_gpu else 8_300.0) if has_steps else None),
        text_sample=SAMPLE if has_steps else None,
        events=EVENTS if has_steps else EVENTS[:1],
        checkpoint=CheckpointRow(
            step=200, at=NOW - 5, tokens=819_200, folder="step-200", total_bytes=2**26, write_s=0.4
        )
        if has_steps
        else None,
        num_checkpoints=2 if has_steps else 0,
        span=ShownSpan(
            from_s=0.0, until_s=took_s, newest_s=took_s, is_whole=True, from_at=NOW - took_s, until_at=NOW
        ),
        eta_low_s=(171_000.0 if is_gpu else 180.0) if is_moving else None,
        eta_high_s=(214_000.0 if is_gpu else 221.0) if is_moving else None,
        corpus_tokens=310_000_000 if is_gpu else 3_900_000,
        limits=Limits(max_gpu_celsius=87.0, resume_gpu_celsius=70.0, gpu_watts=35.0 if is_gpu else None),
    )
    return replace(base, **changes)


RAMP = tuple(
    RampRow(
        number=number,
        ramp=1,
        at=NOW - 20 + 2 * number,
        micro_batch=2**number,
        num_recomputed_blocks=0,
        state=state,
        memory_bytes=memory_bytes,
        budget_bytes=3_600_000_000,
        tokens_per_s=tokens_per_s,
    )
    for number, (state, tokens_per_s, memory_bytes) in enumerate(
        (
            ("proven", 4_120.0, 1_500_000_000),
            ("proven", 5_010.0, 1_720_000_000),
            ("proven", 5_630.0, 2_050_000_000),
            ("proven", 5_700.0, 2_700_000_000),
            ("slower", 5_100.0, 3_400_000_000),
            ("trying", None, None),
        )
    )
)


def in_state(name: str) -> RunSnapshot:
    """The states that the screens have to tell apart, by name."""
    if name == "gpu":
        return snapshot(device=GPU)
    if name == "preparing":
        progress = ProgressRow(
            kind="tokens", at=NOW, done_bytes=5_200_000, total_bytes=12_900_000, bytes_per_s=4.1e6
        )
        return snapshot(RunState.PREPARING, frac=None, phase="turning text into tokens", progress=progress)
    if name == "ramp":
        return snapshot(
            RunState.PREPARING, frac=None, phase="finding the batch size: 32 sequences", ramp=RAMP
        )
    if name == "paused":
        shot = snapshot(RunState.PAUSED)
        return replace(shot, status=replace(shot.status, reason="Paused by ana@laptop (the app)."))
    if name == "stale":
        return snapshot(is_stale=True, silent_s=42.0)
    if name == "abandoned":
        shot = snapshot(RunState.FAILED, is_stale=True, silent_s=4_210.0)
        return replace(shot, status=replace(shot.status, reason="Its supervisor is gone without a word."))
    if name == "failed":
        shot = snapshot(RunState.FAILED)
        reason = "The trainer died six times in a row, last with exit code 1: out of memory."
        return replace(shot, status=replace(shot.status, reason=reason, restarts=5))
    if name == "stopped":
        shot = snapshot(RunState.STOPPED)
        return replace(shot, status=replace(shot.status, reason="Stopped by ana@laptop (the app)."))
    if name == "finished":
        return snapshot(RunState.FINISHED, frac=1.0)
    return snapshot()


def in_span(shot: RunSnapshot, span: TimeSpan) -> RunSnapshot:
    """The same run with the curves of a stretch of time; its steps took equally long."""
    if shot.span is None or span.width_s is None:
        return shot
    newest_s = shot.span.newest_s
    until_s = newest_s if span.until_s is None else span.until_s
    shown = ShownSpan(
        from_s=until_s - span.width_s,
        until_s=until_s,
        newest_s=newest_s,
        is_whole=False,
        from_at=NOW - newest_s + until_s - span.width_s,
        until_at=NOW - newest_s + until_s,
    )

    def within(points: tuple[LossPoint, ...]) -> tuple[LossPoint, ...]:
        return tuple(p for p in points if shown.from_at <= (p.at or NOW) <= shown.until_at)

    return replace(
        shot, train_losses=within(shot.train_losses), val_losses=within(shot.val_losses), span=shown
    )


def summary(shot: RunSnapshot, run_id: str = RUN_ID, ago_s: float = 140.0) -> RunSummary:
    """The line of a run in the list."""
    return RunSummary(
        id=run_id,
        created_at=NOW - ago_s,
        preset=shot.plan.preset,
        parameters=shot.plan.shape.parameters,
        is_stale=shot.is_stale,
        status=replace(shot.status, id=run_id),
    )


def entry(run_id: str, ago_s: float, **changes: Any) -> LedgerEntry:
    """A line of the ledger."""
    base = LedgerEntry(
        run_id=run_id,
        at=NOW - ago_s,
        started_at=NOW - ago_s - 600,
        state="finished",
        preset="tiny",
        parameters=PRESETS["tiny"].parameters,
        device="AMD Ryzen 5 5600H",
        corpus="builtin:python",
        tokens=2_002_944,
        elapsed_s=402.0,
        restarts=0,
        loss=2.91,
        val_loss=3.01,
        val_bits_per_byte=1.51,
        gpu_energy_j=None,
        machine_energy_j=24_900.0,
        energy_source="estimate",
        gap_s=0.0,
        price_per_kwh=0.17,
        currency="USD",
        cost=0.00118,
        grams_co2=None,
        storage_bytes=140_000_000,
        gpu_celsius_mean=None,
        gpu_celsius_max=None,
        gpu_watts_mean=None,
        gpu_watts_max=None,
        cpu_celsius_max=83.0,
        machine_watts_mean=62.0,
        waivers="{}",
        training_tokens_per_s=5_240.0,
        tokens_total=2_002_944,
        memory_bytes=734 * 2**20,
        predicted_memory_bytes=812 * 2**20,
        predicted_hours=0.09,
        predicted_machine_kwh=0.0061,
        predicted_cost=0.00104,
        predicted_basis="formula: 6 cores of 15 to 45 GFLOP/s each (AVX2); not measured on this machine",
        corpus_bytes=12_900_000,
        shards_bytes=7_800_000,
        checkpoints_bytes=108_000_000,
        model_bytes=16_000_000,
        database_bytes=200_000,
        days=days(ago_s),
    )
    return replace(base, **changes)


def days(ago_s: float, costs: tuple[float, ...] = (0.0004, 0.00078)) -> str:
    """The days of a run that ended so long ago, the last of `costs` on its last day."""
    first = NOW - ago_s - 86_400 * (len(costs) - 1)
    lines = [
        DayLine(
            run_id="x",
            day=time.strftime("%Y-%m-%d", time.gmtime(first + 86_400 * n)),
            hours=1.0,
            cost=cost,
        )
        for n, cost in enumerate(costs)
    ]
    return msgspec.json.encode(lines).decode()


def estimated(device: Device = GPU, move: bool = False) -> Estimate:
    """A plan as the engine makes it on a machine without a ledger; with `move`, while a run is going."""
    settings = Settings(
        cloud=CloudSettings(offers=[CloudOffer(name="a friend", gpu="NVIDIA T4", usd_per_hour=0.1)])
    )
    found = estimate(settings, device, Path("/nonexistent"), corpus_tokens=1_000_000_000, now=1_790_000_000.0)
    if not move:
        return found
    shot = snapshot(device=device)
    quotes = quotes_for(run_flop(shot.plan) * 0.58, settings.cloud.offers, left_frac=0.58)
    return replace(found, move=move_of(shot.status, shot.cost, quotes, settings.cloud))


def detailed(known: LedgerEntry) -> EntryDetail:
    """What is worked out of an entry; the sizes are made up."""
    storage = StorageBook(
        corpus_bytes=12_900_000,
        shards_bytes=7_800_000,
        checkpoints=(
            CheckpointSize(name="step-400", num_bytes=54_000_000),
            CheckpointSize(name="step-489", num_bytes=54_000_000),
        ),
        model_bytes=16_000_000,
        database_bytes=200_000,
        other_bytes=600_000,
        forecast_bytes=124_800_000,
        peak_bytes=None,
        retention_bytes=108_000_000,
        retention_basis="every checkpoint: the finished model stands",
        cloud_usd_per_month=None,
        cloud_basis="unknown: set cloud.usd_per_gib_month",
    )
    return EntryDetail(
        storage=storage,
        break_even=break_evens(
            quotes_for(entry_flop(known)),
            local=known.cost,
            kwh=None if known.machine_energy_j is None else known.machine_energy_j / 3.6e6,
            hours=known.elapsed_s / 3600,
            currency=known.currency,
            rate=1.0 if known.currency == "USD" else None,
        ),
    )


def checks(blocking: bool = True) -> list[Check]:
    """A preflight; two of its checks block if `blocking`."""

    def check(check_id: str, title: str, state: Any, evidence: str, remedy: str = "", **more: Any) -> Check:
        return Check(
            id=check_id,
            title=title,
            status=state,
            blocking=state == "fail",
            evidence=evidence,
            remedy=remedy,
            **more,
        )

    def figure(label: str, unit: Any, now: float, **more: Any) -> Figure:
        return Figure(label=label, unit=unit, now=now, **more)

    bad = "fail" if blocking else "pass"
    mib = 2**20
    return [
        check(
            "settings",
            "Settings",
            "pass",
            "settings.toml is valid: model tiny with 4,524,288 parameters, 2,002,944 tokens in 489 steps.",
        ),
        check(
            "corpus",
            "Corpus",
            "pass",
            "builtin:python: 1,672 files, 12.9 MB, about 3.9 million tokens for a vocabulary of 4,096; the run "
            "reads them 0.5 times.",
            figures=(figure("text", "bytes", 12_900_000, needed=4096),),
        ),
        check(
            "device",
            "Device and torch",
            "pass",
            "NVIDIA GeForce RTX 2050, compute capability 8.6, driver 580.65.06, torch 2.13.0 with CUDA 13.0; bf16.",
        ),
        check(
            "close-apps",
            "Close applications",
            bad,
            "firefox (pid 2210, 180 MiB of GPU memory, 2 h) is open. 3 more hold GPU memory: blender 1.86 GiB.",
            "Close firefox, or waive this if its memory is not needed.",
            remedy_action="close-apps",
        ),
        check(
            "free-vram",
            "VRAM free",
            "warn",
            "1.27 GiB free, 1.27 GiB at the first look, the plan needs 3.02 GiB of 4.00 GiB.",
            "Close what holds it.",
            remedy_action="close-apps",
            figures=(figure("VRAM free", "bytes", 3_200 * mib, before=1_300 * mib, needed=3_090 * mib),),
        ),
        check(
            "memory",
            "Memory",
            "pass",
            "11.0 GiB of 15.3 GiB RAM free, the run needs 1.31 GiB; 2.00 GiB of 2.00 GiB swap free.",
            figures=(
                figure("RAM free", "bytes", 11_264 * mib, needed=1_340 * mib),
                figure("swap free", "bytes", 2_048 * mib),
            ),
        ),
        check(
            "disk",
            "Disk for checkpoints",
            "pass",
            "41.2 GiB free on / (ext4); at its peak the run needs 0.31 GiB: 3 checkpoints of 52 MiB, one of them "
            "being written, the model 17 MiB, the tokens 8 MiB; 5.00 GiB are to stay free.",
            figures=(figure("disk free", "bytes", 42_189 * mib, needed=5_437 * mib),),
        ),
        check(
            "power",
            "Power supply",
            bad,
            "On battery, battery at 61%.",
            "Plug the machine in, or set preflight.require_ac_power = false.",
            figures=(figure("battery", "frac", 0.61),),
        ),
        check(
            "sleep",
            "Sleep and lid",
            "warn",
            "The inhibit lock was refused: interactive authentication is required (over SSH an ordinary user may "
            "not). logind suspends after 20 min idle.",
            "Turn automatic suspend off for the time of the run.",
        ),
        check(
            "logout",
            "Survives logout",
            "pass",
            "The run is set free by systemd-run: a user scope, and ana lingers.",
        ),
        check(
            "sensors",
            "Sensors",
            "warn",
            "GPU temperature measured, 52 °C; GPU power measured by nvml, 9 W; CPU temperature measured, 48 °C; "
            "CPU power estimated, 14 W; machine power estimated, 38 W.",
            "Set energy.cpu_rated_watts and energy.rest_of_machine_watts to your machine's.",
        ),
        check(
            "temperature",
            "Start temperature",
            "pass",
            "The GPU is at 52 °C.",
            figures=(figure("GPU", "celsius", 52, needed=75),),
        ),
        check("device-free", "No other run", "pass", "No other run holds this device: its lock was free."),
        check(
            "rehearsal",
            "Rehearsal",
            "pass",
            "In 6.2 s, with micro-batch 8: a step would take 0.66 s (6,204 tokens/s), the validation of a batch took "
            "0.21 s, a save of 54 MB 0.4 s, a load 0.1 s; at most 0.72 GiB of GPU memory.",
            figures=(
                figure("step", "s", 0.66),
                figure("validation of a batch", "s", 0.21),
                figure("save", "s", 0.4),
                figure("load", "s", 0.1),
                figure("GPU memory", "bytes", 734 * mib, needed=3_300 * mib),
                figure("speed", "tokens_per_s", 6_204),
            ),
        ),
        check("notify", "Notifications arrive", "skipped", "None is set: notify.url is empty."),
        check(
            "manual-1",
            "laptop on a hard surface, fan free",
            "pass",
            "Ticked by hand: laptop on a hard surface.",
        ),
    ]


def unticked() -> list[Check]:
    """A clear preflight but for a step of the person's own; the rehearsal waits for it."""
    found = checks(blocking=False)
    found[-1] = replace(
        found[-1],
        status="fail",
        blocking=True,
        evidence="Not ticked: laptop on a hard surface, fan free",
        remedy="See that it is so, then tick it: --tick manual-1",
        remedy_action="tick",
    )
    return found


def program(pid: int, name: str, **changes: Any) -> OpenProcess:
    """A program that may be closed."""
    base = OpenProcess(
        pid=pid,
        started_s=float(pid),
        name=name,
        user="ana",
        gpu_bytes=300 * 2**20,
        rss_bytes=900 * 2**20,
        age_s=7_300.0,
        is_unwanted=True,
        may_close=True,
    )
    return replace(base, **changes)


def opened_programs() -> OpenProcesses:
    """A desktop on which some programs hold the GPU."""
    return OpenProcesses(
        processes=(
            program(4410, "blender", gpu_bytes=1_900 * 2**20, rss_bytes=3 * 2**30, age_s=260_000.0),
            program(
                1187,
                "gnome-shell",
                gpu_bytes=240 * 2**20,
                is_unwanted=False,
                may_close=False,
                why_not="It draws the desktop: every window would close with it.",
            ),
            program(2210, "firefox", gpu_bytes=180 * 2**20),
            program(
                901,
                "jupyter-lab",
                user="bob",
                gpu_bytes=96 * 2**20,
                may_close=False,
                why_not="It belongs to bob.",
            ),
            program(2377, "Web Content", gpu_bytes=0, rss_bytes=420 * 2**20, age_s=45.0),
        ),
        free_bytes=1_300 * 2**20,
        note="",
    )


def closings(*outcomes: tuple[OpenProcess, Any], **changes: Any) -> ClosingReport:
    """What came of closing programs: each with its outcome."""
    reasons = {
        "still-there": "It has not ended within 5 s; it can be killed, without saving its work.",
        "refused": "This user may not end it.",
        "gone": "It had ended already.",
    }
    report = ClosingReport(
        closings=tuple(
            Closing(process=process, outcome=outcome, reason=reasons.get(outcome, ""), waited_s=0.4)
            for process, outcome in outcomes
        ),
        free_before_bytes=1_300 * 2**20,
        free_after_bytes=3_200 * 2**20,
    )
    return replace(report, **changes)


class RecordedBridge:
    """Hands out recorded facts in place of a workspace, and remembers what it was asked."""

    def __init__(
        self, *shots: RunSnapshot, has_settings: bool = True, entries: tuple[LedgerEntry, ...] = ()
    ) -> None:
        self.shots = {shot.status.id: shot for shot in shots}
        self.is_workspace = has_settings
        self.entries = entries
        self.verdicts: list[Check] = checks()
        self.asked: list[tuple[str, str]] = []
        self.in_the_way: list[Check] = []
        """What blocks a resume until it is waived or ticked."""
        self.decided: list[tuple[dict[str, str], list[str]]] = []
        """The waivers and ticks of each asking."""
        self.started: list[dict[str, str]] = []
        self.num_snapshots = 0
        self.spans: list[TimeSpan] = []
        self.failure: EngineError | None = None
        self.known: tuple[Check, ...] = ()
        self.slow: dict[str, float] = {}
        """Seconds that a check takes, by its id."""
        self.open = opened_programs()
        self.closed: list[tuple[tuple[int, ...], bool]] = []
        self.closing_reports: list[ClosingReport] = []
        self.close_s = 0.0
        self.applied: list[str] = []
        self.plan = estimated()
        self.details = {known.run_id: detailed(known) for known in entries}
        self.folder_of_settings = Path(tempfile.mkdtemp(prefix="llm-tui-recorded-"))
        self.settings_path = self.folder_of_settings / "settings.toml"
        if has_settings:
            self.settings_path.write_text(template(), "utf-8")
        self.digest: Digest | None = None
        self.tags: dict[str, tuple[str, ...]] = {}
        self.removed: list[tuple[str, str]] = []
        self.damaged: tuple[DamagedRun, ...] = ()
        self.book = SampleBook(run_id=RUN_ID, samples=samples(), sources=("step-400", "step-200"))
        self.texts: list[TextRequest] = []

    def appearance(self) -> Appearance:
        return read_appearance(self.settings_path)

    def opening(self) -> Opening:
        return Opening("" if self.shots or not self.is_workspace else "preflight")

    def keep_theme(self, name: str) -> None:
        self.save_settings(self.settings_form(), {"ui.theme": f'"{name}"'})

    def has_settings(self) -> bool:
        return self.is_workspace

    def write_settings(self) -> Path:
        self.is_workspace = True
        self.settings_path.write_text(template(), "utf-8")
        return self.settings_path

    def runs(self) -> tuple[RunSummary, ...]:
        return tuple(
            replace(summary(shot, run_id), tags=self.tags.get(run_id, ()))
            for run_id, shot in self.shots.items()
        )

    def damaged_runs(self, known: Sequence[str]) -> tuple[DamagedRun, ...]:
        return self.damaged

    def snapshot(self, run_id: str, span: TimeSpan, num_columns: int) -> RunSnapshot:
        self.num_snapshots += 1
        self.spans.append(span)
        if self.failure:
            raise self.failure
        return in_span(self.shots[run_id], span)

    def start(self, waivers: Mapping[str, str], ticks: Sequence[str] = ()) -> str:
        if self.failure:
            raise self.failure
        self.started.append({**waivers, **{check_id: "ticked" for check_id in ticks}})
        self.shots[RUN_ID] = in_state("preparing")
        return RUN_ID

    def ask(
        self, run_id: str, verb: str, waivers: Mapping[str, str] | None = None, ticks: Sequence[str] = ()
    ) -> tuple[bool, str]:
        self.asked.append((run_id, verb))
        self.decided.append((dict(waivers or {}), list(ticks)))
        left = [check for check in self.in_the_way if check.id not in {*(waivers or ()), *ticks}]
        if left:
            raise BlockedError("Checks stand in the way.", "Waive them.", left)
        state = {"pause": RunState.PAUSED, "resume": RunState.RUNNING, "stop": RunState.STOPPED}.get(verb)
        if state:
            self.shots[run_id] = snapshot(state)
        return True, f"{verb}: done"

    def ledger(self) -> tuple[LedgerEntry, ...]:
        if self.failure:
            raise self.failure
        return self.entries

    def estimate(self) -> Estimate:
        if self.failure:
            raise self.failure
        return self.plan

    def settings_form(self) -> SettingsForm:
        return settings_edit.read_form(self.settings_path)

    def check_settings(self, form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        settings_edit.check(form, changes)

    def save_settings(self, form: SettingsForm, changes: Mapping[str, str | None]) -> None:
        settings_edit.save(form, changes)

    def estimate_of(self, form: SettingsForm, changes: Mapping[str, str | None]) -> Estimate:
        if self.failure:
            raise self.failure
        return estimate(
            settings_edit.check(form, changes),
            GPU,
            self.folder_of_settings,
            corpus_tokens=1_000_000_000,
            now=1_790_000_000.0,
        )

    def look(self, run_id: str) -> Digest | None:
        digest, self.digest = self.digest, None
        return digest

    def samples(self, run_id: str) -> SampleBook:
        if self.failure:
            raise self.failure
        return self.book

    async def text(self, run_id: str, request: TextRequest) -> AsyncGenerator[str, None]:
        self.texts.append(request)
        for piece in SAMPLE.text.split(" "):
            await asyncio.sleep(0.01)
            yield f"{piece} "

    def log(self, run_id: str) -> LogReader:
        if self.failure:
            raise self.failure
        return LogReader(recorded_log(self.folder_of_settings / "runs" / run_id))

    def entry_detail(self, entry: LedgerEntry) -> EntryDetail:
        return self.details.get(entry.run_id, EntryDetail(storage=None, break_even=()))

    def steps(self) -> tuple[CheckStep, ...]:
        return tuple(CheckStep(id=check.id, title=check.title) for check in self.verdicts)

    def known_checks(self) -> tuple[Check, ...]:
        return self.known

    async def checks(
        self, waivers: Mapping[str, str], ticks: Sequence[str] = ()
    ) -> AsyncGenerator[Check, None]:
        for check in self.verdicts:
            if check.blocking and check.id in waivers:
                evidence = f"{check.evidence} Waived: {waivers[check.id]}"
                check = replace(check, status="waived", blocking=False, evidence=evidence)
            elif check.id in ticks:
                evidence = f"Ticked by hand: {check.title}"
                check = replace(check, status="pass", blocking=False, evidence=evidence, remedy_action="")
            if check.id in self.slow:
                await asyncio.sleep(self.slow[check.id])
            yield replace(check, at=time.time(), seconds=0.1)

    def open_processes(self) -> OpenProcesses:
        if self.failure:
            raise self.failure
        return self.open

    def close_processes(self, processes: Sequence[OpenProcess], kill: bool = False) -> ClosingReport:
        self.closed.append((tuple(process.pid for process in processes), kill))
        if self.close_s:
            time.sleep(self.close_s)
        return self.closing_reports.pop(0) if len(self.closing_reports) > 1 else self.closing_reports[0]

    def apply_remedy(self, action: str) -> str:
        if self.failure:
            raise self.failure
        self.applied.append(action)
        return f"{action}: done."

    # --- the shelf of runs ---

    def set_tags(self, run_id: str, tags: Sequence[str]) -> tuple[str, ...]:
        if any(len(tag) > 24 for tag in tags):
            raise EngineError(f"{tags[0]!r} cannot be a tag.", "Make it shorter.")
        self.tags[run_id] = tuple(tags)
        return self.tags[run_id]

    def removal(self, run_id: str, kind: RemovalKind) -> Removal:
        if not self.shots[run_id].status.state.is_over:
            raise EngineError(f"Run {run_id} is going.", "Stop it first.")
        return Removal(
            run_id=run_id,
            kind=kind,
            freed_bytes=108_000_000,
            goes="2 checkpoints",
            stays="its model and curves",
        )

    def remove(self, run_id: str, kind: RemovalKind) -> Removal:
        told = self.removal(run_id, kind)
        self.removed.append((run_id, kind))
        if kind == "delete":
            del self.shots[run_id]
        return told

    def compare(self, run_ids: Sequence[str], num_columns: int) -> Comparison:
        curves = []
        for number, run_id in enumerate(run_ids):
            shot = self.shots[run_id]
            points = tuple(
                LossPoint(tokens=p.tokens, loss=p.loss + 0.15 * number, step=p.step, at=p.at)
                for p in shot.train_losses
            )
            curves.append(
                RunCurves(
                    run_id=run_id,
                    state=shot.status.state,
                    tags=self.tags.get(run_id, ()),
                    tokens=shot.status.tokens,
                    tokens_total=shot.status.tokens_total,
                    loss=shot.status.loss,
                    val_loss=shot.status.val_loss,
                    val_bits_per_byte=shot.status.val_bits_per_byte,
                    elapsed_s=shot.status.elapsed_s,
                    machine_energy_j=shot.status.machine_energy_j,
                    cost=shot.status.cost,
                    currency=shot.status.currency,
                    train_losses=points,
                    val_losses=shot.val_losses,
                )
            )
        differences = (
            Difference(
                key="training.learning_rate",
                values=tuple(f"{0.004 / (n + 1):g}" for n in range(len(run_ids))),
            ),
            Difference(key="training.optimizer", values=("muon", *["adamw"] * (len(run_ids) - 1))),
            Difference(key="corpus.source", values=("builtin:python", *["texts"] * (len(run_ids) - 1))),
        )
        return Comparison(runs=tuple(curves), differences=differences)
