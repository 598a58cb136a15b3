"""Checkpoints and models whose bytes are not what was written, or never were a checkpoint: refused by name."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.errors import CheckpointError
from engine.train.checkpoint import newest_verified
from engine.train.manifest import MANIFEST_FILE, fact_of
from engine.train.model_folder import ModelInfo, load_from, load_newest, write_model
from tests.engine.train.test_checkpoint import Saver
from tests.faults.saves import SHAPE

Damage = Callable[[Path, Path], None]
WEIGHTS, STATE = "model.safetensors", "state.json"


class Payload:
    """What a pickle does to whoever loads it: it makes a folder."""

    def __init__(self, made: Path) -> None:
        self._made = made

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._made),)


def flip_a_bit(folder: Path, made: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-5] ^= 4
    (folder / WEIGHTS).write_bytes(data)


def make_a_hole(folder: Path, made: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-1024, os.SEEK_END)
        file.write(bytes(1024))


def truncate(folder: Path, made: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 512)


def empty(folder: Path, made: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def put_a_pipe(folder: Path, made: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def link_to_a_device(folder: Path, made: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")


def bloat_the_manifest(folder: Path, made: Path) -> None:
    os.truncate(folder / MANIFEST_FILE, 1 << 40)


def come_from_the_future(folder: Path, made: Path) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, "format": 99}))


def name_others_files(folder: Path, made: Path) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    manifest["files"]["../../../etc/passwd"] = manifest["files"][WEIGHTS]
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def attest(folder: Path, name: str, data: bytes) -> None:
    """Put a file in place, and its hash into the manifest: only what it holds can tell."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    manifest["files"][name] = msgspec.to_builtins(fact_of(folder / name))
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def run_code(folder: Path, made: Path) -> None:
    attest(folder, WEIGHTS, pickle.dumps(Payload(made)))


def claim_a_trillion(folder: Path, made: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    attest(folder, WEIGHTS, len(header).to_bytes(8, "little") + header + bytes(64))


def claim_a_huge_header(folder: Path, made: Path) -> None:
    attest(folder, WEIGHTS, (1 << 62).to_bytes(8, "little") + b"{}")


def hold_no_tensor(folder: Path, made: Path) -> None:
    attest(folder, WEIGHTS, (2).to_bytes(8, "little") + b"{}")


def claim_a_huge_shape(folder: Path, made: Path) -> None:
    name = STATE if (folder / STATE).exists() else "info.json"
    facts = json.loads((folder / name).read_bytes())
    facts["shape"] = {**facts["shape"], "n_layer": 10**12}
    attest(folder, name, json.dumps(facts).encode())


DAMAGES: dict[Damage, str] = {
    flip_a_bit: "model.safetensors is not what was written",
    make_a_hole: "model.safetensors is not what was written",
    truncate: "bytes instead of",
    empty: "0 bytes instead of",
    put_a_pipe: "model.safetensors cannot be read (it is no regular file)",
    link_to_a_device: "model.safetensors cannot be read (it is no regular file)",
    bloat_the_manifest: "manifest.json cannot be read (it is far too large)",
    come_from_the_future: "newer llm-tui (format 99",
    name_others_files: "manifest.json names other files",
    run_code: "model.safetensors is no file of tensors",
    claim_a_trillion: "model.safetensors is no file of tensors",
    claim_a_huge_header: "model.safetensors is no file of tensors",
    hold_no_tensor: "model.safetensors has 0 weights",
    claim_a_huge_shape: "which is not what its shape says",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_checkpoint_is_refused_by_name_and_the_older_one_is_used(
    tmp_path: Path, damage: Damage
) -> None:
    saver, made = Saver(tmp_path, keep=2, shape=SHAPE), tmp_path / "made"
    saver.save(3)
    saver.save(5)
    damage(saver.save(9), made)
    search = newest_verified(tmp_path)
    assert search.checkpoint is not None and search.checkpoint.state.step == 5
    (error,) = search.damaged
    assert "Checkpoint step-9" in error.title and DAMAGES[damage] in error.title and error.remedy
    assert load_newest(tmp_path).source == "step-5"
    assert not made.exists(), "nothing in it was run"
    # The next process keeps two good ones beside it, and replaces it when it comes to that step.
    later = Saver(tmp_path, keep=2, shape=SHAPE)
    later.checkpoints.prune()
    assert later.names() == ["step-3", "step-5", "step-9"]
    later.save(9)
    later.checkpoints.prune()
    assert newest_verified(tmp_path).damaged == () and later.names() == ["step-5", "step-9"]


def test_a_checkpoint_under_another_ones_name_is_refused(tmp_path: Path) -> None:
    saver = Saver(tmp_path, shape=SHAPE)
    saver.save(3)
    saver.save(5).rename(tmp_path / "checkpoints" / "step-800")
    (tmp_path / "checkpoints" / "step-²").mkdir()
    search = newest_verified(tmp_path)
    assert search.checkpoint is not None and search.checkpoint.state.step == 3
    assert [error.title for error in search.damaged] == ["Checkpoint step-800 is damaged: it holds step 5."]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_model_is_refused_by_name_and_the_checkpoint_is_used(tmp_path: Path, damage: Damage) -> None:
    saver, made = Saver(tmp_path, shape=SHAPE), tmp_path / "made"
    saver.save(9)
    (tmp_path / "tokenizer.json").write_text("{}")
    info = ModelInfo(
        run_id="a",
        preset="tiny",
        parameters=SHAPE.parameters,
        shape=SHAPE,
        corpus="text",
        step=9,
        tokens=9,
        val_loss=None,
        val_bits_per_byte=None,
        end_of_text_id=0,
        finished_at=0.0,
    )
    folder = write_model(tmp_path, saver.model, info)
    assert load_newest(tmp_path).source == "model"
    damage(folder, made)
    with pytest.raises(CheckpointError) as caught:
        load_from(tmp_path, "model")
    assert str(folder) in caught.value.title and DAMAGES[damage] in caught.value.title
    loaded = load_newest(tmp_path)
    assert loaded.source == "step-9" and loaded.problems[0].title == caught.value.title
    assert not made.exists(), "nothing in it was run"
    write_model(tmp_path, saver.model, info)
    assert load_newest(tmp_path).source == "model"
