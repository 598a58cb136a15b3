from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from engine.corpus.manifest import MANIFEST_NAME, CorpusManifest, Shard, save_manifest
from engine.corpus.shard import ShardWriter, TokenStore
from engine.errors import CorpusError


def manifest(shards: tuple[Shard, ...], dtype: Literal["uint16", "uint32"]) -> CorpusManifest:
    return CorpusManifest(
        version=1,
        key="k",
        folder="",
        description="",
        vocab_size=0,
        tokenizer_vocab_size=0,
        dtype=dtype,
        end_of_text_id=0,
        train_tokens=0,
        train_bytes=0,
        validation_tokens=0,
        validation_bytes=0,
        num_files=0,
        num_documents=0,
        num_validation_documents=0,
        text_bytes=0,
        num_invalid_sequences=0,
        num_bad_lines=0,
        build_s=0.0,
        shards={"train": shards, "validation": ()},
    )


@pytest.mark.parametrize(("dtype", "highest"), [("uint16", 65_535), ("uint32", 200_000)])
def test_what_was_written_is_read_across_shards(
    tmp_path: Path, dtype: Literal["uint16", "uint32"], highest: int
) -> None:
    ids = np.random.default_rng(0).integers(0, highest + 1, 5000).astype(np.uint32)
    ids[0] = highest
    writer = ShardWriter(tmp_path, "train", dtype, shard_bytes=1024)
    for start in range(0, 5000, 700):
        writer.write(ids[start : start + 700])
    shards = writer.close()
    save_manifest(manifest(shards, dtype), tmp_path / MANIFEST_NAME)
    store = TokenStore.open(tmp_path, "train")
    store.verify()
    assert len(store) == writer.num_tokens == 5000
    assert {(tmp_path / shard.name).stat().st_size for shard in shards[:-1]} == {1024}
    assert store.read(0, 1).dtype == dtype
    for start, length in ((0, 5000), (0, 0), (5000, 0), (511, 2), (100, 3), (4999, 1), (300, 1800)):
        assert store.read(start, length).tolist() == ids[start : start + length].tolist()
    for start, length in ((-1, 2), (4999, 2), (0, 5001), (6000, 0)):
        with pytest.raises(IndexError):
            store.read(start, length)
    with pytest.raises(ValueError, match="read-only"):
        store.read(0, 10)[0] = 1
    assert len(TokenStore.open(tmp_path, "validation")) == 0


def test_a_writer_goes_on_where_another_was(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 60_000, 5000).astype(np.uint32)
    (tmp_path / "whole").mkdir()
    whole = ShardWriter(tmp_path / "whole", "train", "uint16", shard_bytes=1024)
    whole.write(ids)
    expected = whole.close()
    # In the middle of a shard, at the end of one, before the first.
    for kept, lost in ((700, 1900), (1024, 100), (0, 600)):
        writer = ShardWriter(tmp_path, "train", "uint16", shard_bytes=1024)
        writer.write(ids[:kept])
        written = writer.written()
        writer.write(ids[kept : kept + lost])
        writer.written()
        other = ShardWriter(tmp_path, "train", "uint16", shard_bytes=1024, written=written)
        assert other.num_tokens == kept
        other.write(ids[kept:])
        assert other.close() == expected
        for shard in expected:
            assert (tmp_path / shard.name).read_bytes() == (tmp_path / "whole" / shard.name).read_bytes()


def test_damage_is_told(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", "uint16")
    writer.write(np.arange(1000, dtype=np.uint32))
    (shard,) = writer.close()
    save_manifest(manifest((shard,), "uint16"), tmp_path / MANIFEST_NAME)
    path = tmp_path / shard.name
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + b"zz")
    with pytest.raises(CorpusError, match="damaged"):
        TokenStore.open(tmp_path, "train").verify()
    path.write_bytes(whole[:-2])
    with pytest.raises(CorpusError, match="999"):
        TokenStore.open(tmp_path, "train")
    path.unlink()
    with pytest.raises(CorpusError, match="damaged"):
        TokenStore.open(tmp_path, "train")
    (tmp_path / MANIFEST_NAME).write_text("{")
    with pytest.raises(CorpusError, match="cannot be read"):
        TokenStore.open(tmp_path, "train")
