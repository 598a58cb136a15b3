"""The device of a run as torch sees it: threads, number formats, compiling, memory."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import DeviceGoneError, EngineError
from engine.records import RunPlan
from engine.train.loss import cross_entropy_sum
from engine.train.model import Decoder

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MAX_IN_FLIGHT = 2
"""Micro-steps a GPU may be behind: enough to keep it busy, and a stop is heeded within two of them."""


class Accelerator:
    """Where and in which formats a run computes.

    Raises: DeviceGoneError where the plan wants a GPU that torch cannot use.
    """

    def __init__(self, plan: RunPlan, index: int | None = None) -> None:
        """`index` is which of the machine's GPUs, where several processes train on it; None: the one of the plan."""
        if plan.device.kind == "cuda" and plan.device.identity.startswith("GPU-") and index is None:
            # The very GPU that was planned for and locked; torch looks at this when it first touches CUDA.
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", plan.device.identity)
        if plan.device.kind == "cuda" and not torch.cuda.is_available():
            raise DeviceGoneError(
                f"The run was planned for {plan.device.name}, and torch {torch.__version__} finds no usable GPU.",
                "Look at nvidia-smi and CUDA_VISIBLE_DEVICES; once the GPU is back, start the run again.",
            )
        self.device = torch.device(plan.device.kind)
        if self.is_cuda and index is not None:
            if index >= torch.cuda.device_count():
                raise EngineError(
                    f"Process {index + 1} of this machine finds {torch.cuda.device_count()} GPUs.",
                    "Set scale.processes to the number of GPUs of each machine, and look at CUDA_VISIBLE_DEVICES.",
                )
            self.device = torch.device("cuda", index)
            torch.cuda.set_device(self.device)
        self.num_threads = use_physical_cores()
        self.precision = plan.precision
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")
        self._in_flight: deque[torch.cuda.Event] = deque()
        # fp32 products run as three bf16 ones (CPU) or as TF32 (CUDA): faster by half and more, still summed in fp32
        torch.set_float32_matmul_precision("high" if self.is_cuda else "medium")

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """What a forward pass runs under."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def reset_scaler(self, state: Mapping[str, float] | None = None) -> None:
        """A gradient scaler that knows of no step that was begun; the old one may be in the middle of one.

        It goes on from `state`; None: from where the scaler was, empty: from the beginning.
        """
        if state is None:
            state = self.scaler.state_dict()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        if state:
            # torch takes nothing else for these, and a checkpoint may have them as 2000.0.
            whole = {name: int(state[name]) for name in ("growth_interval", "_growth_tracker")}
            self.scaler.load_state_dict({**state, **whole})

    def throttle(self) -> None:
        """Wait until the GPU is at most two micro-steps behind, without reading anything back from it."""
        if not self.is_cuda:
            return
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record()
        self._in_flight.append(event)
        if len(self._in_flight) > _MAX_IN_FLIGHT:
            self._in_flight.popleft().synchronize()

    def memory_bytes(self) -> int:
        """Most device memory allocated so far (CUDA), or resident memory of this process (CPU)."""
        return torch.cuda.max_memory_allocated() if self.is_cuda else resident_bytes()

    def free_cache(self) -> tuple[str, dict[str, int]]:
        """Give the allocator's unused blocks back to the driver: what that did, in a sentence and in bytes."""
        if not self.is_cuda:
            resident = resident_bytes()
            return (
                f"There is no CUDA cache on a CPU; {resident / 2**20:,.0f} MiB resident.",
                {"resident_bytes": resident},
            )
        before = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
        torch.cuda.empty_cache()
        after = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
        text = (
            f"Emptied the CUDA cache: {before[0] / 2**20:,.0f} MiB reserved before, {after[0] / 2**20:,.0f} after, "
            f"{after[1] / 2**20:,.0f} MiB of it allocated."
        )
        return text, {
            "reserved_before_bytes": before[0],
            "allocated_before_bytes": before[1],
            "reserved_after_bytes": after[0],
            "allocated_after_bytes": after[1],
        }


def compile_blocks(model: Decoder, accelerator: Accelerator, micro_batch: int) -> str | None:
    """Compile the blocks and try them forward and backward; None, or why the model stays eager.

    One block's code serves all of them, which makes it a matter of seconds. Weights and gradients stay as they are.
    """
    try:
        for block in model.model.layers:
            block.compile(dynamic=False)
        _try(model, accelerator, micro_batch)
    except torch.OutOfMemoryError:
        return None  # the first step meets it again, and goes on with smaller micro-batches
    except (RuntimeError, OSError, ImportError) as error:
        for block in model.model.layers:
            block._compiled_call_impl = None  # what nn.Module.compile set; there is no method that undoes it
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    finally:
        for parameter in model.parameters():
            parameter.grad = None
    return None


def _try(model: Decoder, accelerator: Accelerator, micro_batch: int) -> None:
    model.train()
    ids = torch.zeros(micro_batch, model.shape.context, dtype=torch.int64, device=accelerator.device)
    forward_backward(model, accelerator, ids, ids, 0.0)


def forward_backward(
    model: Decoder, accelerator: Accelerator, inputs: Tensor, targets: Tensor, loss_weight: float
) -> Tensor:
    """One micro-step, (B, T) ids each: adds `loss_weight` times the gradients; the summed loss in nats, detached."""
    with accelerator.autocast():
        hidden = model(inputs)  # (B, T, D)
        loss = cross_entropy_sum(hidden.flatten(0, 1), model.head, targets.flatten())
    accelerator.scaler.scale(loss * loss_weight).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def use_physical_cores() -> int:
    """Let torch use a thread a physical core that this process may run on; fewer where it was told so."""
    threads = min(torch.get_num_threads(), num_physical_cores())
    torch.set_num_threads(threads)
    return threads


def num_physical_cores() -> int:
    """Cores that this process may run on, hyper-threads counted once and a container's quota heeded; at least 1."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text() if path.is_file() else str(cpu))
    return max(1, min(len(siblings), _quota_cores()))


def _quota_cores() -> int:
    """Whole cores of the cgroup's CPU quota, a large number where there is none. Source: cgroup-v2, cpu.max."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return sys.maxsize if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return sys.maxsize


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the system does not tell the present."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
