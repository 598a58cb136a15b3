"""The settings of what a run reads and how many processes do it: a part of `engine/settings.py`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class CorpusPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source of a corpus of several, and how often it is read."""

    source: Annotated[str | list[str], Meta(description="files, folders and patterns, as corpus.source")]
    weight: Annotated[
        float,
        Meta(gt=0, le=100, description="times it is read while a source of weight 1 is read once, e.g. 0.5"),
    ] = 1.0
    text_field: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                description="as corpus.text_field, which holds where it is absent",
            ),
        ]
        | None
    ) = None


class CorpusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model learns from."""

    source: Annotated[
        str | list[str],
        Meta(
            description="files, folders and patterns such as data/**/*.jsonl.gz, one or a list: .txt .md .jsonl "
            '.jsonl.gz .jsonl.zst .parquet; "builtin:python" is the source of the Python standard library on this '
            "machine"
        ),
    ] = "builtin:python"
    text_field: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            description="the field of a .jsonl line, or the column of a .parquet file, that holds the text",
        ),
    ] = "text"
    validation_frac: Annotated[
        float,
        Meta(ge=0.0001, le=0.5, description="share of the documents kept aside to measure with, 0 to 1"),
    ] = 0.01
    tokenizer_sample_mib: Annotated[
        float,
        Meta(ge=0.01, le=1024, description="MiB of text the tokenizer is trained on, spread over the corpus"),
    ] = 8.0
    mix: Annotated[
        list[CorpusPart],
        Meta(
            description="several sources with weights, as [[corpus.mix]], in place of source",
            extra={
                "example": '[[corpus.mix]]\nsource = "web/*.parquet"\n[[corpus.mix]]\nsource = "books"\nweight = 3.0'
            },
        ),
    ] = []
    """Last, as `EnergySettings.tariff`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source as it is written, those of the mix where there is one."""
        parts = [part.source for part in self.mix] or [self.source]
        return tuple(name for part in parts for name in ([part] if isinstance(part, str) else part))


class ScaleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many processes train together; tokens_per_step stays what it is, and each does its share of it."""

    processes: Annotated[
        int,
        Meta(ge=1, le=64, description="processes on this machine, one a GPU; on a CPU they share its cores"),
    ] = 1
    nodes: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="machines, this one among them; on each of the others: llm-tui join",
        ),
    ] = 1
    address: Annotated[
        str,
        Meta(
            max_length=200,
            description='where the other machines find this one, e.g. "10.0.0.1:29400"; needed where nodes is above 1',
        ),
    ] = ""
