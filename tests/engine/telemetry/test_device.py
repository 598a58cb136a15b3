"""Which device the training will use, with the stand-in driver and a torch that may not be imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.telemetry.device import parse_torch_version
from tests.nvml_standin import UUID, build

FIND = """
import json, sys, msgspec
from engine.settings import Settings
from engine.telemetry.device import find_device
device = find_device(Settings())
assert "torch" not in sys.modules and "numpy" not in sys.modules
print(msgspec.json.encode(device).decode())
"""


def torch_for(tmp_path: Path, cuda: str | None) -> dict[str, str]:
    """A torch of which only the version may be read: importing it ends the child."""
    folder = tmp_path / "packages" / "torch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('torch was imported')\n")
    (folder / "version.py").write_text(
        f"from typing import Optional\n__version__ = '2.13.0'\ncuda: Optional[str] = {cuda!r}\n"
    )
    return {"PYTHONPATH": str(folder.parent)}


def test_the_gpu_where_torch_can_use_it(tmp_path: Path) -> None:
    standin = build(tmp_path, memory_used_bytes=2**30)
    found = json.loads(standin.run(FIND, **torch_for(tmp_path, "12.8")))
    assert (found["kind"], found["name"], found["identity"]) == ("cuda", "NVIDIA GeForce RTX 2050", UUID)
    assert (found["total_bytes"], found["free_bytes"]) == (4 * 2**30, 3 * 2**30)
    assert found["capability"] == [8, 6] and found["note"] == ""


@pytest.mark.parametrize(
    ("cuda", "values", "env", "words"),
    [
        (None, {}, {}, "built without CUDA"),
        ("12.8", {}, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES"),
        ("12.8", {}, {"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES"),
        ("13.0", {"cuda": 12040}, {}, "driver runs up to 12.4"),
        ("13.0", {"capability": "7.0"}, {}, "compute capability 7.5"),
        ("12.8", {"init": 18}, {}, "restart the machine"),
        ("12.8", {"devices": 0}, {}, ""),
    ],
)
def test_the_cpu_with_a_note_why(
    tmp_path: Path, cuda: str | None, values: dict[str, object], env: dict[str, str], words: str
) -> None:
    standin = build(tmp_path, **values)
    found = json.loads(standin.run(FIND, **torch_for(tmp_path, cuda), **env))
    assert (found["kind"], found["identity"], found["capability"]) == ("cpu", "cpu", None)
    assert words in found["note"] and bool(words) == bool(found["note"])
    assert found["total_bytes"] > 0 and found["free_bytes"] > 0 and found["num_cores"] >= 1


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, "GPU-b"),  # CUDA's own order: the newest first
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "GPU-a"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "GPU-a"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a"}, "GPU-a"),
    ],
)
def test_of_two_gpus_the_one_that_cuda_counts_first(tmp_path: Path, env: dict[str, str], wanted: str) -> None:
    standin = build(tmp_path, devices=2, uuid="GPU-a", capability="7.5")
    standin.set(gpu=1, uuid="GPU-b", capability="8.9")
    assert json.loads(standin.run(FIND, **torch_for(tmp_path, "12.6"), **env))["identity"] == wanted


def test_the_version_file_of_every_kind_of_torch() -> None:
    assert parse_torch_version("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n").cuda is None
    assert parse_torch_version("__version__ = '2.9.1'\ncuda = '12.6'\n").cuda == (12, 6)
    assert parse_torch_version("not python at all (").version == "unknown"
