"""The most memory that a stretch of work takes, and giving back what none of it needs any more."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

from engine.footprint import CUDA_CONTEXT_BYTES
from engine.plan import CUDA_MARGIN_FRAC
from engine.records import RunPlan

_TOLD_BY_TEXT = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Peaks of this process: of a GPU as its driver sees them, or of RAM."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"

    def begin(self) -> None:
        """Forget earlier peaks, and what the allocator still holds of them.

        Where the system cannot, on a CPU, a peak is that of the process so far.
        """
        if self._is_cuda:
            # The peak of what is reserved begins at what is reserved now.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")  # Source: proc_pid_clear_refs(5)

    def peak_bytes(self) -> int:
        """The most since `begin`; on CUDA what the allocator reserved, and the context's usual size on top."""
        if self._is_cuda:
            return int(torch.cuda.max_memory_reserved()) + CUDA_CONTEXT_BYTES
        with contextlib.suppress(OSError, StopIteration):
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def release(self) -> None:
        """Give back what is allocated but not used, so that the next stretch begins from what it needs."""
        gc.collect()
        if self._is_cuda:
            torch.cuda.empty_cache()
        elif sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)  # glibc's; absent from musl

    def budget_bytes(self, plan: RunPlan) -> int | None:
        """What a run may take: the plan's budget, and on a GPU no more than leaves a margin of what is free now.

        To be asked before anything was put on the GPU.
        """
        if not self._is_cuda:
            return plan.memory_budget_bytes
        free_bytes, _ = torch.cuda.mem_get_info()
        now_bytes = int((free_bytes + CUDA_CONTEXT_BYTES) * (1 - CUDA_MARGIN_FRAC))
        return min(now_bytes, plan.memory_budget_bytes or now_bytes)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failed allocation is what an error tells of.

    torch 2.13 has no type of its own for one on the CPU (c10/core/impl/alloc_cpu.cpp), nor for one that CUDA or cuBLAS
    makes beside torch's allocator (c10/cuda/CUDAException.cpp, aten/src/ATen/cuda/CUDAContextLight.h): these are plain
    RuntimeErrors, so that their text is all there is to go by.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TOLD_BY_TEXT)
