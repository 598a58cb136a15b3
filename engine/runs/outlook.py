"""What a run of some settings would need and cost in a workspace, as far as the workspace itself can tell."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.corpus.build import inspect
from engine.errors import CorpusError
from engine.estimate import Estimate, estimate
from engine.records import RunPlan
from engine.runs.compare import move_of_live_run
from engine.settings import Settings


def outlook(workspace: Path, settings: Settings, plan: RunPlan) -> Estimate:
    """The estimate, with the corpus looked at and the run that is going weighed; Raises: EngineError."""
    try:
        corpus_tokens = inspect(settings.corpus, workspace).estimated_tokens
    except CorpusError:
        corpus_tokens = None
    found = estimate(settings, plan.device, workspace, plan=plan, corpus_tokens=corpus_tokens)
    return msgspec.structs.replace(found, move=move_of_live_run(workspace))
