"""Torch-Pruning as a baseline: channels cut by its importance, at the cost of another network, then fine-tuned."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import smartc
from benchmarks.learning.cost import ChannelCosts, Cost
from benchmarks.learning.images import DataSet
from benchmarks.learning.training import Recipe, batches
from smartc.core.errors import UserError
from smartc.targets.target import Target

# Batches whose gradients the Taylor importance sums up, as Torch-Pruning's own scripts do; they count as steps.
TAYLOR_BATCHES = 10
# So many pruning ratios are tried.  All of them, since cost does not always fall as the ratio rises: a layer that
# would lose all of its channels keeps them.
RATIOS = 100
# Times that differ from what is wanted by no more than this share of the dense network's are equally near: exactly
# the time that is wanted may only be had with layers of one channel.
NEAR = {"macs": 0.0, "latency": 0.03}


@dataclass(frozen=True)
class Wanted:
    """The cost to meet.

    Attributes:
        kind: ``macs`` or ``latency``.
        share: Of the cost of the network before.
        target: The device.
    """

    kind: str
    share: float
    target: Target

    def of(self, cost: Cost) -> float:
        """Return the cost that counts."""
        return cost.macs if self.kind == "macs" else cost.ms

    @property
    def roundings(self) -> tuple[int | None, ...]:
        """Return the multiples to which channels are cut: for time whole tiles of the array are the better choice."""
        return (None,) if self.kind == "macs" else (self.target.array.cols, None)


def taylor_batches(learner: str, steps: int) -> int:
    """Return how many of all steps go into importances."""
    return min(TAYLOR_BATCHES, steps) if "taylor" in learner else 0


def cut(dense: nn.Module, learner: str, data: DataSet, recipe: Recipe, wanted: Wanted) -> nn.Module:
    """Return a smaller copy of a network whose cost is as near as can be to what is wanted.

    Raises:
        UserError: Torch-Pruning is not installed.
    """
    prune = _pruner(dense, learner, data, recipe)
    costs = ChannelCosts.of_model(smartc.trace(dense, torch.zeros(2, *data.train.inputs.shape[1:])), wanted.target)
    whole = wanted.of(costs.of(dense))

    def distance(choice: tuple[int | None, int]) -> float:
        rounding, place = choice
        share = wanted.of(costs.of(prune(place / RATIOS, rounding))) / whole
        # Of those that are equally near, the first: the higher the ratio, the more layers are spared whole.
        return max(round(abs(share - wanted.share), 2), NEAR[wanted.kind])

    rounding, place = min(itertools.product(wanted.roundings, range(RATIOS)), key=distance)
    return prune(place / RATIOS, rounding)


def _pruner(dense: nn.Module, learner: str, data: DataSet, recipe: Recipe) -> Callable[[float, int | None], nn.Module]:
    """Return what gives a pruned copy for a ratio of channels and a multiple to round to."""
    tp = _torch_pruning()
    model = copy.deepcopy(dense).eval()
    if "taylor" in learner:
        model.to(recipe.device)
        for batch in itertools.islice(batches(data, recipe, TAYLOR_BATCHES), TAYLOR_BATCHES):
            recipe.loss(model, batch).backward()
        model.to("cpu")
    importance = tp.importance
    scorer = importance.GroupTaylorImportance() if "taylor" in learner else importance.GroupMagnitudeImportance(p=1)
    example = torch.zeros(1, *data.train.inputs.shape[1:])

    def prune(ratio: float, rounding: int | None) -> nn.Module:
        smaller = _with_gradients(model)
        tp.pruner.BasePruner(
            smaller,
            example,
            importance=scorer,
            global_pruning=not learner.endswith("-uniform"),
            pruning_ratio=ratio,
            ignored_layers=[layer for layer in smaller.modules() if isinstance(layer, nn.Linear)],
            round_to=rounding,
        ).step()
        smaller.zero_grad()
        return smaller

    return prune


def _with_gradients(model: nn.Module) -> nn.Module:
    """Return a copy with the gradients, which ``deepcopy`` leaves out."""
    other = copy.deepcopy(model)
    for theirs, ours in zip(other.parameters(), model.parameters(), strict=True):
        theirs.grad = None if ours.grad is None else ours.grad.clone()
    return other


def _torch_pruning() -> Any:
    """Return the library."""
    try:
        import torch_pruning  # type: ignore[import-untyped]
    except ImportError as error:
        fix = "Install smartc[bench], or leave tp-l1 and tp-taylor out"
        raise UserError("Torch-Pruning is not installed", where="--learner", fix=fix) from error
    return torch_pruning
