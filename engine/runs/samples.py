"""What a run's model has said at its steps, and what it can be asked to say now."""

from __future__ import annotations

import contextlib

import msgspec

from engine.errors import StoreError
from engine.process import module_argv
from engine.records import EvaluationRow, FurtherSampleRow, StepRow, TextSampleRow
from engine.runs.folder import RunFolder
from engine.story import FINISHED, SampleAt, SampleBook

_PREFIX = "step-"


def read_samples(folder: RunFolder) -> SampleBook:
    """The samples of a run, without those of a branch that it gave up. Raises: StoreError."""
    with contextlib.closing(folder.open()) as store:
        lineage = store.lineage()
        where, origins = lineage.clause("text_sample")
        rows: list[TextSampleRow | FurtherSampleRow] = [
            *store.rows(TextSampleRow, f"WHERE {where} ORDER BY step", origins)
        ]
        where, origins = lineage.clause("further_sample")
        rows += store.rows(FurtherSampleRow, f"WHERE {where} ORDER BY number", origins)
        rows.sort(key=lambda row: row.step)
        where, origins = lineage.clause("evaluation")
        evaluations = store.rows(EvaluationRow, f"WHERE {where} ORDER BY step", origins)
        chosen = msgspec.json.encode([row.step for row in rows]).decode()
        steps = store.rows(StepRow, "WHERE step IN (SELECT value FROM json_each(?))", (chosen,))
    by_step = {step.step: step for step in steps}
    samples = []
    for row in rows:
        step = by_step.get(row.step)
        measured = [evaluation.val_loss for evaluation in evaluations if evaluation.step <= row.step]
        samples.append(
            SampleAt(
                step=row.step,
                at=row.at,
                tokens=step.tokens if step else None,
                loss=step.loss if step else None,
                val_loss=measured[-1] if measured else None,
                prompt=row.prompt,
                text=row.text,
            )
        )
    return SampleBook(run_id=folder.id, samples=tuple(samples), sources=sources(folder))


def sources(folder: RunFolder) -> tuple[str, ...]:
    """The finished model, where there is one, then the checkpoints, newest first."""
    names = []
    if folder.checkpoints.is_dir():
        names = [path.name for path in folder.checkpoints.iterdir() if path.is_dir()]
    steps = sorted(
        (int(name.removeprefix(_PREFIX)) for name in names if name.removeprefix(_PREFIX).isdigit()),
        reverse=True,
    )
    found = [f"{_PREFIX}{step}" for step in steps]
    return (FINISHED, *found) if folder.model.is_dir() else tuple(found)


def check_source(folder: RunFolder, source: str) -> None:
    """Refuse a source that a run does not have; an empty one is whichever is the newest good one.

    Raises: StoreError.
    """
    known = sources(folder)
    if not known:
        raise StoreError(f"Run {folder.id} has no checkpoint yet.", "Wait for its first one.")
    if source and source not in known:
        raise StoreError(
            f"Run {folder.id} has no {source} any more.",
            f"Older ones are deleted; it has {', '.join(known[:8])}.",
        )


def generate_argv(
    folder: RunFolder,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    source: str = "",
) -> list[str]:
    """A command whose process streams a text to its stdout, on the CPU; an empty `source` is the newest good one.

    Raises: StoreError where the run has nothing to speak with, or not this.
    """
    check_source(folder, source)
    return module_argv(
        "engine.train",
        "generate",
        str(folder.path),
        f"--prompt={prompt}",
        f"--max-tokens={max_tokens}",
        f"--temperature={temperature}",
        f"--top-p={top_p}",
        f"--seed={seed}",
        *([f"--source={source}"] if source else []),
    )
