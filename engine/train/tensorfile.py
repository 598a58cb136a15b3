"""Tensors in a .safetensors file, one at a time in and one at a time out.

The writer is our own because the library's makes a copy of everything in memory first, and does not sync.
Source: the format, github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(
    path: Path,
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
    on_bytes: Callable[[int], None] | None = None,
) -> str:
    """Write named tensors and sync the file, from a GPU one at a time; the sha256 of what was meant to be written.

    `on_bytes` is told after each how many bytes of tensors are written.
    Raises: OSError where the disk is full or the folder cannot be written.
    """
    listed = list(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name, tensor in listed:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        start = len(encoded).to_bytes(8, "little") + encoded
        digest = hashlib.sha256(start)
        file.write(start)
        done_bytes = 0
        for _, tensor in listed:
            flat = tensor.detach().cpu().contiguous().flatten()
            data = flat.view(torch.uint8).numpy().data
            digest.update(data)
            file.write(data)
            done_bytes += data.nbytes
            if on_bytes:
                on_bytes(done_bytes)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The named tensors of a file on the CPU, each read when it is asked for."""
    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            yield name, file.get_tensor(name)


def count_elements(path: Path) -> int:
    """How many elements the header of a file speaks of; no tensor is read.

    Raises: ValueError where one is of a kind that is never written; OSError and SafetensorError where the header is
    none, or does not fit the file.
    """
    total = 0
    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES.values():
                raise ValueError(f"{name} is of the kind {part.get_dtype()}")
            total += math.prod(part.get_shape())
    return total
