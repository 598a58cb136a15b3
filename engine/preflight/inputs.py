"""Checks of what the person gave: the settings, the corpus, and the steps of their own."""

from __future__ import annotations

from engine.corpus.build import inspect
from engine.errors import CorpusError
from engine.preflight.context import Context, Verdict, failed, passed, refused
from engine.records import Figure


def check_settings(context: Context) -> Verdict:
    """Whether the settings are valid."""
    if not context.settings_path.exists():
        return failed(
            f"{context.settings_path} is not there.",
            "`llm-tui init` writes a documented one.",
            action="write-settings",
            is_waivable=False,
        )
    plan = context.plan
    return passed(
        f"{context.settings_path.name} is valid: model {plan.preset} with {plan.shape.parameters:,} parameters, "
        f"{plan.tokens_total:,} tokens in {plan.steps:,} steps."
    )


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
