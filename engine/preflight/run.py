"""One preflight: the checks beside each other, what a waiver does to a verdict, what is kept for the next."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from engine.errors import EngineError, SettingsError
from engine.preflight import accelerator, inputs, kept, machine, presence, sensing
from engine.preflight.contact import check_notify, notify_key
from engine.preflight.context import Context, Verdict, failed, refused, skipped
from engine.preflight.rehearsal import check_rehearsal, rehearsal_key
from engine.preflight.steps import MANUAL, in_order, refuse_unknown, steps
from engine.process import module_argv
from engine.records import Check, CheckStep
from engine.settings import Settings

_CHECKS: dict[str, Callable[[Context], Verdict]] = {
    "settings": inputs.check_settings,
    "corpus": inputs.check_corpus,
    "device": accelerator.check_device,
    "close-apps": accelerator.check_close_apps,
    "free-vram": accelerator.check_free_vram,
    "memory": machine.check_memory,
    "disk": machine.check_disk,
    "power": machine.check_power,
    "sleep": presence.check_sleep,
    "logout": presence.check_logout,
    "sensors": sensing.check_sensors,
    "temperature": sensing.check_temperature,
    "device-free": accelerator.check_device_free,
    "notify": check_notify,
}
"""All but the rehearsal, which wants to know of the others, and the person's own."""
POLL_S = 0.2


def run(context: Context, waivers: Mapping[str, str]) -> Iterator[Check]:
    """Every check, each as soon as its verdict is known, which is not the order of the list.

    The settings come first, and broken ones skip the rest; the rehearsal is last. Raises: EngineError as
    `refuse_unknown`.
    """
    settings = _settings(context)
    refuse_unknown(settings, waivers, context.ticks)
    listed = {step.id: step for step in steps(settings)}
    found: list[Check] = []
    for check in _run(context, waivers, listed):
        found.append(check)
        yield check
    _keep(context, list(in_order(found, listed.values())))


def _settings(context: Context) -> Settings | None:
    try:
        return context.settings
    except SettingsError:
        return None


def _run(context: Context, waivers: Mapping[str, str], listed: dict[str, CheckStep]) -> Iterator[Check]:
    first = _carry_out(listed["settings"], inputs.check_settings, context, waivers)
    yield first
    rest = [step for step in listed.values() if step.id != "settings"]
    if first.blocking:
        for step in rest:
            yield _judge(step, skipped("Needs valid settings."), waivers, time.monotonic())
        return
    verdicts: queue.SimpleQueue[Check] = queue.SimpleQueue()

    def work(step: CheckStep, check: Callable[[Context], Verdict]) -> None:
        verdicts.put(_carry_out(step, check, context, waivers))

    beside = [step for step in rest if step.id != "rehearsal"]
    for step in beside:
        threading.Thread(target=work, args=(step, _check_of(step)), name=step.id, daemon=True).start()
    has_blocking = False
    for _ in beside:
        verdict = verdicts.get()
        has_blocking = has_blocking or verdict.blocking
        yield verdict
    rehearse = partial(check_rehearsal, has_blocking=has_blocking)
    yield _carry_out(listed["rehearsal"], rehearse, context, waivers)


def _check_of(step: CheckStep) -> Callable[[Context], Verdict]:
    if step.id.startswith(MANUAL):
        return partial(inputs.check_manual, check_id=step.id, text=step.title)
    return _CHECKS[step.id]


def _carry_out(
    step: CheckStep, check: Callable[[Context], Verdict], context: Context, waivers: Mapping[str, str]
) -> Check:
    """Make one check; it is the top of a worker, so that one that breaks is a verdict too."""
    began_s = time.monotonic()
    try:
        verdict = check(context)
    except EngineError as error:
        verdict = refused(error)
    except Exception as error:  # noqa: BLE001 - the top of a worker: told as the verdict
        verdict = failed(
            f"The check itself failed: {type(error).__name__}: {error}", "Report this; waive it to go on."
        )
    return _since(context, _judge(step, verdict, waivers, began_s))


_WAS = {"pass": "passed", "warn": "passed with a warning", "waived": "was waived", "skipped": "was skipped"}


