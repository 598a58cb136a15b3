"""Whether a run is compiled, and an event that says what became of it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from engine.chips import throughput
from engine.plan import COMPILE_PAYS_S, why_not_compilable
from engine.ramp import SPEED_FACT
from engine.records import RunPlan
from engine.rehearsal import newest_for
from engine.runs.store import RunStore
from engine.settings import TrainingSettings
from engine.train.device import Accelerator, compile_blocks
from engine.train.journal import Journal
from engine.train.model import Decoder
from engine.train.team import ALONE, Order, Team


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """How long a run takes that is not compiled, or what is left of it."""

    seconds: float | None
    """None: not known."""
    basis: str
    """Where that comes from, as it follows on "the run takes 39 min"."""
    is_rest: bool = False
    """Whether it is what is left of a run that was resumed."""

    @property
    def text(self) -> str:
        """It in words, as the beginning of a sentence or after a comma."""
        if self.seconds is None:
            return f"how long the run takes is not known, {self.basis}"
        what = "the rest of the run" if self.is_rest else "the run"
        return f"{what} takes {_minutes(self.seconds)} {self.basis}"


def compile_where_it_pays(
    model: Decoder,
    accelerator: Accelerator,
    journal: Journal,
    plan: RunPlan,
    settings: TrainingSettings,
    micro_batch: int,
    left_s: float | None,
    team: Team = ALONE,
) -> None:
    """Compile a model's blocks, or tell why not; what cannot be compiled is trained as it is.

    `left_s` is how long the rest of a resumed run takes, None: not known, or the run is new. Compiled and eager steps
    differ by rounding, so that a resumed run equals an undisturbed one bit for bit where both are alike in this.
    """
    outlook = outlook_of(plan, journal.store, left_s)
    reason = why_not(plan, settings, outlook)
    if reason:
        text = f"The model is not compiled: {reason}."
        journal.tell("info", "not-compiled", text, run_s=outlook.seconds, basis=outlook.basis)
        return
    journal.heartbeat.phase = "compiling"
    team.send(Order(verb="compile", micro_batch=micro_batch))
    started = time.monotonic()
    failure = compile_blocks(model, accelerator, micro_batch)
    seconds = time.monotonic() - started
    if failure:
        text = f"The model could not be compiled and is trained as it is: {failure}"
        journal.tell("warning", "compile-failed", text, seconds=seconds)
    else:
        why = "the settings ask for it" if settings.compile == "on" else outlook.text
        text = f"Compiled the model in {seconds:.0f} s: {why}."
        journal.tell("info", "compiled", text, seconds=seconds, run_s=outlook.seconds, basis=outlook.basis)


def outlook_of(plan: RunPlan, store: RunStore, left_s: float | None = None) -> Outlook:
    """How long the run takes: by its own speed so far, else as measured before it, else by formula.

    `left_s` as in `compile_where_it_pays`.
    """
    if left_s is not None:
        return Outlook(seconds=left_s, basis="at its speed so far", is_rest=True)
    rate, who = store.find_meta(SPEED_FACT, float), "the batch ramp"
    if rate is None:
        workspace = store.find_meta("workspace", str)
        rehearsal = newest_for(Path(workspace), plan) if workspace else None
        rate, who = (rehearsal.tokens_per_s, "a rehearsal") if rehearsal else (None, "")
    if rate:
        return Outlook(
            seconds=plan.tokens_total / rate, basis=f"at the {rate:,.0f} tokens/s that {who} measured"
        )
    flops = throughput(plan.device).flops
    if flops is None:
        return Outlook(
            seconds=None, basis="for its speed was neither measured nor is the device in the table"
        )
    seconds = plan.tokens_total * plan.shape.flops_per_token / flops
    return Outlook(seconds=seconds, basis="by formula, since its speed was not measured")


def why_not(plan: RunPlan, settings: TrainingSettings, outlook: Outlook) -> str | None:
    """Why a run is not compiled, as the end of a sentence; None: it is."""
    if settings.compile != "auto":
        return None if settings.compile == "on" else 'training.compile = "off"'
    reason = why_not_compilable(plan.device)
    if reason:
        return reason
    pays_s = COMPILE_PAYS_S[plan.device.kind]
    is_worth_it = plan.is_compiled if outlook.seconds is None else outlook.seconds >= pays_s
    return None if is_worth_it else f"{outlook.text}, and it pays from about {_minutes(pays_s)} on"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 60 else "less than a minute"
