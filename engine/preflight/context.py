"""What the checks look at, found out once; and the short ways to write a verdict."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import EngineError
from engine.plan import make_plan
from engine.preflight import kept
from engine.records import Device, Figure, RemedyAction, RunPlan
from engine.settings import Settings
from engine.settings_file import FILE_NAME, load
from engine.telemetry.device import find_device
from engine.telemetry.gpus import snapshot
from engine.telemetry.nvml import GpuSnapshot
from engine.telemetry.reading import Reading
from engine.telemetry.sampler import Sampler

GIB = 2**30


class Context:
    """One preflight: the workspace, the settings in force, the device and the plan; each found when first asked.

    Checks run beside each other, so each of these is found under a lock.
    """

    def __init__(
        self,
        workspace: Path,
        settings_path: Path | None = None,
        overrides: tuple[str, ...] = (),
        run_folder: Path | None = None,
        ticks: Collection[str] = (),
    ) -> None:
        self.workspace = workspace
        self.settings_path = settings_path or workspace / FILE_NAME
        self.overrides = overrides
        self.run_folder = run_folder
        """The run that is about to start, None where a person only looks."""
        self.ticks = ticks
        """Ids of the person's own steps that are done."""
        self.kept = kept.load(workspace)
        """What the preflight before left."""
        self.scratch: list[Path] = []
        """Folders that are deleted when the preflight ends, also one that is cancelled."""
        self._lock = threading.RLock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    @cached_property
    def settings(self) -> Settings:
        """The settings in force. Raises: SettingsError."""
        return load(self.settings_path, self.overrides)

    @cached_property
    def seen(self) -> GpuSnapshot:
        """Every GPU and who uses it."""
        with self._lock:
            return self._seen

    @cached_property
    def _seen(self) -> GpuSnapshot:
        return snapshot()

    @cached_property
    def device(self) -> Device:
        """What the run will train on."""
        return find_device(self.settings, self.seen)

    @cached_property
    def plan(self) -> RunPlan:
        """What the run will do. Raises: SettingsError."""
        return make_plan(self.settings, self.device)

    @cached_property
    def reading(self) -> Reading:
        """One reading of every sensor."""
        with self._lock:
            return self._reading

    @cached_property
    def _reading(self) -> Reading:
        # Two readings: loads and powers are differences.
        sampler = Sampler(self.settings.energy, interval_s=0.2)
        try:
            sampler.wait_ready(3.0)
            time.sleep(0.3)
            return sampler.read()
        finally:
            sampler.close()

    def ask(self, command: list[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, with its output; it ends with the preflight.

        Raises: subprocess.TimeoutExpired, with what it had said; CalledProcessError; OSError.
        """
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self._children.add(child)
        try:
            if self._is_closed:
                _kill(child)
            output, said = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(child)
            output, said = child.communicate()
            raise subprocess.TimeoutExpired(command, timeout_s, output, said) from None
        finally:
            _kill(child)
            self._children.discard(child)
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command, output, said)
        return subprocess.CompletedProcess(command, 0, output, said)

    def close(self) -> None:
        """End what the checks started and what still runs, and delete what they left."""
        self._is_closed = True
        for child in tuple(self._children):
            _kill(child)
        for folder in self.scratch:
            shutil.rmtree(folder, ignore_errors=True)


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found; the runner turns it into a `Check`."""

    status: Literal["pass", "warn", "fail", "skipped"]
    evidence: str
    remedy: str = ""
    remedy_action: RemedyAction = ""
    figures: tuple[Figure, ...] = ()
    is_waivable: bool = True
    """False where what failed makes a run impossible, whatever a person says."""


def passed(evidence: str, *figures: Figure) -> Verdict:
    """All is well."""
    return Verdict(status="pass", evidence=evidence, figures=figures)


def warned(evidence: str, remedy: str, *figures: Figure, action: RemedyAction = "") -> Verdict:
    """Worth knowing; locks nothing."""
    return Verdict(status="warn", evidence=evidence, remedy=remedy, figures=figures, remedy_action=action)


def failed(
    evidence: str, remedy: str, *figures: Figure, action: RemedyAction = "", is_waivable: bool = True
) -> Verdict:
    """Locks the start, unless it is waived."""
    return Verdict(
        status="fail",
        evidence=evidence,
        remedy=remedy,
        figures=figures,
        remedy_action=action,
        is_waivable=is_waivable,
    )


def skipped(evidence: str) -> Verdict:
    """Cannot be checked here, or does not matter here."""
    return Verdict(status="skipped", evidence=evidence)


def refused(error: EngineError) -> Verdict:
    """What the engine itself refuses, and no waiver can help."""
    return failed(error.title, error.remedy, is_waivable=False)


def amount(num_bytes: float | None) -> str:
    """Bytes in GiB with two digits, where those would hide them in MiB or as they are; None: unknown."""
    if num_bytes is None:
        return "an unknown amount"
    if num_bytes == 0 or num_bytes >= GIB / 10:
        return f"{num_bytes / GIB:.2f} GiB"
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 / 10 else f"{num_bytes:.0f} bytes"


def age(seconds: float) -> str:
    """A time that has passed, in its largest unit."""
    for size_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def last_words(error: subprocess.SubprocessError | OSError) -> str:
    """What a command said last on its stderr; else the error itself."""
    said = (getattr(error, "stderr", None) or b"").decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else str(error)
