"""The order of the checks, and what a waiver may and may not do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from engine.errors import EngineError
from engine.preflight import accelerator, inputs, machine
from engine.preflight.context import Context, Verdict, refused, skipped
from engine.process import module_argv
from engine.records import Check


class Step(msgspec.Struct, frozen=True):
    """One line of the checklist."""

    id: str
    title: str
    check: Callable[[Context], Verdict]
    is_waivable: bool = True


STEPS = (
    Step("settings", "Settings", inputs.check_settings, is_waivable=False),
    Step("corpus", "Corpus", inputs.check_corpus, is_waivable=False),
    Step("device", "Device and torch", accelerator.check_device, is_waivable=False),
    Step("close-apps", "Close applications", accelerator.check_close_apps),
    Step("free-vram", "VRAM free", accelerator.check_free_vram),
    Step("memory", "Memory", machine.check_memory),
    Step("disk", "Disk for checkpoints", machine.check_disk),
    Step("power", "Power supply", machine.check_power),
    Step("sleep", "Sleep and lid", machine.check_sleep),
    Step("logout", "Survives logout", machine.check_logout),
    Step("sensors", "Sensors", machine.check_sensors),
    Step("temperature", "Start temperature", machine.check_temperature),
    Step("device-free", "No other run", accelerator.check_device_free),
)


def refuse_unknown_waivers(waivers: Mapping[str, str]) -> None:
    """Raise EngineError where a waiver names a check that does not exist or that cannot be waived."""
    known = {step.id: step for step in STEPS}
    for check_id in waivers:
        if check_id not in known:
            raise EngineError(
                f"There is no check {check_id!r} to waive.", f"The checks are: {', '.join(known)}."
            )
        if not known[check_id].is_waivable:
            raise EngineError(
                f"The check {check_id} cannot be waived.", "Mend what it found: see `llm-tui check`."
            )


def run(context: Context, waivers: Mapping[str, str]) -> Iterator[Check]:
    """Every check in order, each as soon as its verdict is known; a broken setting skips the rest.

    Raises: EngineError as `refuse_unknown_waivers`.
    """
    refuse_unknown_waivers(waivers)
    has_settings = True
    for step in STEPS:
        try:
            verdict = step.check(context) if has_settings else skipped("Needs valid settings.")
        except EngineError as error:
            verdict = refused(error)
        has_settings = has_settings and not (step.id == "settings" and verdict.status == "fail")
        yield _judge(step, verdict, waivers)


def _judge(step: Step, verdict: Verdict, waivers: Mapping[str, str]) -> Check:
    is_failed = verdict.status == "fail"
    is_waived = is_failed and step.is_waivable and step.id in waivers
    evidence, remedy = verdict.evidence, verdict.remedy
    if is_waived:
        evidence = f"{evidence} Waived: {waivers[step.id]}"
    elif is_failed and not step.is_waivable:
        remedy = f"{remedy} This check cannot be waived.".strip()
    return Check(
        id=step.id,
        title=step.title,
        status="waived" if is_waived else verdict.status,
        blocking=is_failed and not is_waived,
        evidence=evidence,
        remedy=remedy,
    )


async def collect(
    workspace: Path, settings_path: Path, run_folder: Path, waivers: Mapping[str, str]
) -> list[Check]:
    """Run the checks in a process of their own, so that a driver that hangs or crashes takes nothing along.

    A preflight that dies is itself a check that fails.
    """
    command = module_argv(
        "engine.preflight",
        str(workspace),
        f"--settings={settings_path}",
        f"--run={run_folder}",
        *(f"--waive={check}={reason}" for check, reason in waivers.items()),
    )
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr
    )
    output, _ = await process.communicate()
    checks = [msgspec.json.decode(line, type=Check) for line in output.splitlines()]
    if process.returncode:
        died = f"The preflight itself ended with exit code {process.returncode}."
        checks.append(
            Check(
                id="settings",
                title="Preflight",
                status="fail",
                blocking=True,
                evidence=died,
                remedy="Read the run's log; run `llm-tui check`.",
            )
        )
    return checks
