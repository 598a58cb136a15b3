"""Packed formats, patterns, several sources, and copies."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import zstandard

from engine.corpus.build import inspect
from engine.corpus.document import DocumentReader
from engine.corpus.duplicate import DuplicateFinder, read_flags
from engine.corpus.manifest import CorpusManifest, Part
from engine.corpus.source import list_files
from engine.errors import CorpusError
from engine.settings import CorpusPart, CorpusSettings
from engine.train.data import Position, WindowOrder
from tests.engine.corpus.conftest import build, corpus_settings, prose
from tests.engine.corpus.test_build import documents_of

TEXTS = [prose(2000, seed) for seed in range(60)]
LINES = "".join(json.dumps({"id": index, "text": text}) + "\n" for index, text in enumerate(TEXTS)).encode()


def as_zst(data: bytes) -> bytes:
    """Two frames, as `cat a.zst b.zst` makes."""
    packer, half = zstandard.ZstdCompressor(), len(data) // 2
    return packer.compress(data[:half]) + packer.compress(data[half:])


def write_parquet(path: Path, texts: list[str | None], *, row_group_size: int = 7) -> None:
    table = arrow.table({"id": range(len(texts)), "text": texts})
    parquet.write_table(table, path, row_group_size=row_group_size)


def write(path: Path, kind: str) -> None:
    if kind == "parquet":
        write_parquet(path, list(TEXTS))
    else:
        path.write_bytes({"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": as_zst}[kind](LINES))


def read(workspace: Path, name: str, text_field: str = "text") -> tuple[list[str], DocumentReader]:
    (file,) = list_files(corpus_settings(name), workspace).files
    reader = DocumentReader(text_field, 10_000)
    seen: list[int] = []
    documents = list(reader.read(file, seen.append))
    assert sum(seen) == file.size_bytes
    return documents, reader


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_every_format_gives_the_same_documents(workspace: Path, kind: str) -> None:
    write(workspace / f"a.{kind}", kind)
    assert read(workspace, f"a.{kind}")[0] == TEXTS
    # A quick look tells how much there is once it is unpacked.
    found = inspect(corpus_settings(f"a.{kind}"), workspace)
    assert 0.9 < found.total_bytes / len("".join(TEXTS).encode()) < 1.5
    with pytest.raises(CorpusError) as caught:
        inspect(corpus_settings(f"a.{kind}", text_field="content"), workspace)
    assert "'content'" in caught.value.title and "'text'" in caught.value.remedy


def test_all_formats_together_are_one_corpus_each_text_once(workspace: Path) -> None:
    (workspace / "text").mkdir()
    for kind in ("jsonl.zst", "jsonl.gz", "parquet"):
        write(workspace / "text" / f"a.{kind}", kind)
    manifest = build(workspace)
    documents = documents_of(manifest, "train") + documents_of(manifest, "validation")
    assert sorted(documents) == sorted(TEXTS)
    assert (manifest.num_documents, manifest.num_duplicates, manifest.num_files) == (60, 120, 3)
    assert manifest.duplicate_bytes == 2 * manifest.text_bytes


@pytest.mark.parametrize("kind", ["jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:40] + bytes(40) + data[80:], lambda _: LINES]
)
def test_a_damaged_file_is_named(workspace: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
    path = workspace / f"a.{kind}"
    write(path, kind)
    path.write_bytes(damage(path.read_bytes()))
    try:
        inspect(corpus_settings(path.name), workspace)
        documents, _ = read(workspace, path.name)
    except CorpusError as error:
        assert path.name in error.title and "leave it out" in error.remedy
    else:
        # Parquet has a checksum of nothing: what lies within its statistics goes unnoticed by everybody.
        assert kind == "parquet" and documents == TEXTS


@pytest.mark.parametrize(("kind", "package"), [("jsonl.zst", "zstandard"), ("parquet", "pyarrow")])
def test_a_package_that_is_missing_is_named(
    workspace: Path, kind: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace / f"a.{kind}", kind)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CorpusError) as caught:
        inspect(corpus_settings(f"a.{kind}"), workspace)
    assert f"needs the package {package}" in caught.value.title
    assert f"-m pip install {package}" in caught.value.remedy and '"data"' in caught.value.remedy


def test_rows_of_parquet_without_text_and_not_in_utf8_are_counted(workspace: Path) -> None:
    bad = arrow.array([b"caf\xe9 au lait"]).view(arrow.string())
    table = arrow.table({"text": arrow.chunked_array([arrow.array(["one", None, ""]), bad])})
    parquet.write_table(table, workspace / "a.parquet")
    documents, reader = read(workspace, "a.parquet")
    assert documents == ["one", "caf\ufffd au lait"]
    assert (reader.tally.num_bad_lines, reader.tally.num_invalid_sequences) == (1, 1)


def test_patterns_name_files_in_order_and_leave_what_is_our_own(workspace: Path) -> None:
    for name in (
        "data/b/x.jsonl.gz",
        "data/a/y.jsonl.gz",
        "data/a/z.txt",
        "runs/r/sample.txt",
        "data/.h.txt",
    ):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_bytes(gzip.compress(LINES) if name.endswith("gz") else b"plain text")

    def found(pattern: str) -> list[str]:
        files = list_files(corpus_settings(pattern), workspace).files
        return [str(file.path.relative_to(workspace)) for file in files]

    assert found("data/*/*.gz") == ["data/a/y.jsonl.gz", "data/b/x.jsonl.gz"]
    assert found("**/*.txt") == ["data/a/z.txt"]
    assert found("data/*") == ["data/a/y.jsonl.gz", "data/a/z.txt", "data/b/x.jsonl.gz"]
    assert found("data/**") == found("data/*")
    (workspace / "data" / "[1].txt").write_bytes(b"a name that looks like a pattern")
    assert found("data/[1].txt") == ["data/[1].txt"]
    with pytest.raises(CorpusError, match="holds no text"):
        found("data/*.md")


def mix(*parts: CorpusPart, source: str = "builtin:python") -> CorpusSettings:
    return CorpusSettings(source=source, tokenizer_sample_mib=0.25, mix=list(parts))


def test_a_weight_says_how_often_a_source_is_read(workspace: Path) -> None:
    (workspace / "web.jsonl").write_text(
        "".join(json.dumps({"content": prose(3000, seed)}) + "\n" for seed in range(30))
    )
    write_parquet(workspace / "books.parquet", [prose(3000, seed) for seed in range(30, 60)])
    parts = [
        CorpusPart(source="web.jsonl", weight=0.25, text_field="content"),
        CorpusPart(source="*.parquet", weight=2),
    ]
    manifest = build_mix(workspace, *parts)
    assert manifest.description == "web.jsonl x 0.25, *.parquet x 2"
    assert [part.weight for part in manifest.parts] == [0.25, 2]
    assert sum(part.train_tokens for part in manifest.parts) == manifest.train_tokens
    # The parts lie one after the other: the texts of the second begin where it says.
    train = documents_of(manifest, "train")
    assert train[0] in [prose(3000, seed) for seed in range(30)]
    context = 64
    order = WindowOrder(manifest.train_tokens, context, 1, manifest.parts)
    border = manifest.parts[0].train_tokens
    num_windows = [(part.train_tokens - 1) // context for part in manifest.parts]
    assert order.num_windows == round(num_windows[0] / 4) + 2 * num_windows[1]
    read = [
        Counter(order.start_of(epoch, cursor) for cursor in range(order.num_windows)) for epoch in range(4)
    ]
    for counter in read:
        assert {times for start, times in counter.items() if start >= border} == {2}
        assert {times for start, times in counter.items() if start < border} == {1}
    # Four epochs at a quarter have read all of the first part once, but for the rounding.
    first = Counter(start for counter in read for start in counter if start < border)
    assert len(first) >= num_windows[0] - 2 and max(first.values()) <= 2
    # Weights are no matter of the tokens: another weight finds them in the cache.
    again = build_mix(workspace, parts[0], CorpusPart(source="*.parquet", weight=5))
    assert (again.key, again.folder) == (manifest.key, manifest.folder)
    assert again.parts[1].weight == 5


def build_mix(workspace: Path, *parts: CorpusPart) -> CorpusManifest:
    return build(workspace, "builtin:python", mix=list(parts))


def test_without_weights_the_order_is_what_it_was() -> None:
    plain = WindowOrder(10_001, 8, 3)
    parted = WindowOrder(10_001, 8, 3, (Part(train_tokens=4000), Part(train_tokens=6001)))
    starts = [order.starts for order in (plain, parted)]
    one, other = (iter(start(Position())) for start in starts)
    assert [next(one) for _ in range(3000)] == [next(other) for _ in range(3000)]


def test_a_mix_that_cannot_be_read_is_refused(workspace: Path) -> None:
    (workspace / "a.txt").write_text(prose(5000))
    with pytest.raises(CorpusError, match="both set"):
        list_files(mix(CorpusPart(source="a.txt"), source="a.txt"), workspace)
    with pytest.raises(CorpusError, match="in an earlier source"):
        list_files(mix(CorpusPart(source="a.txt"), CorpusPart(source="*.txt")), workspace)


def test_copies_are_found_among_more_documents_than_are_held(tmp_path: Path) -> None:
    finder = DuplicateFinder(tmp_path / "hashes", tmp_path / "flags")
    digests = np.random.default_rng(0).integers(0, 2**64, 70_000, dtype=np.uint64).tolist()
    stream = digests + digests[::7] + [digests[0]]
    for value in stream:
        finder.add(value, 100 + value % 5)
    finder.add(digests[1], 1)  # the same hash of another length is another text
    census = finder.finish()
    flags = list(read_flags(tmp_path / "flags", 0))
    assert flags == [False] * 70_000 + [True] * (len(stream) - 70_000) + [False]
    assert list(read_flags(tmp_path / "flags", 69_999))[:2] == [False, True]
    assert census.num_documents == len(stream) + 1 and census.num_duplicates == len(stream) - 70_000
    kept_bytes = sum(100 + value % 5 for value in digests) + 1
    assert sum(census.bucket_bytes) == kept_bytes
    assert not (tmp_path / "hashes").exists()
