"""What counts as a checkpoint, and what is done about one that does not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
import torch

from engine import atomic
from engine.errors import CheckpointError
from engine.shape import ModelShape
from engine.train.checkpoint import Checkpoints, TrainState, newest_verified, verify
from engine.train.data import Position
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet
from tests.engine.train.conftest import SMALL


class Saver:
    """A small model that has done steps, and the folder it is saved in."""

    def __init__(self, run_dir: Path, keep: int = 2, shape: ModelShape = SMALL) -> None:
        self.run_dir, self.shape = run_dir, shape
        self.model = Decoder(shape)
        self.model.initialise(1)
        self.optimizer = OptimizerSet(self.model, "muon", 1e-2, 0.1)
        self.checkpoints = Checkpoints(run_dir, keep)

    def save(self, step: int) -> Path:
        self.model(torch.full((1, 8), step)).pow(3).mean().backward()
        for optimizer in self.optimizer.optimizers:
            optimizer.step()
        row = self.checkpoints.save(self.model, self.optimizer, self.state(step))
        return self.run_dir / "checkpoints" / row.folder

    def state(self, step: int) -> TrainState:
        return TrainState(
            step=step,
            tokens=step * 512,
            position=Position(epoch=1, cursor=step),
            shape=self.shape,
            optimizer="muon",
            tokens_per_step=512,
            steps=100,
            micro_batch=4,
            rng_cpu="",
        )

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.run_dir / "checkpoints").iterdir())


@pytest.fixture
def saver(tmp_path: Path) -> Saver:
    return Saver(tmp_path)


def test_what_was_saved_is_found_and_loaded(saver: Saver):
    folder = saver.save(5)
    found = newest_verified(saver.run_dir).checkpoint
    assert found is not None and found.folder == folder
    assert found.state == saver.state(5)
    assert found.total_bytes == sum(
        path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json"
    )
    model = Decoder(SMALL)
    found.load_model(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), saver.model.parameters(), strict=True))
    optimizer = OptimizerSet(model, "muon", 1e-2, 0.1)
    found.load_optimizer(optimizer)
    loaded, saved = dict(optimizer.tensors()), dict(saver.optimizer.tensors())
    assert loaded.keys() == saved.keys() and all(torch.equal(loaded[name], saved[name]) for name in saved)


def test_others_can_read_the_weights(saver: Saver):
    from safetensors.torch import load_file

    tensors = load_file(saver.save(5) / "model.safetensors")
    assert set(tensors) == set(saver.model.state_dict())


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [(flip_a_bit, "sha256 differs"), (truncate, "bytes instead of"), (Path.unlink, "cannot be read")],
)
def test_a_damaged_file_is_named_and_the_older_checkpoint_used(saver: Saver, damage, reason: str, name: str):
    saver.save(5)
    newest = saver.save(9)
    damage(newest / name)
    search = newest_verified(saver.run_dir)
    assert search.checkpoint is not None and search.checkpoint.state.step == 5
    (error,) = search.damaged
    assert "step-9" in error.title and name in error.title and reason in error.title


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
def test_a_damaged_manifest_counts_as_damage(saver: Saver, damage):
    saver.save(5)
    manifest = saver.save(9) / "manifest.json"
    if damage is flip_a_bit:
        manifest.write_bytes(b"\x00" + manifest.read_bytes()[1:])
    else:
        damage(manifest)
    search = newest_verified(saver.run_dir)
    assert search.checkpoint is not None and search.checkpoint.state.step == 5
    assert "manifest.json" in search.damaged[0].title


def test_a_newer_format_is_not_read_but_said(saver: Saver):
    saver.save(5)
    manifest = saver.save(9) / "manifest.json"
    content = msgspec.json.decode(manifest.read_bytes())
    manifest.write_bytes(msgspec.json.encode({**content, "format": 2, "files": "elsewhere"}))
    search = newest_verified(saver.run_dir)
    assert search.checkpoint is not None and search.checkpoint.state.step == 5
    assert "newer llm-tui (format 2" in search.damaged[0].title and "Update" in search.damaged[0].remedy


def test_without_any_there_is_none(tmp_path: Path):
    assert newest_verified(tmp_path).checkpoint is None


def test_older_ones_go_but_never_the_last_two_good_ones(tmp_path: Path):
    saver = Saver(tmp_path, keep=1)
    for step in (3, 5, 9):
        saver.save(step)
        saver.checkpoints.prune()
    assert saver.names() == ["step-5", "step-9"]


def test_a_damaged_one_does_not_count_towards_those_that_are_kept(saver: Saver):
    saver.save(3)
    flip_a_bit(saver.save(5) / "model.safetensors")
    saver.save(9)
    later = Saver(saver.run_dir)  # another process, which knows none of them to be good
    later.checkpoints.prune()
    assert later.names() == ["step-3", "step-5", "step-9"]
    later.save(12)
    later.checkpoints.prune()
    assert later.names() == ["step-12", "step-9"]


def test_a_damaged_one_is_replaced_when_its_step_is_saved_again(saver: Saver):
    folder = saver.save(5)
    truncate(folder / "model.safetensors")
    saver.save(5)
    assert verify(folder).state.step == 5
    assert saver.names() == ["step-5"]


def test_what_a_killed_writer_left_is_removed(saver: Saver):
    saver.save(5)
    leftover = saver.run_dir / "checkpoints" / ".step-9.123"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    assert newest_verified(saver.run_dir).damaged == ()
    assert Saver(saver.run_dir).names() == ["step-5"]


def test_a_full_disk_leaves_what_was_there(saver: Saver, monkeypatch: pytest.MonkeyPatch):
    saver.save(5)

    def full(path: Path, data: bytes, mode: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_bytes", full)
        with pytest.raises(CheckpointError, match="step 9 could not be written: No space left"):
            saver.save(9)
    assert saver.names() == ["step-5"]
    saver.save(9)
    assert verify(saver.run_dir / "checkpoints" / "step-9").state.step == 9


def test_bytes_that_the_disk_got_wrong_are_noticed(saver: Saver, monkeypatch: pytest.MonkeyPatch):
    from engine.train import checkpoint

    written = checkpoint.write_tensors

    def faulty(path: Path, *others):
        digest = written(path, *others)
        flip_a_bit(path)
        return digest

    monkeypatch.setattr(checkpoint, "write_tensors", faulty)
    with pytest.raises(CheckpointError, match="is not what was written"):
        saver.save(5)
    assert saver.names() == []


def test_weights_of_another_model_are_refused(saver: Saver):
    folder = saver.save(5)
    other = Decoder(msgspec.structs.replace(SMALL, n_layer=1))
    with pytest.raises(CheckpointError, match="belongs to another model"):
        verify(folder).load_model(other)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        verify(folder).load_optimizer(OptimizerSet(other, "muon", 1e-2, 0.1))
