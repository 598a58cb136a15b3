"""A process of a training that does what the leader says: its share of every step. It need not see the run's folder."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.corpus.cache import cache_folder
from engine.corpus.manifest import CorpusManifest
from engine.corpus.shard import TokenStore
from engine.errors import CorpusError, EngineError
from engine.records import Level
from engine.train.device import Accelerator, compile_blocks
from engine.train.guard import allocate_state
from engine.train.model import Decoder
from engine.train.optim import OptimizerSet, muon_momentum
from engine.train.step import Stepper
from engine.train.team import Briefing, Order, ProcessTeam


class _Silent:
    """The leader tells of a step; what the others would say is the same."""

    def tell(self, level: Level, kind: str, text: str, **data: object) -> None:
        """Say nothing."""


def follow(team: ProcessTeam, workspace: Path) -> None:
    """Follow the leader to the end of the training.

    Raises: EngineError where this or another process cannot take part; PeerLostError where one is gone.
    """
    briefing = team.receive().briefing
    if briefing is None:
        return  # the leader has found that the run cannot be
    follower: Follower | None = None
    problem: EngineError | None = None
    try:
        follower = Follower(team, briefing, workspace)
    except EngineError as error:
        problem = error
    team.agree(problem)
    assert follower is not None, "agree raises where there is none"
    follower.run()


class Follower:
    """Everything a process that follows has in hand."""

    def __init__(self, team: ProcessTeam, briefing: Briefing, workspace: Path) -> None:
        plan, settings, manifest = briefing.plan, briefing.settings, briefing.manifest
        self._team = team
        tokens = _open_tokens(manifest, workspace)
        self._accelerator = Accelerator(plan, team.local_rank)
        torch.manual_seed(settings.seed)
        self._model = Decoder(plan.shape, num_recomputed_blocks=plan.num_recomputed_blocks)
        self._model.to(self._accelerator.device)
        self._optimizer = OptimizerSet(
            self._model, plan.optimizer, plan.learning_rate, settings.weight_decay, muon_momentum(plan.steps)
        )
        allocate_state(self._model, self._optimizer)
        self._stepper = Stepper(
            self._model,
            self._optimizer,
            self._accelerator,
            plan,
            settings,
            tokens,
            _Silent(),
            parts=manifest.parts,
            team=team,
        )

    def run(self) -> None:
        """One order after the other, until there are no more."""
        while (order := self._team.receive()).verb != "leave":
            self._obey(order)
        self._stepper.close()

    def _obey(self, order: Order) -> None:
        if order.verb == "step":
            self._stepper.follow(order)
        elif order.verb == "share":
            self._stepper.close()
            self._team.share_state(self._model, self._optimizer)
            self._accelerator.reset_scaler(order.loss_scale)
        else:
            compile_blocks(self._model, self._accelerator, order.micro_batch)


def _open_tokens(manifest: CorpusManifest, workspace: Path) -> TokenStore:
    """The training tokens in this machine's own workspace, or where the leader has them.

    Raises: CorpusError where neither has them.
    """
    own = cache_folder(workspace) / manifest.key
    for folder in (own, Path(manifest.folder)):
        if folder.is_dir():
            return TokenStore.open(folder, "train")
    raise CorpusError(
        f"The tokens of this run are not on this machine: {own} is not there.",
        f"Copy that folder from the machine that leads, where it is {manifest.folder}.",
    )
