"""How the checks before a run stand: what was found, what it was before, what the person waived and ticked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui import format as fmt
from tui.language import mark, tr
from tui.widgets.checklist import LAST_STEP, SIGNS, Standing
from tui.widgets.start_line import FRESH_S, Readiness, StartState

if TYPE_CHECKING:
    from engine.records import Check, CheckStep

_VRAM_STEP = "free-vram"


class CheckBoard:
    """The facts of the preflight screen; it shows nothing and asks nobody."""

    def __init__(self) -> None:
        self.steps: tuple[CheckStep, ...] = ()
        self.verdicts: dict[str, Check] = {}
        """Those found since the checks were last begun, by the id of their steps."""
        self.known: dict[str, Check] = {}
        """Those found before, which do not count."""
        self.waivers: dict[str, str] = {}
        self.ticks: set[str] = set()
        self.state: StartState = "idle"
        self.trouble = ""
        """Why checks or start did not work, cleaned; empty where they did."""
        self.starts_then = False
        """Whether a start follows the checks that are running."""
        self.is_cancelled = False
        self._began_s = 0.0
        self._begun_with: tuple[dict[str, str], set[str]] = ({}, set())
        """The waivers and ticks that the checks know of."""

    # --- the checks run -----------------------------------------------------------------------------------------

    def begin(self, *, starts_then: bool = False) -> None:
        """The checks begin anew; what was found before is from now on of before."""
        self.known |= self.verdicts
        self.verdicts, self.state, self._began_s = {}, "checking", time.monotonic()
        self.starts_then, self.is_cancelled = starts_then, False
        self._begun_with = (dict(self.waivers), set(self.ticks))

    def take_steps(self, steps: tuple[CheckStep, ...], known: tuple[Check, ...]) -> None:
        """The lines of the list, and the verdicts of the last time, where nothing newer is known."""
        self.steps = steps
        for check in known:
            before = self.known.get(check.id)
            if before is None or (check.at or 0) > (before.at or 0):
                self.known[check.id] = check

    def take(self, check: Check) -> None:
        """A verdict; one of checks that were cancelled meanwhile is too late."""
        if self.state != "checking":
            return
        self.verdicts[check.id] = check
        if all(step.id != check.id for step in self.steps):
            self.steps = (*self.steps, CheckStep(id=check.id, title=check.title))

    def end(self, trouble: str = "") -> bool:
        """The checks are through, or broke off; whether a start is to follow now."""
        if self.state != "checking":
            return False
        self.state = "idle" if trouble else "checked"
        starts_then, self.starts_then = self.starts_then, False
        if trouble:
            self.trouble = fmt.said(trouble)
        elif starts_then and not self.readiness().is_unlocked:
            self.trouble = tr("Not started. {why}", why=self._what_changed()).strip()
        return starts_then and self.readiness().is_unlocked

    def cancel(self) -> None:
        """The checks are given up; what they found stays, and opens nothing."""
        self.state, self.starts_then, self.is_cancelled, self.trouble = "idle", False, True, ""

    def clear(self) -> None:
        """A run was started: waivers and ticks are used up, and what was found no longer counts."""
        self.known |= self.verdicts
        self.verdicts, self.waivers, self.ticks = {}, {}, set()
        self.state, self.trouble = "idle", ""

    def _what_changed(self) -> str:
        return " ".join(
            tr(
                "{step} was {before}, is {now}.",
                step=fmt.said(step.title),
                before=tr(SIGNS[before.status][1]),
                now=tr(SIGNS[now.status][1]),
            )
            for step in self.steps
            if (before := self.known.get(step.id))
            and (now := self.verdicts.get(step.id))
            and before.status != now.status
        )

    # --- the person decides -------------------------------------------------------------------------------------

    def waive(self, check: Check, reason: str) -> None:
        """Pass over a check for the next start."""
        from msgspec.structs import replace

        self.waivers[check.id] = reason
        evidence = mark("{evidence} Waived: {reason}").format(evidence=check.evidence, reason=reason)
        self.verdicts[check.id] = replace(check, status="waived", blocking=False, evidence=evidence)

    def tick(self, check: Check, is_so: bool) -> None:
        """A step of the person's own is so, or is not after all."""
        from msgspec.structs import replace

        if is_so:
            self.ticks.add(check.id)
            told = replace(check, status="pass", evidence=f"Ticked by hand: {check.title}", remedy="")
            self.verdicts[check.id] = replace(told, blocking=False, remedy_action="")
        else:
            self.ticks.discard(check.id)
            told = replace(check, status="fail", evidence=f"Not ticked: {check.title}")
            self.verdicts[check.id] = replace(told, blocking=True, remedy_action="tick")

    @property
    def has_more_to_check(self) -> bool:
        """Whether the last lock is gone, opened by the person, and the step that had waited for it was left out."""
        last = self.verdicts.get(LAST_STEP)
        has_decided = self._begun_with != (self.waivers, self.ticks)
        is_off = any(step.is_off for step in self.steps if step.id == LAST_STEP)
        is_left_out = last is not None and last.status == "skipped" and not is_off
        return has_decided and is_left_out and self.readiness().is_unlocked

    # --- how it stands ------------------------------------------------------------------------------------------

    @property
    def has_old_verdicts(self) -> bool:
        """Whether a verdict is too old to start on."""
        now = time.time()
        return any(check.at is not None and now - check.at > FRESH_S for check in self.verdicts.values())

    @property
    def blocking_rows(self) -> list[int]:
        """The lines of the list that block."""
        checks = [self.verdicts.get(step.id) for step in self.steps]
        return [index for index, check in enumerate(checks) if check is not None and check.blocking]

    @property
    def needed_vram_bytes(self) -> float | None:
        """GPU memory that the run needs, as the newest check of it says; None: it does not."""
        check = self.verdicts.get(_VRAM_STEP) or self.known.get(_VRAM_STEP)
        return next((figure.needed for figure in check.figures if figure.needed), None) if check else None

    def standing(self) -> Standing:
        """What the list shows."""
        running_s = time.monotonic() - self._began_s if self.state == "checking" else None
        return Standing(self.steps, dict(self.verdicts), dict(self.known), running_s)

    def readiness(self, live_run: str = "") -> Readiness:
        """How far a start is; `live_run` is the id of a run that is going."""
        return Readiness(
            state=self.state,
            checks=tuple(self.verdicts[step.id] for step in self.steps if step.id in self.verdicts),
            num_pending=sum(step.id not in self.verdicts for step in self.steps),
            running_s=self.standing().running_s,
            trouble=self.trouble,
            live_run=live_run,
            starts_then=self.starts_then,
            is_cancelled=self.is_cancelled,
        )
