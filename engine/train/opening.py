"""What is checked and told as a trainer starts."""

from __future__ import annotations

import torch

from engine.errors import CorpusError
from engine.records import RunPlan
from engine.train.device import Accelerator
from engine.train.journal import Journal
from engine.train.team import Team


def check_vocabulary(plan: RunPlan, vocab_size: int) -> None:
    """Raise CorpusError where the corpus was tokenized for another model."""
    if vocab_size != plan.shape.vocab_size:
        raise CorpusError(
            f"The corpus was tokenized for {vocab_size:,} ids, the model has {plan.shape.vocab_size:,}.",
            "Start a new run.",
        )


def tell_device(journal: Journal, plan: RunPlan, accelerator: Accelerator, team: Team) -> None:
    """The event that says what is at work."""
    processes = f" {team.size} processes," if team.size > 1 else ""
    journal.tell(
        "info",
        "trainer-started",
        f"Training on {plan.device.name} with torch {torch.__version__}: {accelerator.precision},{processes} "
        f"{accelerator.num_threads} threads{' each' if processes else ''}.",
        device=plan.device.kind,
        torch=str(torch.__version__),
        precision=accelerator.precision,
        threads=accelerator.num_threads,
        processes=team.size,
    )
