"""The processes of one training: each has the model, takes its share of a step's windows, and gets the sum of all
gradients, so that all make the same update.

One process leads: it has the run's folder, heeds commands, saves, measures, and says before every step what is done.
The others follow. Whatever keeps one of them from doing its share of a step (want of memory, a pause's end in a stop)
is told to all before the gradients are summed, so that a step is made by all or by none. Gradients are summed once a
step, after its micro-steps, which is why torch's DistributedDataParallel, made to sum during each backward pass, is not
used: see docs/decisions/0010-one-sum-a-step.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.corpus.manifest import CorpusManifest
from engine.errors import EngineError
from engine.records import RunPlan
from engine.settings import TrainingSettings
from engine.train.data import Position
from engine.train.optim import OptimizerSet
from engine.train.peak import is_out_of_memory

_MEET_WITHIN = timedelta(minutes=10)
"""How long processes wait for each other where all are at work."""
_WAIT_FOR_ORDERS = timedelta(days=365)
"""A run may be paused for long. That another process died is seen at once, by its connection and by torch's agent."""
_GOOD, _OUT_OF_MEMORY, _ABANDONED = 0, 1, 2


class Briefing(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader tells of the run before anything else."""

    plan: RunPlan
    settings: TrainingSettings
    manifest: CorpusManifest


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What all are to do next."""

    verb: Literal["begin", "step", "share", "compile", "leave"]
    briefing: Briefing | None = None
    position: Position = Position()
    micro_batch: int = 0
    rate_frac: float = 0.0
    loss_scale: dict[str, float] = {}


class PeerOutOfMemoryError(MemoryError):
    """Memory ran out in another process of the training."""


class PeerLostError(Exception):
    """Another process of the training, or the connection to it, is gone."""


class AbandonedError(Exception):
    """The leader, or another process, has broken off the step."""


class Team:
    """One process by itself: everything that is done together is done at once. Several: `ProcessTeam`."""

    size = 1
    """Processes in all."""
    seat = 0
    """Which share of a step is this process's; the leader has the first."""
    local_rank: int | None = None
    """Which of this machine's devices is this process's; None: the one of the plan."""
    is_leader = True

    def send(self, order: Order) -> None:
        """Tell the others what is done next. The leader's, as `begin`, `spread` and `dismiss` are."""

    def begin(self, briefing: Briefing) -> None:
        """Wait until the others are ready. Raises: EngineError where one of them cannot take part."""

    def spread(self, model: nn.Module, optimizer: OptimizerSet, loss_scale: dict[str, float]) -> None:
        """Give the others the state of the training."""

    def dismiss(self) -> None:
        """Let the others end; those that are gone are let be."""

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors in all processes what they are in the leader's."""

    def sum(self, tensors: list[Tensor]) -> None:
        """Make each tensor the sum of all processes' own."""

    def meet(self, status: int) -> int:
        """Wait for all; the worst status of any."""
        return status

    @contextmanager
    def together(self) -> Iterator[None]:
        """A stretch of each one's own work, ended by all: what it raises in one ends it in all.

        Raises: PeerOutOfMemoryError, AbandonedError where it was another process.
        """
        try:
            yield
        except Exception as error:
            with suppress(PeerLostError):
                self.meet(_OUT_OF_MEMORY if is_out_of_memory(error) else _ABANDONED)
            raise
        worst = self.meet(_GOOD)
        if worst == _OUT_OF_MEMORY:
            raise PeerOutOfMemoryError("Memory ran out in another process.")
        if worst == _ABANDONED:
            raise AbandonedError("Another process has broken off the step.")

    def share_state(self, model: nn.Module, optimizer: OptimizerSet) -> None:
        """Give every process the leader's weights and the state of its optimizer."""
        self.share(parameter.data for parameter in model.parameters())
        self.share(tensor for _, tensor in optimizer.tensors())

    def sum_gradients(self, model: nn.Module) -> None:
        """Give every process the sum of all gradients."""
        if self.size == 1:
            return
        for parameter in model.parameters():
            if parameter.grad is None:  # there were fewer micro-batches than processes
                parameter.grad = torch.zeros_like(parameter)
        self.sum([parameter.grad for parameter in model.parameters() if parameter.grad is not None])


class ProcessTeam(Team):
    """This process among those that torch's elastic agent has started.

    Orders and decisions go between CPUs by gloo, gradients by what is fastest for the device.
    """

    def __init__(self, *, is_leader: bool) -> None:
        """Wait for all to come. `is_leader` is true in one process."""
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_MEET_WITHIN)
        self._orders = dist.new_group(timeout=_WAIT_FOR_ORDERS, backend="gloo")
        self.size = dist.get_world_size()
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.is_leader = is_leader
        self.is_broken = False
        """Whether another process was found to be gone."""
        rank = dist.get_rank()
        leads = torch.tensor([rank if is_leader else -1])
        dist.all_reduce(leads, dist.ReduceOp.MAX, group=self._orders)
        self._leader = int(leads.item())
        if self._leader < 0:
            raise EngineError(
                "None of the processes has the run's folder.", "Start it from the machine that has it."
            )
        self.seat = (rank - self._leader) % self.size

    def close(self) -> None:
        """End the connections and their threads, which would abort a process whose interpreter ends under them."""
        del self._orders
        dist.destroy_process_group()

    def send(self, order: Order) -> None:
        """Tell the others what is done next."""
        self._broadcast(msgspec.json.encode(order))

    def receive(self) -> Order:
        """Wait for what the leader says is next."""
        return msgspec.json.decode(self._broadcast(b""), type=Order)

    def begin(self, briefing: Briefing) -> None:
        """Wait until the others are ready. Raises: EngineError where one of them cannot take part."""
        self.send(Order(verb="begin", briefing=briefing))
        self.agree(None)

    def spread(self, model: nn.Module, optimizer: OptimizerSet, loss_scale: dict[str, float]) -> None:
        """Give the others the state of the training."""
        self.send(Order(verb="share", loss_scale=loss_scale))
        self.share_state(model, optimizer)

    def dismiss(self) -> None:
        """Let the others end; those that are gone are let be."""
        with suppress(PeerLostError):
            self.send(Order(verb="leave"))

    def _broadcast(self, data: bytes) -> bytes:
        length = torch.tensor([len(data)])
        with self._talking():
            dist.broadcast(length, self._leader, group=self._orders)
            buffer = torch.frombuffer(bytearray(data or int(length.item())), dtype=torch.uint8)
            dist.broadcast(buffer, self._leader, group=self._orders)
        return buffer.numpy().tobytes()

    def agree(self, problem: EngineError | None) -> None:
        """End in all processes where one of them cannot take part.

        Raises: EngineError with what the first of them has to say.
        """
        told: list[Any] = [None] * self.size
        mine = None if problem is None else (problem.title, problem.remedy)
        with self._talking():
            dist.all_gather_object(told, mine, group=self._orders)
        found = next((each for each in told if each is not None), None)
        if found is not None:
            raise EngineError(*found)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors in all processes what they are in the leader's."""
        with self._talking():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), self._leader)

    def sum(self, tensors: list[Tensor]) -> None:
        """Make each tensor the sum of all processes' own."""
        with self._talking():
            works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
            for work in works:
                work.wait()

    def meet(self, status: int) -> int:
        """Wait for all; the worst status of any."""
        worst = torch.tensor([status])
        with self._talking():
            dist.all_reduce(worst, dist.ReduceOp.MAX, group=self._orders)
        return int(worst.item())

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """What torch raises where a connection is gone, as a PeerLostError: it has no type of its own for gloo's."""
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.is_broken = True
            raise PeerLostError(str(error).splitlines()[0]) from error


ALONE = Team()
