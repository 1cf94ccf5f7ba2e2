"""Let a batch norm treat a pruned model's values as it treats the dense model's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from smartc.ir.traced_model import argument_of
from smartc.learning.reconstruction.masked_layer import readers
from smartc.learning.statistics.batch_norm_statistics import Statistics, joined, running_names
from smartc.learning.statistics.walk_activations import ActivationWalk

# A least-squares fit that explains little also varies little: blown up further than this, it is mostly error.
LARGEST_RATIO = 10.0


def matched_norm(
    walk: ActivationWalk, node: fx.Node, original: tuple[Tensor, Tensor], wanted: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return the running statistics with which a batch norm's output keeps each channel's mean and variance.

    Means and variances are over the inputs of the walk; unlike statistics taken anew, these keep what the
    original ones know of other inputs.

    Args:
        walk: The pruned model's, at a norm that has running statistics.
        node: The norm.
        original: The dense model's running mean and variance.
        wanted: What the norm's input should be, for each batch.

    Returns:
        New values by name; nothing where several norms share the statistics.
    """
    names, source = running_names(node), node.args[0]
    if names is None or any(readers(walk.model, name) != 1 for name in names):
        return {}
    assert isinstance(source, fx.Node)
    found = joined([Statistics.of(walk.read(source, place)) for place in range(len(wanted))])
    goal = joined([Statistics.of(one) for one in wanted])
    ratio = torch.where(goal.deviation > 0, found.deviation / goal.deviation, 1.0)
    ratio = torch.where(found.deviation > 0, ratio, 1.0).clamp(1 / LARGEST_RATIO, LARGEST_RATIO)
    mean, variance = (tensor.detach().double() for tensor in original)
    eps = argument_of(node, 7, "eps")
    values = (found.mean - (goal.mean - mean) * ratio.sqrt(), ((variance + eps) * ratio - eps).clamp(min=0))
    if not all(bool(value.isfinite().all()) for value in values):
        return {}
    return {name: value.to(tensor.dtype) for name, value, tensor in zip(names, values, original, strict=True)}
