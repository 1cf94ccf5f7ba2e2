"""Take batch-norm statistics anew from inputs, after the weights before the norms have changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from smartc.core.errors import UserError
from smartc.ir.traced_model import TracedModel, argument_of, layer_name, operator_name, stored_name
from smartc.learning.statistics.walk_activations import ActivationWalk, peak_bytes
from smartc.passes.training_mode import TrainingMode

# Batches are taken together as long as the activations held at once stay below this.
POOL_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and summed squared deviation of each channel over a number of values, float64."""

    count: int
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Statistics:
        """Return the statistics of a norm's input, shape (N, channels, *space)."""
        # Exact over space; along the batch alone it sums in the input's own precision.
        kind = torch.float64 if x.ndim == 2 else torch.promote_types(x.dtype, torch.float32)
        wide = x.detach().to(kind).contiguous()
        # What a norm in training calls: two passes, and far faster than var_mean.
        mean, variance = torch.ops.aten.batch_norm_update_stats(wide, None, None, 0.0)
        count = wide.numel() // max(wide.shape[1], 1)
        return cls(count, mean.double(), variance.double() * count)

    def joined(self, other: Statistics) -> Statistics:
        """Return the statistics of both sets of values.

        Source: Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983.
        """
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        return Statistics(count, mean, self.deviation + other.deviation + apart**2 * (self.count * other.count / count))

    @property
    def variance(self) -> Tensor:
        """Return the unbiased variance, as a running variance holds it."""
        return self.deviation / (self.count - 1)


def reestimate_batch_norm(model: TracedModel, batches: Iterable[tuple[Any, ...]]) -> TracedModel:
    """Return the model with the statistics of all inputs in its batch norms.

    Each norm gets the mean and unbiased variance of its input over all inputs, whatever its momentum.  Inputs
    whose activations fit in ``POOL_BYTES`` are taken together, and then the statistics are those that the
    returned model itself shows in evaluation: each norm's are taken when all norms before it have theirs.  More
    inputs are taken in pools, each normalised by the statistics of its own pool, as training does, and joined.
    Norms without running statistics stay as they are, and so do instance norms and what the user wants left alone.

    Args:
        model: The model; it keeps its statistics.
        batches: Flattened inputs as ``TracedModel.run`` takes them.

    Raises:
        UserError: There is no input, a norm sees one value per channel, or one that is not finite.
    """
    evaluated = TrainingMode(False, False).run(model).model
    found: dict[tuple[str, str], Statistics] = {}
    empty = True
    for pool in _pools(batches, peak_bytes(evaluated)):
        empty = False
        for names, statistics in _pool_statistics(evaluated, pool):
            found[names] = found[names].joined(statistics) if names in found else statistics
    if empty:
        raise UserError(
            "there is no input to take batch-norm statistics from", where=model.name, fix="Give at least one"
        )
    tensors: dict[str, Tensor] = {}
    for (mean, variance), statistics in found.items():
        tensors[mean] = statistics.mean.to(model.tensor(mean).dtype)
        tensors[variance] = statistics.variance.to(model.tensor(variance).dtype)
    return model.with_tensors(tensors)


def _pools(batches: Iterable[tuple[Any, ...]], bytes_each: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield batches in lists whose activations fit together, one batch at least."""
    pool: list[tuple[Any, ...]] = []
    held = 0
    for batch in batches:
        size = bytes_each * next((len(x) for x in batch if isinstance(x, Tensor) and x.ndim), 1)
        if pool and held + size > POOL_BYTES:
            yield pool
            pool, held = [], 0
        pool.append(batch)
        held += size
    if pool:
        yield pool


def _pool_statistics(model: TracedModel, pool: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[str, str], Statistics]]:
    """Walk a model over a pool, normalise by the pool's statistics, and yield each norm's under its tensors' names."""
    walk = ActivationWalk(model.copy(), pool)
    for node in walk.model.graph.nodes:
        names = running_names(node)
        if names is not None and model.untouched.keys().isdisjoint(names):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            statistics = joined([Statistics.of(walk.read(source, place)) for place in range(len(pool))])
            _check(statistics, node)
            for name, value in zip(names, (statistics.mean, statistics.variance), strict=True):
                walk.model.set_tensor(name, value.to(walk.model.tensor(name).dtype))
            yield names, statistics
        if node.op == "call_function":
            walk.compute(node)
        walk.release(node)


def joined(parts: list[Statistics]) -> Statistics:
    """Return the statistics of all parts."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def running_names(node: fx.Node) -> tuple[str, str] | None:
    """Return the names of a batch norm's running mean and variance, None for anything else."""
    if node.op != "call_function" or operator_name(node.target) != "batch_norm":
        return None
    places = (argument_of(node, 3, "running_mean"), argument_of(node, 4, "running_var"))
    names = [stored_name(place) if isinstance(place, fx.Node) else None for place in places]
    return (names[0], names[1]) if names[0] is not None and names[1] is not None else None


def _check(statistics: Statistics, node: fx.Node) -> None:
    """Refuse statistics that say nothing."""
    if statistics.count < 2:
        raise UserError("one value per channel has no variance", where=layer_name(node), fix="Give more than one input")
    if not bool(statistics.mean.isfinite().all() & statistics.deviation.isfinite().all()):
        raise UserError(
            "the input of this batch norm is not finite", where=layer_name(node), fix="Look for NaN in the data"
        )