def _since(context: Context, check: Check) -> Check:
    """A verdict that keeps a run from starting, with how long ago it still was another one."""
    before = next((known for known in context.kept.checks if known.id == check.id), None)
    if not check.blocking or context.run_folder is None or before is None or before.blocking:
        return check
    age_s = time.time() - (before.at or 0.0)
    if not 0 <= age_s <= kept.SESSION_S:
        return check
    was = _WAS.get(before.status, "did not block")
    evidence = f"{check.evidence} This check {was} {age_s:.0f} s ago."
    return msgspec.structs.replace(check, evidence=evidence)


def _judge(step: CheckStep, verdict: Verdict, waivers: Mapping[str, str], began_s: float) -> Check:
    is_failed = verdict.status == "fail"
    is_waivable = step.is_waivable and verdict.is_waivable
    is_waived = is_failed and is_waivable and step.id in waivers
    evidence, remedy = verdict.evidence, verdict.remedy
    if is_waived:
        evidence = f"{evidence} Waived: {waivers[step.id]}"
    elif is_failed and not is_waivable:
        remedy = f"{remedy} This cannot be waived.".strip()
    return Check(
        id=step.id,
        title=step.title,
        status="waived" if is_waived else verdict.status,
        blocking=is_failed and not is_waived,
        evidence=evidence,
        remedy=remedy,
        is_waivable=is_waivable,
        remedy_action=verdict.remedy_action,
        figures=verdict.figures,
        at=time.time(),
        seconds=round(time.monotonic() - began_s, 3),
    )


def _keep(context: Context, checks: list[Check]) -> None:
    """Leave for the next preflight what it may take over."""
    if checks[0].blocking:
        return
    before, slow = context.kept, dict(context.kept.slow)
    for check_id, key_of in (("rehearsal", rehearsal_key), ("notify", notify_key)):
        check = next((check for check in checks if check.id == check_id), None)
        key = key_of(context)
        # One that was taken over stays as old as it is.
        if check and check.status == "pass" and kept.fresh(before, check_id, key) is None:
            slow[check_id] = kept.SlowVerdict(key=key, check=check, at=check.at or 0.0)
    device = context.device
    first = before.first_look
    if device.kind == "cuda" and device.free_bytes is not None:
        first = kept.first_look(before, device.identity, device.free_bytes)
    kept.keep(context.workspace, kept.Kept(checks=tuple(checks), first_look=first, slow=slow))


async def collect(
    workspace: Path,
    settings_path: Path,
    run_folder: Path,
    waivers: Mapping[str, str],
    ticks: Sequence[str],
    is_unwanted: Callable[[], bool],
) -> list[Check]:
    """Run the checks in a process of their own, so that a driver that hangs or crashes takes nothing along.

    They come in the order of the list; none, once it `is_unwanted`, which is asked several times a second and ends the
    process. A preflight that dies is itself a check that fails.
    """
    command = module_argv(
        "engine.preflight",
        str(workspace),
        f"--settings={settings_path}",
        f"--run={run_folder}",
        *(f"--waive={check}={reason}" for check, reason in waivers.items()),
        *(f"--tick={check}" for check in ticks),
    )
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr
    )
    talking = asyncio.create_task(process.communicate())
    while not talking.done():
        await asyncio.wait({talking}, timeout=POLL_S)
        if is_unwanted() and not talking.done():
            process.terminate()
            await talking
            return []
    output, _ = talking.result()
    found = [msgspec.json.decode(line, type=Check) for line in output.splitlines()]
    own = [CheckStep(id=check.id, title=check.title) for check in found if check.id.startswith(MANUAL)]
    own.sort(key=lambda step: int(step.id.removeprefix(MANUAL)))
    checks = list(in_order(found, (*steps(None), *own)))
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
                is_waivable=False,
            )
        )
    return checks


def blocked_reason(blocking: list[Check]) -> str:
    """What keeps a run from starting, a line a check, each with its remedy."""
    return "\n".join(f"{check.id}: {check.evidence} {check.remedy}".strip() for check in blocking)
