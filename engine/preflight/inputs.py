"""Checks of what the person gave: the settings and the corpus."""

from __future__ import annotations

from engine.corpus.build import inspect
from engine.errors import CorpusError
from engine.preflight.context import Context, Verdict, failed, passed, refused, warned


def check_settings(context: Context) -> Verdict:
    """Whether the settings are valid, and each of them has an effect."""
    settings, plan = context.settings, context.plan
    evidence = (
        f"{context.settings_path.name} is valid: model {plan.preset} with {plan.shape.parameters:,} parameters, "
        f"{plan.tokens_total:,} tokens in {plan.steps:,} steps."
    )
    if settings.notify.url:
        return warned(
            f"{evidence} notify.url has no effect yet.", "This version sends no notifications: look in."
        )
    return passed(evidence)


def check_corpus(context: Context) -> Verdict:
    """Whether there is text, readable and enough of it for one step."""
    try:
        report = inspect(context.settings.corpus, context.workspace)
    except CorpusError as error:
        return refused(error)
    plan = context.plan
    if report.total_bytes < plan.tokens_per_step:
        return failed(
            f"{report.description} holds {report.total_bytes:,} bytes, less than the {plan.tokens_per_step:,} tokens "
            "of one step.",
            "Add text, or lower training.tokens_per_step.",
        )
    epochs = plan.tokens_total / max(1, report.estimated_tokens)
    return passed(
        f"{report.description}: {report.num_files:,} files, {report.total_bytes / 1e6:,.1f} MB, about "
        f"{report.estimated_tokens / 1e6:,.1f} million tokens; the run reads them {epochs:.1f} times."
    )
