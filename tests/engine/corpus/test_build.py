from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine.corpus import builder, cache, progress, split
from engine.corpus.build import inspect, prepare
from engine.corpus.manifest import CorpusManifest, Progress
from engine.corpus.shard import TokenStore
from engine.corpus.tokenizer import Encoder
from engine.errors import CorpusError
from tests.engine.corpus.conftest import build, corpus_settings, prose


def documents_of(manifest: CorpusManifest, name: str) -> list[str]:
    """What the shards of a split decode to."""
    folder = Path(manifest.folder)
    store = TokenStore.open(folder, name)  # type: ignore[arg-type]
    store.verify()
    ids = store.read(0, len(store)).tolist()
    assert ids[-1] == manifest.end_of_text_id
    encoder = Encoder(folder / "tokenizer.json")
    documents, begin = [], 0
    for index, token in enumerate(ids):
        if token == manifest.end_of_text_id:
            documents.append(encoder.decode(ids[begin:index]))
            begin = index + 1
    return documents


def write_mixed(workspace: Path) -> list[str]:
    """A corpus of three formats; the documents it should give."""
    folder = workspace / "text"
    folder.mkdir()
    texts = [prose(3000, seed) for seed in range(40)] + ["<|endoftext|> spelled out\n" * 20]
    for index, text in enumerate(texts[:20]):
        (folder / f"{index:02d}.{'md' if index % 2 else 'txt'}").write_bytes(text.encode())
    lines = [json.dumps({"text": text}, ensure_ascii=index % 2 == 0) for index, text in enumerate(texts[20:])]
    (folder / "z.jsonl").write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    return texts


def test_the_shards_decode_to_the_documents_split_by_document(workspace: Path) -> None:
    texts = write_mixed(workspace)
    manifest = build(workspace)
    train, validation = documents_of(manifest, "train"), documents_of(manifest, "validation")
    # Long texts are cut into sections; put together they are the texts, none lost and none twice.
    joined = "".join(sorted(train + validation))
    assert len(joined) == len("".join(texts))
    assert all(any(part in text for text in texts) for part in train + validation)
    assert not set(train) & set(validation)
    assert manifest.num_documents == len(train) + len(validation)
    assert manifest.num_validation_documents == len(validation) > 0
    assert manifest.validation_bytes == sum(len(text.encode()) for text in validation)
    assert manifest.train_bytes + manifest.validation_bytes == manifest.text_bytes
    assert manifest.text_bytes == sum(len(text.encode()) for text in texts)
    assert manifest.validation_tokens == len(TokenStore.open(Path(manifest.folder), "validation"))
    assert (manifest.num_bad_lines, manifest.num_invalid_sequences, manifest.num_files) == (1, 0, 21)
    assert manifest.dtype == "uint16" and manifest.tokenizer_vocab_size == 400


def test_copies_of_a_document_are_dropped_and_counted(workspace: Path) -> None:
    lines = [json.dumps({"text": prose(500, seed % 100)}) for seed in range(400)]
    (workspace / "a.jsonl").write_text("\n".join(lines))
    manifest = build(workspace, "a.jsonl", validation_frac=0.3)
    train, validation = documents_of(manifest, "train"), documents_of(manifest, "validation")
    assert sorted(train + validation) == sorted({prose(500, seed) for seed in range(100)})
    assert (manifest.num_documents, manifest.num_duplicates) == (100, 300)
    assert manifest.duplicate_bytes == 3 * manifest.text_bytes
    assert 0.25 < manifest.validation_bytes / manifest.text_bytes < 0.35


def test_the_same_corpus_elsewhere_has_the_same_shards(workspace: Path, tmp_path: Path) -> None:
    write_mixed(workspace)
    first = build(workspace)
    shutil.copytree(workspace / "text", tmp_path / "other" / "moved")
    second = build(tmp_path / "other", "moved")
    assert (second.key, second.shards) == (first.key, first.shards)
    assert second.folder != first.folder and second.description == "moved"


def test_a_second_run_reads_and_builds_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mixed(workspace)
    monkeypatch.setattr(cache, "_SETTLED_NS", -(10**18))
    first = build(workspace)
    inode = Path(first.folder).stat().st_ino
    opened: list[str] = []
    monkeypatch.setattr(cache, "_hash", lambda file, _: opened.append(file.shown_path))
    seen: list[Progress] = []
    assert build(workspace, seen=seen) == first
    assert Path(first.folder).stat().st_ino == inode
    assert opened == []
    assert {progress.phase for progress in seen} == {"hashing the corpus"}


