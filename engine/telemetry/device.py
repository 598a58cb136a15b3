"""Which device the training will use, told without torch: from the text of its version file and from NVML."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.records import Device
from engine.settings import Settings
from engine.telemetry.gpus import snapshot
from engine.telemetry.host import cpu_name, memory, num_physical_cores
from engine.telemetry.nvml import Gpu, GpuReading, GpuSnapshot


class TorchBuild(msgspec.Struct, frozen=True, kw_only=True):
    """What the installed torch was built for."""

    version: str
    """Empty: torch is not installed."""
    cuda: tuple[int, int] | None
    """None: built without CUDA."""


def torch_build() -> TorchBuild:
    """The installed torch's version and CUDA build, read as text: importing torch takes a second and 200 MB."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return TorchBuild(version="", cuda=None)
    try:
        return parse_torch_version(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"))
    except OSError:
        return TorchBuild(version="unknown", cuda=None)


def parse_torch_version(text: str) -> TorchBuild:
    """What torch/version.py says; a file that is no Python says nothing."""
    values: dict[str, object] = {}
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        statements = []
    for statement in statements:
        target: ast.expr
        if isinstance(statement, ast.AnnAssign):
            target, value = statement.target, statement.value
        elif isinstance(statement, ast.Assign):
            target, value = statement.targets[0], statement.value
        else:
            continue
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            values[target.id] = value.value
    found = re.match(r"(\d+)\.(\d+)", str(values.get("cuda") or ""))
    return TorchBuild(
        version=str(values.get("__version__") or "unknown"),
        cuda=(int(found.group(1)), int(found.group(2))) if found else None,
    )


def find_device(settings: Settings, seen: GpuSnapshot | None = None) -> Device:
    """The device that training will use: the first GPU that torch may and can use, else the CPU.

    On a CPU `note` says why not the GPU, where one was seen. `seen` is what NVML tells; None: it is asked, and a driver
    that hangs costs 5 s. The settings name no device today; whoever asks has them at hand, for the day they do.
    """
    seen = snapshot() if seen is None else seen
    if not seen.gpus:
        return cpu_device(seen.reason if seen.has_unreadable_gpu else "")
    visible = visible_gpus(list(seen.gpus), os.environ)
    if not visible:
        return cpu_device(f"{seen.gpus[0].gpu.name} is hidden: CUDA_VISIBLE_DEVICES allows no GPU.")
    build = torch_build()
    notes = [_why_not(reading.gpu, build) for reading in visible]
    for reading, note in zip(visible, notes, strict=True):
        if not note:
            return _gpu_device(reading)
    return cpu_device(notes[0])


def cpu_device(note: str = "") -> Device:
    """The CPU with the memory and the cores that this process may use."""
    ram = memory()
    return Device(
        kind="cpu",
        name=cpu_name(),
        identity="cpu",
        total_bytes=ram.total_bytes,
        free_bytes=ram.available_bytes,
        num_cores=num_physical_cores(),
        note=note,
    )


def _gpu_device(reading: GpuReading) -> Device:
    return Device(
        kind="cuda",
        name=reading.gpu.name,
        identity=reading.gpu.uuid,
        total_bytes=reading.memory_total_bytes,
        free_bytes=reading.memory_free_bytes,
        capability=reading.gpu.capability,
        driver=reading.gpu.driver_version,
        num_cores=num_physical_cores(),
    )


def visible_gpus(gpus: list[GpuReading], environment: Mapping[str, str]) -> list[GpuReading]:
    """The GPUs that CUDA shows to a program, in its order; the list ends at the first entry that names none.

    Source: CUDA C++ programming guide 12.9, "CUDA environment variables". CUDA counts the fastest first unless
    CUDA_DEVICE_ORDER=PCI_BUS_ID; the newest architecture and then the most memory stand in for "fastest" here.
    """
    ordered = sorted(gpus, key=lambda reading: reading.gpu.index)
    if environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        ordered.sort(
            key=lambda reading: (reading.gpu.capability or (0, 0), reading.memory_total_bytes or 0),
            reverse=True,
        )
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return ordered
    visible = []
    for entry in (part.strip() for part in allowed.split(",")):
        if re.fullmatch(r"\d+", entry):
            matching = ordered[int(entry) : int(entry) + 1]
        else:
            matching = [reading for reading in ordered if entry and reading.gpu.uuid.startswith(entry)]
        if len(matching) != 1:
            break
        visible.append(matching[0])
    return visible


def _why_not(gpu: Gpu, build: TorchBuild) -> str:
    """Why torch cannot use a GPU, with the remedy; empty where nothing speaks against it."""
    if not build.version:
        return f"{gpu.name} is not used: torch is not installed."
    if build.cuda is None:
        return f"{gpu.name} is not used: torch {build.version} is built without CUDA. Install a CUDA build of torch."
    wanted = f"{build.cuda[0]}.{build.cuda[1]}"
    if gpu.driver_cuda is not None and gpu.driver_cuda[0] < build.cuda[0]:
        runs = f"{gpu.driver_cuda[0]}.{gpu.driver_cuda[1]}"
        return (
            f"{gpu.name} is not used: torch is built for CUDA {wanted}, the driver runs up to {runs}. "
            "Update the NVIDIA driver."
        )
    least = _least_capability(build.cuda)
    if gpu.capability is not None and gpu.capability < least:
        return (
            f"{gpu.name} is not used: torch for CUDA {wanted} needs compute capability {least[0]}.{least[1]}, "
            f"this GPU has {gpu.capability[0]}.{gpu.capability[1]}. Install torch for an older CUDA."
        )
    return ""


def _least_capability(cuda: tuple[int, int]) -> tuple[int, int]:
    """The oldest GPU that torch's wheels for a CUDA version run on.

    Any driver of the same major version runs a build (CUDA minor version compatibility). Source: pytorch's
    .ci/manywheel/build_cuda.sh and github.com/pytorch/pytorch issue 157517, 2025.
    """
    if cuda >= (13, 0):
        return (7, 5)
    return (7, 0) if cuda >= (12, 8) else (5, 0)
