"""The lines of the checklist, in their order, and what a waiver or a tick may name; light to import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from engine.errors import EngineError
from engine.records import Check, CheckStep
from engine.settings import Settings

MANUAL = "manual-"
"""How the ids of the person's own steps begin; a number from 1 follows."""

STEPS = (
    CheckStep(id="settings", title="Settings", is_waivable=False),
    CheckStep(id="corpus", title="Corpus", is_waivable=False),
    CheckStep(id="device", title="Device and torch", is_slow=True),
    CheckStep(id="close-apps", title="Close applications"),
    CheckStep(id="free-vram", title="VRAM free"),
    CheckStep(id="memory", title="Memory"),
    CheckStep(id="disk", title="Disk for checkpoints"),
    CheckStep(id="power", title="Power supply"),
    CheckStep(id="sleep", title="Sleep and lid"),
    CheckStep(id="logout", title="Survives logout"),
    CheckStep(id="sensors", title="Sensors", is_slow=True),
    CheckStep(id="temperature", title="Start temperature", is_slow=True),
    CheckStep(id="device-free", title="No other run"),
    CheckStep(id="rehearsal", title="Rehearsal", is_slow=True),
    CheckStep(id="notify", title="Notifications arrive", is_slow=True),
)


def steps(settings: Settings | None) -> tuple[CheckStep, ...]:
    """Every line of the checklist; None: settings that cannot be read, whose own steps are unknown."""
    own = settings.preflight.manual if settings else []
    is_off = settings is not None and not settings.preflight.rehearsal
    return (
        *(msgspec.structs.replace(step, is_off=is_off and step.id == "rehearsal") for step in STEPS),
        *(CheckStep(id=f"{MANUAL}{number}", title=text) for number, text in enumerate(own, start=1)),
    )


def refuse_unknown(settings: Settings | None, waivers: Mapping[str, str], ticks: Iterable[str]) -> None:
    """Refuse waivers and ticks that name nothing.

    `settings` is None where they cannot be read; any number of an own step is let pass then.
    Raises: EngineError where a waiver names a check that does not exist or never can be waived, or a tick one that is
    not ticked by hand.
    """
    known = {step.id: step for step in steps(settings)}
    for check_id in waivers:
        if settings is None and re.fullmatch(rf"{MANUAL}\d+", check_id):
            continue
        if check_id not in known:
            raise EngineError(
                f"There is no check {check_id!r} to waive.", f"The checks are: {', '.join(known)}."
            )
        if not known[check_id].is_waivable:
            raise EngineError(
                f"The check {check_id} cannot be waived.", "Mend what it found: see `llm-tui check`."
            )
    by_hand = [check_id for check_id in known if check_id.startswith(MANUAL)]
    for check_id in ticks:
        if check_id not in by_hand and settings is not None:
            raise EngineError(
                f"There is no step {check_id!r} to tick by hand.",
                f"Those are: {', '.join(by_hand)}."
                if by_hand
                else "preflight.manual in settings.toml lists your own steps: it is empty.",
            )


def in_order(checks: Iterable[Check], order: Iterable[CheckStep]) -> Iterator[Check]:
    """Verdicts in the order of the list, each as soon as all before it are there; what the list lacks comes last."""
    early: dict[str, Check] = {}
    awaited = [step.id for step in order]
    for check in checks:
        early[check.id] = check
        while awaited and awaited[0] in early:
            yield early.pop(awaited.pop(0))
    yield from (early.pop(check_id) for check_id in awaited if check_id in early)
    yield from early.values()