def test_a_change_of_content_or_recipe_is_another_corpus(workspace: Path) -> None:
    write_mixed(workspace)
    keys = [build(workspace).key]
    path = workspace / "text" / "00.txt"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    # Neither size nor time of modification tells: the time of the change of the inode does.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(build(workspace).key)
    keys.append(build(workspace, vocab_size=500).key)
    keys.append(build(workspace, validation_frac=0.2).key)
    assert len(set(keys)) == 4
    # A context that validation holds in any case does not tokenize a large corpus again.
    sizes = [split.window_bytes(10**9, context) for context in (64, 8191, 8192)]
    assert sizes == [0, 0, 8 * 8193]


def test_a_damaged_entry_is_built_again(workspace: Path) -> None:
    write_mixed(workspace)
    first = build(workspace)
    shard = Path(first.folder) / first.shards["train"][0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    second = build(workspace)
    assert second.shards == first.shards
    assert shard.read_bytes() == whole
    (Path(first.folder) / "manifest.json").write_text("{")
    assert build(workspace).shards == first.shards
    assert left_behind(workspace) == []


def left_behind(workspace: Path) -> list[str]:
    return [path.name for path in cache.cache_folder(workspace).glob(".build-*")]


def test_a_single_file_gives_both_splits(workspace: Path) -> None:
    text = prose(20_000)
    (workspace / "book.txt").write_bytes(text.encode())
    manifest = build(workspace, "book.txt", context=256)
    assert manifest.validation_tokens >= 257
    assert 0.05 < manifest.validation_bytes / manifest.text_bytes < 0.25
    assert len("".join(documents_of(manifest, "train") + documents_of(manifest, "validation"))) == len(text)


def test_invalid_utf8_is_counted_in_the_manifest(workspace: Path) -> None:
    (workspace / "a.txt").write_bytes(prose(20_000).encode() + b"caf\xe9 " * 7)
    assert build(workspace, "a.txt").num_invalid_sequences == 7


def test_too_little_text_says_how_much_there_is_and_how_much_is_needed(workspace: Path) -> None:
    (workspace / "a.txt").write_text(prose(6000))
    (workspace / "long-words.txt").write_text(
        "".join("lighthousekeeper " * 40 + f"{number} " for number in range(64))
    )
    (workspace / "line.txt").write_text("one document of a hundred bytes or so, which cannot be divided " * 2)
    for source, other, said in (
        ("long-words.txt", {"context": 400}, "to validate with"),
        ("a.txt", {"context": 8192}, "16,386 tokens"),
        ("a.txt", {"min_train_tokens": 4000}, "one batch takes 4,000"),
        ("line.txt", {"context": 16}, "1 documents"),
    ):
        with pytest.raises(CorpusError) as caught:
            build(workspace, source, **other)
        assert said in caught.value.title
        assert "bytes of text" in caught.value.title
        assert "Add text" in caught.value.remedy
    assert left_behind(workspace) == []


def test_progress_is_told_in_bytes_and_seldom(workspace: Path) -> None:
    (workspace / "a.txt").write_bytes(prose(2_000_000).encode())
    seen: list[Progress] = []
    began_s = time.monotonic()
    build(workspace, "a.txt", seen=seen)
    elapsed_s = time.monotonic() - began_s
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["hashing the corpus", "reading the corpus", "training the tokenizer", "tokenizing"]
    assert len(seen) <= elapsed_s / 0.25 + 2 * len(phases)
    last = seen[-1]
    assert (last.kind, last.done_bytes) == ("tokens", last.total_bytes)
    assert last.bytes_per_s is None or last.bytes_per_s > 0
    assert all(progress.done_bytes <= (progress.total_bytes or 0) for progress in seen)


def test_a_build_that_was_stopped_is_gone_on_with(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = [prose(2000, seed) for seed in range(80)]
    (workspace / "text").mkdir()
    for number in range(4):
        lines = [json.dumps({"text": part}) for part in [*text[number * 20 : number * 20 + 20], text[0]]]
        (workspace / "text" / f"{number}.jsonl").write_text("\n".join(lines))
    whole = build(workspace)
    folder = Path(whole.folder)
    folder.rename(workspace / "whole")
    monkeypatch.setattr(builder, "_KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "_INTERVAL_S", 0.0)
    seen: list[Progress] = []
    for phase, frac in (("reading the corpus", 0.3), ("tokenizing", 0.3), ("tokenizing", 0.7)):

        def stop(progress: Progress, phase: str = phase, frac: float = frac) -> None:
            if progress.phase == phase and progress.done_bytes >= frac * (progress.total_bytes or 0):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(
                corpus_settings("text"), vocab_size=400, context=64, workspace=workspace, on_progress=stop
            )
    assert left_behind(workspace) == [f".build-{whole.key}"]
    seen.clear()
    found = build(workspace, seen=seen)
    assert left_behind(workspace) == []
    same = {"build_s": 0.0, "shards": {}}
    assert msgspec.structs.replace(found, **same) == msgspec.structs.replace(whole, **same)
    for name in ("train", "validation"):
        assert documents_of(found, name) == documents_of(
            msgspec.structs.replace(whole, folder=str(workspace / "whole")), name
        )
    # The text was not counted again, and tokenizing began in the middle.
    assert {progress.phase for progress in seen} == {"hashing the corpus", "tokenizing"}


def test_a_full_disk_is_refused_before_the_tokens_are_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mixed(workspace)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(CorpusError, match="are free"):
        build(workspace)
    assert left_behind(workspace) == []


def test_a_file_that_changes_between_the_passes_ends_the_build(workspace: Path) -> None:
    write_mixed(workspace)

    def change(progress: Progress) -> None:
        if progress.phase == "tokenizing" and progress.done_bytes == 0:
            (workspace / "text" / "05.md").write_text("other")

    with pytest.raises(CorpusError, match=r"05\.md changed"):
        prepare(corpus_settings("text"), vocab_size=400, context=64, workspace=workspace, on_progress=change)
    assert left_behind(workspace) == []


def test_a_vocabulary_beyond_16_bits(workspace: Path) -> None:
    text = " ".join(
        f"{index * 7919 % 1_000_003:05x}".translate(str.maketrans("0123456789", "ghijklmnop"))
        for index in range(90_000)
    )
    (workspace / "a.txt").write_text(f"{text}\n\n{text}\n")
    manifest = build(workspace, "a.txt", vocab_size=80_000, tokenizer_sample_mib=4)
    assert manifest.tokenizer_vocab_size > 65_536
    assert manifest.dtype == "uint32"
    assert "".join(documents_of(manifest, "train"))[:40] in text
    store = TokenStore.open(Path(manifest.folder), "train")
    assert store.read(0, len(store)).max() > 65_535


def test_the_split_never_takes_a_big_document_where_small_ones_do() -> None:
    chooser = split.SplitChooser()
    sizes = {digest: (100_000 if digest == 0 else 1000) for digest in range(50)}
    for digest, size in sizes.items():
        chooser.add(digest, size)
    chooser.choose(5000)
    chosen = [digest for digest in sizes if chooser.is_validation(digest)]
    assert len(chosen) == 5 and 0 not in chosen
    alone = split.SplitChooser()
    alone.add(1, 1000)
    alone.choose(500)
    assert not alone.is_validation(1)


MEASURE = """
import re, sys
from pathlib import Path
from engine.corpus import document
from tests.engine.corpus.conftest import build
# The same sections for the small corpus and for the large one: their size is not what is compared.
document.MAX_SECTION_CHARS = 20_000
build(Path(sys.argv[1]), sys.argv[2])
print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])
"""


@pytest.mark.parametrize("name", ["one-line.txt", "lines.jsonl.gz"])
def test_memory_is_flat_however_large_a_file_is(workspace: Path, name: str) -> None:
    def block_of(number: int) -> bytes:
        """Other text each time: copies would be dropped."""
        block = f"{number} ".join(prose(100_000).split(" "))
        if name == "one-line.txt":
            return block.replace("\n", " ").encode()
        return "".join(json.dumps({"text": line}) + "\n" for line in block.split("\n\n")).encode()

    kib = []
    for num_blocks in (32, 160):
        data = b"".join(map(block_of, range(num_blocks)))
        (workspace / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, str(workspace), name],
            check=True,
            capture_output=True,
            timeout=120,
        )
        kib.append(int(run.stdout))
    # Held as a str, the 13 MB that the second has more would be 52 MB; as Encoding objects 0.4 GB.
    assert kib[1] - kib[0] < 40 * 1024, kib


def test_builtin_python_is_tokenized_whole(workspace: Path) -> None:
    seen: list[Progress] = []
    report = inspect(corpus_settings("builtin:python"), workspace)
    manifest = build(
        workspace, "builtin:python", vocab_size=4096, context=256, seen=seen, tokenizer_sample_mib=1
    )
    assert manifest.text_bytes > 0.99 * report.total_bytes
    assert manifest.num_invalid_sequences == 0
    assert 0.3 < (manifest.train_tokens + manifest.validation_tokens) / report.estimated_tokens < 2
    assert 0.005 < manifest.validation_bytes / manifest.text_bytes < 0.02
    store = TokenStore.open(Path(manifest.folder), "validation")
    text = Encoder(Path(manifest.folder) / "tokenizer.json").decode(store.read(0, 2000).tolist())
    assert "\n" in text and "def " in text
