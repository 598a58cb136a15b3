"""Checks of what the person gave: the settings, the corpus, and the steps of their own."""

from __future__ import annotations

import math

from engine.corpus.build import inspect
from engine.corpus.manifest import CorpusReport
from engine.errors import CorpusError
from engine.ledger.tariff import unreachable
from engine.preflight.context import Context, Verdict, failed, passed, refused, warned
from engine.records import Figure, RunPlan
from engine.settings import CorpusSettings, Settings

_FILLABLE_MARGIN = 1.5
"""By how much the estimate may be wrong before a person is told."""


def check_settings(context: Context) -> Verdict:
    """Whether the settings are valid, and each of them has an effect."""
    if not context.settings_path.exists():
        return failed(
            f"{context.settings_path} is not there.",
            "`llm-tui init` writes a documented one.",
            action="write-settings",
            is_waivable=False,
        )
    plan = context.plan
    evidence = (
        f"{context.settings_path.name} is valid: model {plan.preset} with {plan.shape.parameters:,} parameters, "
        f"{plan.tokens_total:,} tokens in {plan.steps:,} steps."
    )
    idle = _without_effect(context.settings, plan)
    if idle:
        return warned(
            f"{evidence} Without effect: {'; '.join(idle)}.", "Take them out, or change what they wait for."
        )
    return passed(evidence)


def _without_effect(settings: Settings, plan: RunPlan) -> list[str]:
    """Keys that are set and change nothing, each with the reason."""
    found, default = [], Settings()
    if plan.device.kind == "cpu" and settings.preflight.min_free_vram_gib:
        found.append("preflight.min_free_vram_gib, since the run is on the CPU")
    resume_celsius = settings.limits.resume_gpu_celsius
    if not settings.limits.max_gpu_celsius and resume_celsius != default.limits.resume_gpu_celsius:
        found.append("limits.resume_gpu_celsius, since limits.max_gpu_celsius is 0")
    if settings.cloud.currency_per_usd is not None and settings.energy.currency == "USD":
        found.append("cloud.currency_per_usd, since energy.currency is USD")
    found += [
        f"window {number} of energy.tariff, since those before it fit all its hours"
        for number in unreachable(settings.energy)
    ]
    return found


def check_corpus(context: Context) -> Verdict:
    """Whether there is text, readable, enough of it for one step, and enough for the vocabulary."""
    try:
        report = inspect(context.settings.corpus, context.workspace)
    except CorpusError as error:
        return refused(error)
    plan = context.plan
    figure = Figure(label="text", unit="bytes", now=report.total_bytes, needed=plan.tokens_per_step)
    if report.total_bytes < plan.tokens_per_step:
        return failed(
            f"{report.description} holds {report.total_bytes:,} bytes, less than the {plan.tokens_per_step:,} tokens "
            "of one step.",
            "Add text, or lower training.tokens_per_step.",
            figure,
            is_waivable=False,
        )
    epochs = plan.tokens_total / max(1, report.estimated_tokens)
    evidence = (
        f"{report.description}: {report.num_files:,} files, {report.total_bytes / 1e6:,.1f} MB, about "
        f"{report.estimated_tokens / 1e6:,.1f} million tokens for a vocabulary of {plan.shape.vocab_size:,}; the run "
        f"reads them {epochs:.1f} times."
    )
    doubts = _doubts(context.settings.corpus, plan, report)
    if doubts:
        told, remedies = zip(*doubts, strict=True)
        return warned(f"{evidence} {' '.join(told)}", " ".join(remedies), figure)
    return passed(evidence, figure)


def _doubts(settings: CorpusSettings, plan: RunPlan, report: CorpusReport) -> list[tuple[str, str]]:
    """What may turn out too little once the text is tokenized, by estimate; each with its remedy."""
    found, share = [], settings.validation_frac
    least_tokens = plan.shape.context + 1
    if report.estimated_tokens * share < least_tokens:
        found.append(
            (
                f"About {report.estimated_tokens * share:,.0f} tokens would be kept aside to validate with, and one "
                f"context takes {least_tokens:,}: the run may be refused.",
                "Add text, lower model.context, or raise corpus.validation_frac.",
            )
        )
    sample_bytes = min(report.total_bytes * (1 - share), settings.tokenizer_sample_mib * 2**20)
    fillable = _fillable_vocabulary(sample_bytes)
    if plan.shape.vocab_size > _FILLABLE_MARGIN * fillable:
        found.append(
            (
                f"The {sample_bytes / 1e6:,.1f} MB that the tokenizer learns from fill a vocabulary of about "
                f"{fillable:,}: what goes beyond is never trained.",
                "Lower model.vocab_size, or add text.",
            )
        )
    return found


def _fillable_vocabulary(num_bytes: float) -> int:
    """Ids that a byte-level BPE finds in so much text before no pair is left that occurs twice, about.

    Measured on Python's standard library: 716 in 5 kB, 1,444 in 20 kB, 3,471 in 100 kB, 6,077 in 400 kB.
    """
    return 257 + round(3.6 * math.pow(max(0.0, num_bytes), 0.58))


def check_manual(context: Context, check_id: str, text: str) -> Verdict:
    """Whether the person has ticked a step of their own for this start."""
    if check_id in context.ticks:
        return passed(f"Ticked by hand: {text}")
    return failed(f"Not ticked: {text}", f"See that it is so, then tick it: --tick {check_id}", action="tick")
