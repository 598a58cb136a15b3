"""The rate of tokenizing beside `tokenizers`' own batch encoding, and its memory on a corpus larger than a limit.

`python -m bench.corpus rate [ROUNDS]`: on the source of the standard library, interleaved; the whole of ours (reading,
hashing, writing synced shards) against encoding alone, of texts that are in memory already.
`python -m bench.corpus memory MIB LIMIT_MIB`: a .jsonl.gz of so much text, tokenized by a process that may hold no more
than the limit (RLIMIT_DATA: what it allocates, beside the files that it maps).
"""

from __future__ import annotations

import gzip
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from engine.corpus.build import prepare
from engine.corpus.builder import Builder
from engine.corpus.document import DocumentReader, section_chars
from engine.corpus.manifest import Progress
from engine.corpus.source import list_files
from engine.settings import CorpusSettings

VOCAB_SIZE = 8192
RATE_BYTES = 8_000_000
BATCH = 64
"""Documents a batch of the peer."""


def rate(rounds: int) -> None:
    """Print MB of text a second of each side, and the ratios of ours to the others, a round after the other."""
    settings = CorpusSettings(source="text", tokenizer_sample_mib=1.0)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        _copy_library(workspace / "text", RATE_BYTES)
        listing = list_files(settings, workspace)
        reader = DocumentReader("text", section_chars(listing.total_bytes))
        texts = [text for file in listing.files for text in reader.read(file, lambda _: None)]
        num_bytes = sum(len(text.encode()) for text in texts)
        tokenizer_path = workspace / "tokenizer.json"
        sides: dict[str, Callable[[], float]] = {
            "ours": lambda: _ours(workspace, settings, tokenizer_path),
            "encode_batch_fast": lambda: _theirs(tokenizer_path, texts, "encode_batch_fast"),
            "encode_batch": lambda: _theirs(tokenizer_path, texts, "encode_batch"),
        }
        sides["ours"]()
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                found[name].append(num_bytes / 1e6 / side())
            print("  ".join(f"{name} {rates[-1]:.2f} MB/s" for name, rates in found.items()), flush=True)
    for name in list(sides)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(found["ours"], found[name], strict=True)]
        print(
            f"ours to {name}: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        )


def _copy_library(folder: Path, num_bytes: int) -> None:
    """The first so many bytes of the standard library, a file a document."""
    folder.mkdir()
    for file in list_files(CorpusSettings(), folder).files:
        if num_bytes <= 0:
            break
        num_bytes -= file.size_bytes
        name = "-".join(file.path.parts[-3:])
        (folder / f"{name}.txt").write_bytes(file.path.read_bytes())


def _ours(workspace: Path, settings: CorpusSettings, tokenizer_path: Path) -> float:
    """Seconds of the phase "tokenizing"; each time from the start."""
    began = ended = 0.0

    def watch(progress: Progress) -> None:
        nonlocal began, ended
        if progress.phase == "tokenizing":
            ended = time.perf_counter()
            began = began or ended

    subprocess.run(["rm", "-rf", str(workspace / "cache")], check=True)
    manifest = prepare(settings, vocab_size=VOCAB_SIZE, context=256, workspace=workspace, on_progress=watch)
    tokenizer_path.write_bytes((Path(manifest.folder) / "tokenizer.json").read_bytes())
    return ended - began


def _theirs(path: Path, texts: list[str], method: str) -> float:
    tokenizer = Tokenizer.from_file(str(path))
    encode = getattr(tokenizer, method)
    began = time.perf_counter()
    num_tokens = 0
    for start in range(0, len(texts), BATCH):
        encodings = encode(texts[start : start + BATCH], add_special_tokens=False)
        num_tokens += sum(len(encoding.ids) for encoding in encodings)
    assert num_tokens
    return time.perf_counter() - began


def memory(mib: int, limit_mib: int) -> None:
    """Print the peak of a build of `mib` of text in a process that is limited to `limit_mib`."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        _write_corpus(workspace / "text.jsonl.gz", mib << 20)
        command = [sys.executable, "-m", "bench.corpus", "limited", str(workspace), str(limit_mib)]
        subprocess.run(command, check=True)


def _write_corpus(path: Path, num_bytes: int) -> None:
    """Lines of words at random, each another."""
    rng = random.Random(1)
    words = sorted(set(re.findall(r"[a-z]+", Builder.__doc__ + __doc__ + (re.__doc__ or ""))))  # type: ignore[operator]
    with gzip.open(path, "wt", compresslevel=1) as file:
        while num_bytes > 0:
            text = " ".join(rng.choices(words, k=400))
            num_bytes -= len(text)
            file.write(json.dumps({"text": text}) + "\n")


def limited(workspace: Path, limit_mib: int) -> None:
    """Build under the limit, and print what it came to."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_mib << 20, limit_mib << 20))
    settings = CorpusSettings(source="text.jsonl.gz")
    began = time.perf_counter()
    manifest = prepare(
        settings, vocab_size=VOCAB_SIZE, context=256, workspace=workspace, on_progress=lambda _: None
    )
    status = Path("/proc/self/status").read_text()
    peak_mib = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
    print(
        f"{manifest.text_bytes / 2**20:,.0f} MiB of text, {manifest.train_tokens:,} tokens, limit {limit_mib} MiB, "
        f"peak {peak_mib:,.0f} MiB, {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rate"]:
            rate(5)
        case ["rate", rounds]:
            rate(int(rounds))
        case ["memory", mib, limit_mib]:
            memory(int(mib), int(limit_mib))
        case ["limited", workspace, limit_mib]:
            limited(Path(workspace), int(limit_mib))
        case _:
            sys.exit(__doc__)
