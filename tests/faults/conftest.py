"""What the tests of faults lean on besides real runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Workspace
from tests.engine.train.conftest import corpus as corpus
from tests.engine.train.conftest import make_run as make_run
from tests.faults.runs import STEPS, made, supervise, weights


@pytest.fixture
def injected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where to write what is to befall the trainers that are started from here on; see injected/sitecustomize.py."""
    file = tmp_path / "fault-in-trainer"
    folders = [str(Path(__file__).with_name("injected")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", ":".join(folder for folder in folders if folder))
    monkeypatch.setenv("FAULT_IN_TRAINER", str(file))
    yield file


@pytest.fixture
def undisturbed(make_workspace: Callable[..., Workspace]) -> str:
    """The hash of the weights of a run that nobody touched."""
    run = made(make_workspace(STEPS * 1024, "undisturbed"))
    assert supervise(run).wait(170) == 0
    return weights(run)
