"""Backward elimination of channels: the order in which they go when those that stay are refitted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from smartc.analysis.channels.labels import IntArray
from smartc.ir.traced_model import TracedModel, arguments_of, stored_name
from smartc.learning.reconstruction.layer_rows import LayerRows, is_layer
from smartc.learning.reconstruction.sample_rows import SEED, drawn_positions
from smartc.learning.statistics.walk_activations import ActivationWalk, Batches
from smartc.masks.layouts import Channels
from smartc.masks.units import FloatArray, Units
from smartc.passes.training_mode import TrainingMode

# Positions that the covariance of a layer's inputs is taken from: a number for all, and a number per channel.
POSITIONS, POSITIONS_PER_CHANNEL = 16384, 4
# Less variance than that, relative to the mean square, is what rounding leaves of none.
NOISE = 1e-12
# Cost of a change of a weight, relative to the mean variance of the inputs.
RIDGE = 1e-2
# Wider matrices, such as a classifier's behind a flattened image, take too long for what they tell.
MOST_CHANNELS = 4096
# Of this many channels one goes at a time; of more, as large a part.
FINEST = 64


def elimination_order(model: TracedModel, units: Units, batches: Batches) -> FloatArray:
    """Return the place of each channel unit in the order of elimination; NaN where no layer's inputs tell.

    In each group of units, that unit goes next whose loss the readers of the others make up for best: by least
    squares, the variance of the readers' outputs that is lost grows least, each reader's relative to what it has.
    Kernel positions are taken to be alike, so that a layer's inputs are known by the covariance of their channels.

    Args:
        model: The dense model.
        units: Its channels.
        batches: Flattened inputs; their activations are held at once.

    Source: backward elimination as in optimal brain surgeon, Hassibi and Stork 1993; for whole channels, ours.
    """
    order, known = np.full(units.count, np.nan), defaultdict[int, list[_Reader]](list)
    to_come = Counter(group for _, layout in _layouts(units) for group in _groups(units, layout.units))
    for layout, reader in _readers(model, units, batches):
        for group in _groups(units, layout.units):
            members = np.flatnonzero(units.layer_of == group)
            known[group] += [] if reader is None else [reader.of(members)]
            to_come[group] -= 1
            # As soon as its last reader is known: what is known of all layers at once can be large.
            if not to_come[group]:
                _eliminate(members, known.pop(group), order)
    return order


def _layouts(units: Units) -> list[tuple[str, Channels]]:
    """Return the weights that read channels."""
    return [(weight.name, weight.layout) for weight in units.weights if isinstance(weight.layout, Channels)]


def _groups(units: Units, inside: IntArray) -> list[int]:
    """Return the groups that some units are of."""
    found: list[int] = np.unique(units.layer_of[inside[inside >= 0]]).tolist()
    return found


@dataclass(eq=False)
class _Reader:
    """A layer that reads channels, and how their weights would change to make up for those that are gone.

    Attributes:
        units: The unit of each channel, -1 for none, shape (channels,): several may be of one, as where a flattened
            image is read, or a sum twice.
        inverse: Of the inputs' covariance, shape (groups, channels, channels).
        squares: The products of the channels' weights, summed over the outputs, the same shape; relative to the
            variance of the outputs.
    """

    units: IntArray
    inverse: Tensor
    squares: Tensor

    def of(self, members: IntArray) -> _Reader:
        """Return the reader of some units' channels alone: all that is needed while the others stay."""
        inside = np.isin(self.units, members)
        at = torch.from_numpy(np.flatnonzero(inside))
        inverse, squares = (matrix[:, at][:, :, at] for matrix in (self.inverse, self.squares))
        return _Reader(self.units[inside], inverse, squares)

    def losses(self, count: int) -> FloatArray:
        """Return the variance of the outputs that goes with each unit, shape (count,); zero for those gone."""
        inverse, squares = (matrix.diagonal(dim1=1, dim2=2) for matrix in (self.inverse, self.squares))
        losses = np.bincount(self.units, (squares / inverse).sum(0).numpy(), minlength=count).astype(np.float64)
        for unit in np.flatnonzero(np.bincount(self.units) > 1):
            # Its channels go together: none of them can stand in for another.
            one = self.of(np.array([unit]))
            losses[unit] = float(torch.linalg.solve(one.inverse, one.squares).diagonal(dim1=1, dim2=2).sum())
        return losses

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
    """Write the place of each of a group's units in the order, if a reader tells."""
    if not readers:
        return
    alive, gone = members, 0
    while len(alive):
        losses = sum((reader.losses(len(order)) for reader in readers), np.zeros(len(order)))[alive]
        ranked = alive[np.argsort(losses, kind="stable")]
        going = ranked[: -(-len(alive) // FINEST)]
        order[going] = gone + np.arange(len(going))
        gone += len(going)
        readers = [reader.without(going) for reader in readers]
        alive = np.setdiff1d(alive, going)


def _readers(model: TracedModel, units: Units, batches: Batches) -> Iterator[tuple[Channels, _Reader | None]]:
    """Yield what is known of each weight that reads channels, in the order of the graph; those of no layer last."""
    unread = {(name, layout.axis): layout for name, layout in _layouts(units)}
    evaluated = TrainingMode(False, False).run(model).model
    walk = ActivationWalk(evaluated, batches)
    for node in evaluated.graph.nodes:
        if node.op == "call_function":
            walk.compute(node)
            name = _weight_name(node)
            names = set() if name is None else {name, *model.names_of(name)}
            for place in [place for place in unread if place[0] in names]:
                layout = unread.pop(place)
                yield layout, _reader(walk, node, layout)
        walk.release(node)
    for layout in unread.values():
        yield layout, None


def _weight_name(node: fx.Node) -> str | None:
    """Return the name of the weight that a layer reads."""
    weight = arguments_of(node)[1] if is_layer(node) else None
    return stored_name(weight) if isinstance(weight, fx.Node) else None


def _reader(walk: ActivationWalk, node: fx.Node, layout: Channels) -> _Reader | None:
    """Return the reader of one layer; None where its inputs are not the channels of the axis, or say nothing."""
    name = _weight_name(node)
    assert name is not None
    weight = walk.model.tensor(name).detach().cpu()
    view = LayerRows.of(node, weight)
    rows = view.weight_rows(weight).double()
    groups, channels, taps = view.groups, len(layout.units), weight[0, 0].numel()
    fits = layout.axis == int(not view.transposed) and rows.shape[2] == channels * taps
    if not fits or not 1 < channels <= MOST_CHANNELS:
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
    generator = torch.Generator().manual_seed(SEED)
    for values in inputs:
        flat = values.transpose(0, 1).flatten(1)
        # Not at equal distances: in images of that width, or half of it, all would lie in one or two columns.
        places = drawn_positions(flat.shape[1], most, generator)
        picked = flat[:, places].double().reshape(groups, channels, -1)
        square += picked @ picked.mT
        total += picked.sum(2)
        count += picked.shape[2]
    square, mean = square / max(count, 1), total / max(count, 1)
    covariance = square - mean[:, :, None] * mean[:, None]
    constant = covariance.diagonal(dim1=1, dim2=2) <= NOISE * square.diagonal(dim1=1, dim2=2)
    return covariance.masked_fill(constant[:, :, None] | constant[:, None], 0.0)
