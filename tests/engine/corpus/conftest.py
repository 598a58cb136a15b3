from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.corpus.build import prepare
from engine.corpus.manifest import CorpusManifest, Progress
from engine.settings import CorpusSettings

WORDS = (
    *("the", "sea", "and", "a", "small", "boat", "went", "out", "to", "where", "light", "house", "keepers"),
    *("watch", "slowly", "over", "grey", "water", "naïve", "Zürich", "Bakı", "東京", "😀", "it's", "we'll"),
    *("1984", "x", "=", "y", "+", "2;", "def", "return", "()"),
)


def prose(num_bytes: int, seed: int = 1) -> str:
    """Text in paragraphs, other for every seed, of about this length."""
    rng = random.Random(seed)
    lines: list[str] = []
    length = 0
    while length < num_bytes:
        line = " ".join(rng.choices(WORDS, k=rng.randint(3, 14)))
        line += "\n\n" if rng.random() < 0.2 else "\n    " if rng.random() < 0.1 else "\n"
        lines.append(line)
        length += len(line.encode())
    return "".join(lines)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def corpus_settings(source: str | list[str], **other: object) -> CorpusSettings:
    return CorpusSettings(source=source, **{"tokenizer_sample_mib": 0.25, **other})  # type: ignore[arg-type]


def build(
    workspace: Path,
    source: str | list[str] = "text",
    *,
    vocab_size: int = 400,
    context: int = 64,
    min_train_tokens: int | None = None,
    seen: list[Progress] | None = None,
    **other: object,
) -> CorpusManifest:
    return prepare(
        corpus_settings(source, **other),
        vocab_size=vocab_size,
        context=context,
        workspace=workspace,
        on_progress=(seen if seen is not None else []).append,
        min_train_tokens=min_train_tokens,
    )
