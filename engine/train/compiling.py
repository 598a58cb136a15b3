"""Whether a run is compiled, and an event that says what became of it."""

from __future__ import annotations

import time

from engine.chips import throughput
from engine.plan import COMPILE_PAYS_S, has_compiler
from engine.records import RunPlan
from engine.settings import TrainingSettings
from engine.train.device import Accelerator, compile_blocks
from engine.train.journal import Journal
from engine.train.model import Decoder


def compile_where_it_pays(
    model: Decoder,
    accelerator: Accelerator,
    journal: Journal,
    plan: RunPlan,
    settings: TrainingSettings,
    micro_batch: int,
    left_s: float | None,
) -> None:
    """Compile a model's blocks, or tell why not; what cannot be compiled is trained as it is.

    `left_s` is how long the rest of a resumed run takes, None: not known, or the run is new. Compiled and eager steps
    differ by rounding, so that a resumed run equals an undisturbed one bit for bit where both are alike in this.
    """
    reason = why_not(plan, settings, left_s)
    if reason:
        journal.tell("info", "not-compiled", f"The model is not compiled: {reason}.", left_s=left_s)
        return
    journal.heartbeat.phase = "compiling"
    started = time.monotonic()
    failure = compile_blocks(model, accelerator, micro_batch)
    seconds = time.monotonic() - started
    if failure:
        text = f"The model could not be compiled and is trained as it is: {failure}"
        journal.tell("warning", "compile-failed", text, seconds=seconds)
    else:
        journal.tell("info", "compiled", f"Compiled the model in {seconds:.0f} s.", seconds=seconds)


def why_not(plan: RunPlan, settings: TrainingSettings, left_s: float | None) -> str | None:
    """Why a run is not compiled, as the end of a sentence; None: it is."""
    device = plan.device
    if settings.compile != "auto":
        return None if plan.is_compiled else 'training.compile = "off"'
    pays_s = COMPILE_PAYS_S[device.kind]
    if plan.is_compiled:
        if left_s is None or left_s >= pays_s:
            return None
        return (
            f"the {_minutes(left_s)} that are left are too few for it to pay, which takes {_minutes(pays_s)}"
        )
    if not has_compiler():
        return "it takes a C++ compiler, and neither g++ nor clang++ was found"
    if device.kind == "cuda" and (device.capability or (0, 0)) < (7, 0):
        return "Triton, which does it, needs a GPU of compute capability 7.0 or later"
    flops = throughput(device).flops
    if flops is None:
        return f"the run is too short for it to pay, as it does from about {_minutes(pays_s)} on"
    run_s = plan.tokens_total * plan.shape.flops_per_token / flops
    return f"the run is expected to take {_minutes(run_s)}, and it pays from about {_minutes(pays_s)} on"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f} min" if seconds >= 60 else "less than a minute"
