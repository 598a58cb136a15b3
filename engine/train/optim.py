"""The optimizer and the schedule of its rate.

"muon": Muon for the hidden matrices, its rate matched to AdamW's by the root mean square of the update, and fused
AdamW for embedding, head and norms, embedding and norms at a higher rate. "adamw": fused AdamW for all. Only hidden
matrices decay.
Sources: Muon, kellerjordan.github.io/posts/muon, December 2024; the matching, arXiv 2502.16982, February 2025;
warm-up, flat, decay: arXiv 2405.18392, May 2024.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

HEAD = "lm_head.weight"
ADAMW_BETAS = (0.9, 0.95)
ADAMW_EPS = 1e-8
MUON_MOMENTUM = 0.95
"""Of runs of some thousand steps, as in the public records."""
SHORT_RUN_MOMENTUM = 0.85
"""Of runs of some hundred steps, in which an average over 20 of them lags behind: see `muon_momentum`."""
QUICK_RATE = 10.0
"""Times the rate of the rest, for embedding and norms beside Muon.

A row of the embedding is met in few steps only, and a norm starts at 1, far from where it is going. Measured on the
tiny preset (tied head, 800,000 tokens, rate 4e-3, validation loss): 1: 4.10, 2.5: 4.02, 5: 3.95, 10: 3.92, 20: 3.97;
10 for the embedding alone: 3.95.
"""


def learning_rate_frac(step: int, steps: int, warmup_frac: float, decay_frac: float) -> float:
    """Share of the peak rate, above 0 up to 1, for step `step` of 1 to `steps`.

    Rises in a line over the first `warmup_frac` of the steps, stays, and falls in a line to nearly 0 over the last
    `decay_frac`; at least one step each.
    """
    warmup = max(1.0, warmup_frac * steps)
    decay = max(1.0, decay_frac * steps)
    return min(1.0, step / warmup, (steps - step + 1) / decay)


def muon_momentum(steps: int) -> float:
    """An average over about a hundredth of a run's steps, between the two bounds: 667 steps and 2,000."""
    return min(MUON_MOMENTUM, max(SHORT_RUN_MOMENTUM, 1.0 - 100.0 / steps))


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is one of the matrices within the blocks: what Muon updates and what decays."""
    return parameter.ndim == 2 and ".layers." in name


class OptimizerSet:
    """The optimizers of one model, used as one; its state is known by the parameters' names."""

    def __init__(
        self,
        model: nn.Module,
        kind: str,
        learning_rate: float,
        weight_decay: float,
        momentum: float = MUON_MOMENTUM,
    ) -> None:
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self._peak = learning_rate
        self.learning_rate = learning_rate
        """The rate of the next step."""
        self.rate_frac = 1.0
        """As a share of the peak."""
        matrices = [p for p, name in self._names.items() if is_hidden_matrix(name, p)]
        head = [p for p, name in self._names.items() if name == HEAD]  # none where it is tied
        others = [p for p, name in self._names.items() if name != HEAD and not is_hidden_matrix(name, p)]
        self.optimizers: tuple[Optimizer, ...]
        """What torch calls optimizers; a gradient scaler steps each."""
        if kind == "muon":
            muon = Muon(
                matrices,
                lr=learning_rate,
                weight_decay=weight_decay,
                momentum=momentum,
                adjust_lr_fn="match_rms_adamw",
            )
            adamw = _adamw([_group(others, rate=QUICK_RATE), _group(head)], learning_rate)
            self.optimizers = (muon, adamw)
        else:
            groups = [_group(matrices, weight_decay=weight_decay), _group(others + head)]
            self.optimizers = (_adamw(groups, learning_rate),)

    def set_rate(self, frac: float) -> None:
        """Set the rate of the next step to a share of the peak."""
        self.rate_frac = frac
        self.learning_rate = self._peak * frac
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * group.get("rate", 1.0)

    def zero_grad(self) -> None:
        """Free the gradients."""
        for parameter in self._names:
            parameter.grad = None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The state as `parameter:key` and tensor, in the order of the names; empty before the first step."""
        found = {
            f"{self._names[parameter]}:{key}": value
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }
        return iter(sorted(found.items()))

    def load(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        """Take over a state that `tensors` gave, one tensor at a time.

        Raises: KeyError where it names a parameter that this model has not.
        """
        by_name = {name: parameter for parameter, name in self._names.items()}
        owners = {
            parameter: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for full_name, tensor in tensors:
            name, _, key = full_name.rpartition(":")
            parameter = by_name[name]
            # A copy: what is read from a file may still be mapped to it.
            owners[parameter].state[parameter][key] = tensor.to(parameter.device, copy=True)


def _group(parameters: list[Tensor], rate: float = 1.0, weight_decay: float = 0.0) -> dict[str, object]:
    return {"params": parameters, "rate": rate, "weight_decay": weight_decay}


def _adamw(groups: list[dict[str, object]], learning_rate: float) -> AdamW:
    filled = [group for group in groups if group["params"]]
    return AdamW(filled, lr=learning_rate, betas=ADAMW_BETAS, eps=ADAMW_EPS, fused=True)


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale the gradients down to `max_norm` together; the norm before that, a scalar on the device."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
