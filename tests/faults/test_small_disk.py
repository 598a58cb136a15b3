"""A disk that is really full, and a limit on the size of files: a save is refused, and good once there is room."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import CheckpointError
from engine.train.checkpoint import newest_verified
from tests.engine.train.test_checkpoint import Saver
from tests.faults.disk import mounted, unmount
from tests.faults.saves import SHAPE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    mounted(folder, 4)
    yield folder
    unmount(folder)


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """For this process; Python ignores the signal, so that a write fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room_bytes", [0, 2_000, 12_000, 20_000])
def test_a_full_disk_refuses_a_save_and_keeps_what_was_there(small_disk: Path, room_bytes: int) -> None:
    saver = Saver(small_disk, shape=SHAPE)
    saver.save(3)
    saver.save(5)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    ballast.open("r+b").truncate(max(0, ballast.stat().st_size - room_bytes))
    with pytest.raises(CheckpointError, match="step 9 could not be written: No space left") as caught:
        saver.save(9)
    assert "Make room" in caught.value.remedy and saver.names() == ["step-3", "step-5"]
    found = newest_verified(small_disk)
    assert found.checkpoint is not None and found.checkpoint.state.step == 5 and not found.damaged
    ballast.unlink()
    saver.save(9)
    saver.checkpoints.prune()
    assert saver.names() == ["step-5", "step-9"]


@pytest.mark.parametrize("num_bytes", [0, 100, 9_000])
def test_a_limit_on_the_size_of_files_is_told_like_a_full_disk(tmp_path: Path, num_bytes: int) -> None:
    saver = Saver(tmp_path, shape=SHAPE)
    saver.save(3)
    with files_of_at_most(num_bytes), pytest.raises(CheckpointError, match="File too large"):
        saver.save(9)
    assert saver.names() == ["step-3"]
    saver.save(9)
    found = newest_verified(tmp_path)
    assert found.checkpoint is not None and found.checkpoint.state.step == 9
