"""A short rehearsal: a few real optimizer steps of a plan on this machine, timed, and nothing of it kept but that.

The corpus is prepared as for a run, and stays in the cache for it; the trainer is the trainer of every run, in a
folder of its own that is deleted afterwards. The device's lock is held meanwhile, so that no run is disturbed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from engine import __version__
from engine.errors import RunFailedError
from engine.process import module_argv
from engine.records import EventRow, RunPlan, StepRow
from engine.rehearsal import Rehearsal, keep
from engine.runs import folder as folders
from engine.runs.lock import REHEARSING, Lock, device_lock_path
from engine.runs.store import RunStore
from engine.settings import Settings

TIMED_STEPS = 6
MOST_TIMED_S = 30.0
"""After so long the steps that are done are enough, from two on."""
MOST_S = 600.0
"""A rehearsal whose first steps take longer than this is given up."""


def rehearse(workspace: Path, settings: Settings, plan: RunPlan) -> Rehearsal:
    """Time a few steps of a plan, and keep the result in the workspace.

    Raises: RunFailedError where the device is taken, or the trainer does not get as far; CorpusError, StoreError.
    """
    lock = Lock(device_lock_path(plan.device.identity))
    if not lock.acquire(REHEARSING):
        raise RunFailedError(
            "The device is taken by a run, so that a rehearsal would measure both.",
            "Wait for the run to end, or stop it; its own speed is on the run screen.",
        )
    run = folders.create(
        workspace, settings, plan, {}, __version__, parent=workspace / "cache" / "rehearsals"
    )
    try:
        with contextlib.closing(run.open()) as store:
            _prepare(run, store)
            found = _measured(_timed_steps(run, store), plan)
    finally:
        folders.discard(run)
        lock.release()
    try:
        keep(workspace, found)
    except OSError as error:
        raise RunFailedError(
            f"The rehearsal cannot be kept: {error}", "Make the workspace writable."
        ) from error
    return found


def _prepare(run: folders.RunFolder, store: RunStore) -> None:
    with run.log_path.open("ab") as log:
        command = module_argv("engine.corpus", str(run.path))
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise RunFailedError(
            _told(store) or "The corpus could not be prepared.", "`llm-tui check` says what is wrong with it."
        )


@contextlib.contextmanager
def _trainer(run: folders.RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    """The trainer at work; it is killed at the end, since nothing of it is to be kept."""
    with run.log_path.open("ab") as log:
        process = subprocess.Popen(
            module_argv("engine.train", "run", str(run.path)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _timed_steps(run: folders.RunFolder, store: RunStore) -> list[StepRow]:
    """The steps that count: all but the first, which warms up."""
    began_s, first_s = time.monotonic(), None
    with _trainer(run) as trainer:
        while True:
            is_over = trainer.poll() is not None
            steps = store.rows(StepRow, "ORDER BY step")
            now_s = time.monotonic()
            first_s = now_s if first_s is None and steps else first_s
            timed = steps[1:]
            if len(timed) >= TIMED_STEPS:
                return timed
            is_enough = first_s is not None and now_s - first_s > MOST_TIMED_S
            if timed and (is_over or (is_enough and len(timed) >= 2)):
                return timed
            if is_over or now_s - began_s > MOST_S:
                raise RunFailedError(
                    _told(store) or "The trainer did not get as far as its second step.",
                    "`llm-tui check` says what stands in the way.",
                )
            time.sleep(0.1)


def _measured(timed: list[StepRow], plan: RunPlan) -> Rehearsal:
    rates = [step.tokens_per_s for step in timed]
    return Rehearsal(
        at=time.time(),
        device=plan.device.name,
        flops_per_token=plan.shape.flops_per_token,
        precision=plan.precision,
        micro_batch=timed[-1].micro_batch,
        steps=len(timed),
        tokens_per_s=statistics.harmonic_mean(rates),
        tokens_per_s_low=min(rates),
        tokens_per_s_high=max(rates),
        memory_bytes=max(
            (step.memory_bytes for step in timed if step.memory_bytes is not None), default=None
        ),
    )


def _told(store: RunStore) -> str | None:
    """The newest error that a process of the rehearsal told."""
    found = store.rows(EventRow, "WHERE level = 'error' ORDER BY rowid DESC LIMIT 1")
    return found[0].text if found else None
