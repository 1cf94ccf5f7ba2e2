"""Which channels the others can stand in for: the order in which they go when those that stay are refitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from smartc.learning.layer_rows import LayerRows, is_layer
from smartc.learning.units import FloatArray, Units
from smartc.learning.walk_activations import ActivationWalk, Batches
from smartc.model import TracedModel, arguments_of, stored_name
from smartc.passes.labels import IntArray
from smartc.passes.mask_layouts import Channels
from smartc.passes.training_mode import TrainingMode

# Positions that the covariance of a layer's inputs is taken from: so many, and so many per channel.
POSITIONS, POSITIONS_PER_CHANNEL = 16384, 4
# Cost of a change of a weight, relative to the mean variance of the inputs.
RIDGE = 1e-2
# Wider matrices take longer than what they tell is worth: a classifier's behind a flattened image.
MOST_CHANNELS = 4096
# Of so many channels one goes at a time; of more, as large a part.
FINEST = 64


def elimination_order(model: TracedModel, units: Units, batches: Batches) -> FloatArray:
    """Return for each channel unit when it goes, the higher the later; NaN where no layer's inputs tell.

    In each group of units, that unit goes next whose loss the readers of the others make up for best: by least
    squares, the variance of the readers' outputs that is lost grows least, each reader's relative to what it has.
    Kernel positions are taken to be alike, so that a layer's inputs are known by the covariance of their channels.

    Args:
        model: The dense model.
        units: Its channels.
        batches: Flattened inputs; their activations are held at once.

    Source: backward elimination as in optimal brain surgeon, Hassibi and Stork 1993; for whole channels, ours.
    """
    readers = list(_readers(model, units, batches))
    order = np.full(units.count, np.nan)
    for group in range(len(units.names)):
        members = np.flatnonzero(units.layer_of == group)
        telling = [reader for reader in readers if np.isin(members, reader.units).any()]
        if telling:
            _eliminate(members, telling, order)
    return order


@dataclass(eq=False)
class _Reader:
    """A layer that reads channels, and how their weights would change to make up for those that are gone.

    Attributes:
        units: The unit of each input channel of a group that is left, shape (channels,).
        inverse: Of the inputs' covariance, shape (groups, channels, channels).
        squares: The products of the channels' weights, summed over the outputs, the same shape; relative to the
            variance of the outputs.
    """

    units: IntArray
    inverse: Tensor
    squares: Tensor

    def losses(self, count: int) -> FloatArray:
        """Return for each of so many units the variance of the outputs that goes with it; zero for those gone."""
        inverse, squares = (matrix.diagonal(dim1=1, dim2=2) for matrix in (self.inverse, self.squares))
        inside = self.units >= 0
        each = (squares / inverse).sum(0).numpy()[inside]
        return np.bincount(self.units[inside], each, minlength=count).astype(np.float64)

    def without(self, gone: IntArray) -> _Reader:
        """Return the reader when the others have made up for units."""
        going = np.isin(self.units, gone)
        out, left = (torch.from_numpy(np.flatnonzero(those)) for those in (going, ~going))
        if not len(out):
            return self
        own = self.inverse[:, out]
        own, corner = own[:, :, left], own[:, :, out]
        # How much of each weight that goes is added to those that stay.
        share = torch.linalg.solve(corner, own)
        both = self.squares[:, out]
        product = both[:, :, left].mT @ share
        squares = self.squares[:, left][:, :, left] + share.mT @ (both[:, :, out] @ share) - product - product.mT
        return _Reader(self.units[~going], self.inverse[:, left][:, :, left] - own.mT @ share, squares)


def _eliminate(members: IntArray, readers: Sequence[_Reader], order: FloatArray) -> None:
    """Write when each of a group's units goes."""
    alive, gone = members, 0
    while len(alive):
        losses = sum((reader.losses(len(order)) for reader in readers), np.zeros(len(order)))[alive]
        ranked = alive[np.argsort(losses, kind="stable")]
        going = ranked[: -(-len(alive) // FINEST)]
        order[going] = gone + np.arange(len(going))
        gone += len(going)
        readers = [reader.without(going) for reader in readers]
        alive = np.setdiff1d(alive, going)


def _readers(model: TracedModel, units: Units, batches: Batches) -> Iterator[_Reader]:
    """Yield what is known of each layer that reads channels."""
    layouts = {
        (name, weight.layout.axis): weight.layout
        for weight in units.weights
        if isinstance(weight.layout, Channels)
        for name in (weight.name, *model.names_of(weight.name))
    }
    evaluated = TrainingMode(False, False).run(model).model
    walk = ActivationWalk(evaluated, batches)
    for node in evaluated.graph.nodes:
        if node.op == "call_function":
            walk.compute(node)
            name = _weight_name(node)
            reader = None if name is None else _reader(walk, node, name, layouts)
            if reader is not None:
                yield reader
        walk.release(node)


def _weight_name(node: fx.Node) -> str | None:
    """Return the name of the weight that a layer reads."""
    weight = arguments_of(node)[1] if is_layer(node) else None
    return stored_name(weight) if isinstance(weight, fx.Node) else None


def _reader(
    walk: ActivationWalk, node: fx.Node, name: str, layouts: Mapping[tuple[str, int], Channels]
) -> _Reader | None:
    """Return what is known of one layer; None where its inputs are not the channels of one axis, or say nothing."""
    weight = walk.model.tensor(name).detach().cpu()
    view = LayerRows.of(node, weight)
    layout = layouts.get((name, int(not view.transposed)))
    if layout is None:
        return None
    rows = view.weight_rows(weight).double()
    groups, channels, taps = view.groups, len(layout.units), weight[0, 0].numel()
    if rows.shape[2] != channels * taps or not 1 < channels <= MOST_CHANNELS:
        return None
    source = arguments_of(node)[0]
    inputs = [view.channels_first(walk.read(source, place)).cpu() for place in range(len(walk.batches))]
    covariance = _covariance(inputs, groups)
    by_tap = rows.reshape(groups, -1, channels, taps).transpose(2, 3).reshape(groups, -1, channels)
    squares = by_tap.mT @ by_tap
    spread = float((squares * covariance).sum())
    if not (spread > 0 and np.isfinite(spread)):
        return None
    average = covariance.diagonal(dim1=1, dim2=2).mean(1)
    damping = torch.where(average > 0, average * RIDGE, 1.0)[:, None, None] * torch.eye(channels, dtype=torch.float64)
    return _Reader(layout.units, torch.linalg.inv(covariance + damping), squares / spread)


def _covariance(inputs: Sequence[Tensor], groups: int) -> Tensor:
    """Return the covariance of the channels of each group, shape (groups, channels, channels), float64."""
    channels = inputs[0].shape[1] // groups
    most = (POSITIONS + POSITIONS_PER_CHANNEL * channels) // len(inputs) + 1
    square = torch.zeros(groups, channels, channels, dtype=torch.float64)
    total, count = square.new_zeros(groups, channels), 0
    for values in inputs:
        flat = values.transpose(0, 1).flatten(1)
        picked = flat[:, :: -(-flat.shape[1] // most)].double().reshape(groups, channels, -1)
        square += picked @ picked.mT
        total += picked.sum(2)
        count += picked.shape[2]
    mean = total / max(count, 1)
    return square / max(count, 1) - mean[:, :, None] * mean[:, None]
