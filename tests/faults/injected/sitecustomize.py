"""Loaded by every Python that has this folder on its path: in a trainer, and there alone, it makes a fault happen.

FAULT_IN_TRAINER names a file that says which, as "PLACE NUMBER KIND TIMES": at the so many-th call of a place (step,
evaluate, save) in this process, KIND befalls it, until it has done so TIMES in all. Without the file nothing does.
"""

import os
import sys
from pathlib import Path

PLACES = {
    "step": ("engine.train.step", "forward_backward"),
    "evaluate": ("engine.train.evaluate", "cross_entropy_sum"),
    "save": ("engine.train.checkpoint", "write_tensors"),
}
CUDA_ERROR = (
    "CUDA error: unspecified launch failure\n"
    "CUDA kernel errors might be asynchronously reported at some other API call.\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)


def befall(kind):
    import signal

    import torch

    if kind == "cuda":
        raise RuntimeError(CUDA_ERROR)
    if kind == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if kind == "gone":
        from engine.errors import DeviceGoneError

        raise DeviceGoneError(
            "The run was planned for a GPU, and torch finds no usable one.", "Look at nvidia-smi."
        )
    os.kill(os.getpid(), signal.Signals[kind])


def inject(file):
    import importlib

    text = file.read_text().split()
    module = importlib.import_module(PLACES[text[0]][0])
    real, calls = getattr(module, PLACES[text[0]][1]), 0

    def faulty(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls >= int(text[1]) and file.exists():
            place, number, kind, times = file.read_text().split()
            if int(times) > 1:
                file.write_text(f"{place} {number} {kind} {int(times) - 1}")
            else:
                file.unlink()
            befall(kind)
        return real(*arguments, **named)

    setattr(module, PLACES[text[0]][1], faulty)


if "engine.train" in sys.orig_argv and "run" in sys.orig_argv and os.environ.get("GLIBC_TUNABLES"):
    path = Path(os.environ.get("FAULT_IN_TRAINER", "/nonexistent"))
    if path.exists():
        inject(path)
