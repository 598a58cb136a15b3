"""What is the same for every contender: the shape, the data, and the gate at which it waits for its turn.

Must not import the engine: a peer's process holds the peer alone. Shapes: B sequences, T tokens of each.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VOCAB_SIZE, N_LAYER, N_HEAD, N_EMBD, INTERMEDIATE, CONTEXT = 8192, 6, 6, 384, 1024, 256
BATCH = 8
TOKENS_PER_STEP = BATCH * CONTEXT
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.95), 0.1, 1.0
THREADS = 2
WARMUP_STEPS = 4
"""Before the first turn: compiling, and what allocators and caches need to settle."""


class OverError(Exception):
    """The driver has closed the pipe: no more turns."""


class Gate:
    """Passed at the beginning of every step; between turns it blocks on the driver, so that one contender runs.

    Everything that libraries print goes to stderr; the driver alone is told on stdout.
    """

    def __init__(self) -> None:
        torch.set_num_threads(THREADS)
        torch.manual_seed(1)
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._begun_s = time.perf_counter()
        self._left = WARMUP_STEPS
        self._steps = 0
        self._clock = (0.0, 0.0)
        self.parameters: int | None = None
        """Told once, with the first answer."""

    def step(self) -> None:
        """Go on, or report the turn that is over and wait for the next.

        Raises: OverError.
        """
        if self._left == self._steps > 0:
            self._clock = (time.perf_counter(), time.process_time())
        if self._left > 0:
            self._left -= 1
            return
        now = (time.perf_counter(), time.process_time())
        if self._steps == 0:
            self._tell(ready_s=now[0] - self._begun_s, parameters=self.parameters)
            _forget_peak()
        else:
            wall_s, cpu_s = now[0] - self._clock[0], now[1] - self._clock[1]
            self._tell(steps=self._steps, wall_s=wall_s, cpu_s=cpu_s, peak_bytes=peak_bytes())
        line = sys.stdin.readline()
        if not line.strip():
            raise OverError
        self._steps = self._left = int(line)
        # The step that begins now is not timed: it brings caches and threads back.

    def _tell(self, **answer: Any) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def batches() -> Iterator[Tensor]:
    """Without end: (B, T + 1) int64 ids at random, the same for all."""
    generator = torch.Generator().manual_seed(7)
    pool = torch.randint(0, VOCAB_SIZE, (64 * BATCH, CONTEXT + 1), generator=generator)
    while True:
        yield from pool.split(BATCH)


def peak_bytes() -> int:
    """Most resident memory since the warm-up; since the start where the system cannot forget it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> None:
    """Source: Linux, proc_pid_clear_refs(5), value 5."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
