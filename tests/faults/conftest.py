"""What the tests of faults lean on besides real runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import Workspace
from tests.conftest import SMALL, write_text
from tests.engine.train.conftest import corpus as corpus
from tests.engine.train.conftest import make_run as make_run
from tests.faults.runs import PATIENCE_S, STEPS, made, supervise, weights


@pytest.fixture
def injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where to write what is to befall the trainers that are started from here on; see injected/sitecustomize.py."""
    file = tmp_path / "fault-in-trainer"
    folders = [str(Path(__file__).with_name("injected")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", ":".join(folder for folder in folders if folder))
    monkeypatch.setenv("FAULT_IN_TRAINER", str(file))
    yield file


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the weights of a run that nobody touched."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_text(folder / "text")
    (folder / "settings.toml").write_text(SMALL.format(tokens=STEPS * 1024), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("XDG_STATE_HOME", raising=False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        run = made(Workspace(folder))
        assert supervise(run).wait(PATIENCE_S) == 0
    return weights(run)
