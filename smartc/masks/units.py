"""The units of a model: what a mask keeps or removes, in which weights, and in which layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx

from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import LayerRow, Layers
from smartc.analysis.weight_use import WeightUse, weight_use
from smartc.ir.traced_model import Remark, TracedModel, operator_name, operator_of
from smartc.masks.granularity import Granularity, WeightGranularity
from smartc.masks.layouts import BoolArray, Channels, sizes, support
from smartc.masks.masked_weight import MaskedWeight
from smartc.targets.workload import OpKind

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Units:
    """All units of a model, numbered.

    Attributes:
        granularity: What a unit is.
        weights: The weights that masks act on, each with the first of its units.
        owners: The weights whose size tells a unit's: the same, but for channels those that produce them.
        count: Number of units.
        layer_of: For each unit the index of its layer in ``names``.
        names: The layers; for channels the groups.
        skipped: What is left alone, and why.
    """

    granularity: Granularity
    weights: tuple[MaskedWeight, ...]
    owners: tuple[MaskedWeight, ...]
    count: int
    layer_of: IntArray
    names: tuple[str, ...]
    skipped: tuple[Remark, ...] = ()

    @cached_property
    def sizes(self) -> IntArray:
        """Return the number of weights of each unit, shape (units,)."""
        total = np.zeros(self.count, dtype=np.int64)
        for weight in self.owners:
            total[weight.part] += sizes(weight.layout)
        return total

    @cached_property
    def per_layer(self) -> IntArray:
        """Return the number of units of each layer."""
        return np.bincount(self.layer_of, minlength=len(self.names)).astype(np.int64)

    def energy(self, model: TracedModel, variances: Mapping[str, torch.Tensor] | None = None) -> FloatArray:
        """Return the mean square of each unit's weights, shape (units,).

        Args:
            model: Holds the weights.
            variances: By a weight's name, the variance of what each of its input channels sees, shape (in,):
                then it is the variance of what the unit adds to its layer's outputs.
        """
        total = np.zeros(self.count)
        for weight in self.owners:
            squares = model.tensor(weight.name).detach().double().square()
            if variances is not None and weight.name in variances:
                squares = weight.layout.times_inputs(squares, variances[weight.name].double())
            total[weight.part] += weight.layout.sums(squares).numpy()
        return total / np.maximum(self.sizes, 1)

    def supports(self, keep: BoolArray) -> dict[str, torch.Tensor]:
        """Return whether each element of each masked weight stays, by the weight's name."""
        found: dict[str, torch.Tensor] = {}
        for weight in self.weights:
            kept = support(weight.layout, keep[weight.part])
            found[weight.name] = found[weight.name] & kept if weight.name in found else kept
        return found

    def density(self, keep: torch.Tensor) -> FloatArray:
        """Return the mean mask of each layer's units."""
        if self.granularity.spans_weights:
            kept = np.bincount(self.layer_of, keep.double().numpy(), minlength=len(self.names))
        else:  # layer by layer: there may be as many units as weights
            kept = np.array([part.sum(dtype=torch.float64).item() for part in keep.split(self.per_layer.tolist())])
        return np.asarray(kept / np.maximum(self.per_layer, 1), dtype=np.float64)


def find_units(model: TracedModel, layers: Layers, granularity: Granularity) -> Units:
    """Return the units of a model at a granularity."""
    if isinstance(granularity, WeightGranularity):
        return _parts_of_weights(model, layers, granularity)
    return _channels(model, layers, granularity)


def _parts_of_weights(model: TracedModel, layers: Layers, granularity: WeightGranularity) -> Units:
    """Return the units of the weights of all matrix layers, one weight after another."""
    weights: list[MaskedWeight] = []
    names: list[str] = []
    skipped: list[Remark] = []
    first = 0
    for row, use in _matrix_layers(model, layers, skipped):
        layout = granularity.layout(tuple(model.tensor(use.name).shape), use)
        refusal = granularity.refusal(layout)
        if refusal is not None:
            skipped.append(Remark(row.name, refusal))
            continue
        weights.append(MaskedWeight(use.name, layout, first))
        names.append(row.name)
        first += layout.count
    counts = np.array([weight.layout.count for weight in weights], dtype=np.int64)
    layer_of = np.repeat(np.arange(len(weights), dtype=np.int64), counts)
    return Units(granularity, tuple(weights), tuple(weights), first, layer_of, tuple(names), tuple(skipped))


def _channels(model: TracedModel, layers: Layers, granularity: Granularity) -> Units:
    """Return the channel units: masks act where they are read, sizes are told where they are produced."""
    groups = layers.groups
    sides: dict[str, list[MaskedWeight]] = {"reads": [], "owns": []}
    for axis in groups.axes:
        if axis.role in sides:
            layout = Channels(tuple(model.tensor(axis.name).shape), axis.axis, axis.units, groups.count)
            sides[axis.role].append(MaskedWeight(axis.name, layout, 0))
    names = tuple(group.name for group in groups.groups)
    return Units(granularity, tuple(sides["reads"]), tuple(sides["owns"]), groups.count, groups.group_of, names, ())


def _matrix_layers(model: TracedModel, layers: Layers, skipped: list[Remark]) -> Iterator[tuple[LayerRow, WeightUse]]:
    """Yield the layers whose weights can be masked, one for each weight."""
    readers = _readers(model)
    found: set[str] = set()
    for row in layers.rows:
        use = weight_use(model, row.node) if row.shape.kind == OpKind.MATRIX else None
        if row.shape.kind == OpKind.MATRIX and operator_of(row.node).family == "recurrent":
            skipped.append(Remark(row.name, "is of a recurrent layer, whose weights no runtime takes in parts"))
        if use is None or use.name in found:
            continue
        found.add(use.name)
        if use.name in model.untouched:
            skipped.append(Remark(row.name, f"kept: {model.untouched[use.name]}"))
            continue
        others = [reader for reader in readers[use.name] if weight_use(model, reader) != use]
        if use.transposed and use.groups > 1:
            skipped.append(Remark(row.name, "is a transposed convolution with groups"))
        elif others:
            skipped.append(Remark(row.name, f"its weight is also read by `{operator_name(others[0].target)}`"))
        else:
            yield row, use


def _readers(model: TracedModel) -> dict[str, list[fx.Node]]:
    """Return the calls that read each stored tensor."""
    found: dict[str, list[fx.Node]] = {}
    for node in model.graph.nodes:
        if node.op == "get_attr":
            found.setdefault(str(node.target), []).extend(node.users)
    return found
