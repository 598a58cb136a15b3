"""What the checks look at, found out once; and the short ways to write a verdict."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import EngineError
from engine.plan import make_plan
from engine.records import Device, RunPlan
from engine.settings import Settings
from engine.settings_file import FILE_NAME, load
from engine.telemetry.device import find_device

GIB = 2**30


class Context:
    """One preflight: the workspace, the settings in force, the device and the plan; each found when first asked."""

    def __init__(
        self,
        workspace: Path,
        settings_path: Path | None = None,
        overrides: tuple[str, ...] = (),
        run_folder: Path | None = None,
    ) -> None:
        self.workspace = workspace
        self.settings_path = settings_path or workspace / FILE_NAME
        self.overrides = overrides
        self.run_folder = run_folder
        """The run that is about to start, None where a person only looks."""

    @cached_property
    def settings(self) -> Settings:
        """The settings in force. Raises: SettingsError."""
        return load(self.settings_path, self.overrides)

    @cached_property
    def device(self) -> Device:
        """What the run will train on."""
        return find_device(self.settings)

    @cached_property
    def plan(self) -> RunPlan:
        """What the run will do. Raises: SettingsError."""
        return make_plan(self.settings, self.device)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found; the runner turns it into a `Check`."""

    status: Literal["pass", "warn", "fail", "skipped"]
    evidence: str
    remedy: str = ""


def passed(evidence: str) -> Verdict:
    """All is well."""
    return Verdict(status="pass", evidence=evidence)


def warned(evidence: str, remedy: str) -> Verdict:
    """Worth knowing; locks nothing."""
    return Verdict(status="warn", evidence=evidence, remedy=remedy)


def failed(evidence: str, remedy: str) -> Verdict:
    """Locks the start, unless it is waived."""
    return Verdict(status="fail", evidence=evidence, remedy=remedy)


def skipped(evidence: str) -> Verdict:
    """Cannot be checked here, or does not matter here."""
    return Verdict(status="skipped", evidence=evidence)


def refused(error: EngineError) -> Verdict:
    """What the engine itself refuses."""
    return failed(error.title, error.remedy)


def gib(num_bytes: float) -> str:
    """Bytes in GiB with two digits."""
    return f"{num_bytes / GIB:.2f} GiB"
