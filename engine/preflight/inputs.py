"""Checks of what the person gave: the settings, the corpus, and the steps of their own."""

from __future__ import annotations

from engine.corpus.build import inspect
from engine.errors import CorpusError
from engine.ledger.tariff import unreachable
from engine.preflight.context import Context, Verdict, failed, passed, refused, warned
from engine.records import Figure, RunPlan
from engine.settings import Settings


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
    """Whether there is text, readable and enough of it for one step."""
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
    return passed(
        f"{report.description}: {report.num_files:,} files, {report.total_bytes / 1e6:,.1f} MB, about "
        f"{report.estimated_tokens / 1e6:,.1f} million tokens for a vocabulary of {plan.shape.vocab_size:,}; the run "
        f"reads them {epochs:.1f} times.",
        figure,
    )


def check_manual(context: Context, check_id: str, text: str) -> Verdict:
    """Whether the person has ticked a step of their own for this start."""
    if check_id in context.ticks:
        return passed(f"Ticked by hand: {text}")
    return failed(f"Not ticked: {text}", f"See that it is so, then tick it: --tick {check_id}", action="tick")
