"""Find the layers that cost time: each matrix product or vector operation with what is fused into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN, ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.layer_shapes import layer_shapes
from smartc.analysis.shape import Known, Shape
from smartc.analysis.uneven import Uneven, find_uneven
from smartc.ir.traced_model import TracedModel, arguments_of, layer_name, operator_name, operator_of, value_of
from smartc.targets.target import Target
from smartc.targets.workload import Operand, OpKind, Workload

# The output rates of a target, as a workload numbers them.
_RATES = {"relu": 1, "silu": 2}
ALL = slice(None)


@dataclass(frozen=True, eq=False)
class LayerRow:
    """One row of a latency report.

    Attributes:
        name: The user's name, unique among the layers.
        op: The operator that the row is named after.
        node: Its call, which may be several layers; ``fused`` are the calls done with it at no cost of their own.
        shape: What the latency model needs, and which channels it depends on.
        residual: Whether an addition of a waiting tensor is fused.
        activation: 0 none, 1 like ReLU, 2 like SiLU.
    """

    name: str
    op: str
    node: fx.Node
    fused: tuple[fx.Node, ...]
    shape: Shape
    residual: bool
    activation: int


@dataclass(frozen=True, eq=False)
class Touched:
    """Which layers each channel group touches: an entry per pair, in order of the groups, then of the layers.

    Attributes:
        groups: The group of each entry.
        rows: The layer of each entry.
        reads: Input channels of the layer that each unit of the group stands for.
        writes: Likewise output channels.
        starts: The first entry of each group.
        lengths: The number of entries of each group.
    """

    groups: IntArray
    rows: IntArray
    reads: IntArray
    writes: IntArray
    starts: IntArray
    lengths: IntArray

    def entries(self, groups: IntArray) -> IntArray:
        """Return the entries of some groups, one group after another."""
        lengths = self.lengths[groups]
        ends = np.cumsum(lengths)
        shifts = np.repeat(self.starts[groups] - (ends - lengths), lengths)
        found: IntArray = shifts + np.arange(len(shifts))
        return found

    def neighbours(self, group: int) -> IntArray:
        """Return the groups that touch a layer that a group touches, itself among them."""
        order, starts = self._by_row
        rows = self.rows[self.entries(np.array([group]))]
        parts = [order[starts[row] : starts[row + 1]] for row in rows]
        return np.unique(self.groups[np.concatenate(parts)]) if parts else np.array([group], dtype=np.int64)

    @cached_property
    def _by_row(self) -> tuple[IntArray, IntArray]:
        """Return the entries in order of their layers, and where each layer's begin."""
        ends = np.cumsum(np.bincount(self.rows))
        return np.argsort(self.rows, kind="stable"), np.append(0, ends)


@dataclass(frozen=True, eq=False)
class Layers:
    """All layers of a model, and how their sizes depend on the kept count of each channel group."""

    rows: tuple[LayerRow, ...]
    groups: ChannelGroups

    def sizes(self, kept: IntArray) -> tuple[IntArray, IntArray]:
        """Return the input and output channels of each layer, where it has as many of each unit of a group.

        Args:
            kept: Units kept of each group, shape (groups,) or (candidates, groups).

        Returns:
            Two arrays of shape (layers,) or (candidates, layers).
        """
        reads, writes = (always + (each @ kept.T).T for always, each in (self._reads, self._writes))
        return reads, writes

    def workload(
        self,
        target: Target,
        sizes: tuple[IntArray, IntArray],
        rows: IntArray | slice = ALL,
        live_tiles: IntArray | None = None,
    ) -> Workload:
        """Return what the latency model takes, for given input and output channels of some layers.

        Args:
            target: The device.
            sizes: Input and output channels, each of shape (layers,) or (candidates, layers).
            rows: Which layers.
            live_tiles: Tiles of each layer that are not zero, -1 for all of them.
        """
        reads, writes = sizes
        fixed = {name: values[rows] for name, values in self.fixed.items()}
        scales, kind, convolves = fixed.pop("scales"), fixed.pop("kind"), fixed.pop("convolves")
        groups = np.where(scales, reads // np.maximum(fixed.pop("per_group"), 1), fixed.pop("groups"))
        # A convolution that is left with one channel per group is a depthwise one.
        single = (kind == OpKind.MATRIX) & ~scales & (reads <= groups) & convolves & ((groups > 1) | (writes == 1))
        kind = np.where(single, OpKind.DEPTHWISE, kind)
        names, which = self._operators
        supported = np.array([target.supports(name) for name in names], dtype=bool)[which[rows]]
        groups = np.maximum(groups, 1)
        fixed["factor"] = target.factors_of(self.names)[rows]
        if live_tiles is not None:
            fixed["live_tiles"] = live_tiles
        return Workload(kind=kind, cin=reads, cout=writes, groups=groups, supported=supported, **fixed)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the name of each layer."""
        return tuple(row.name for row in self.rows)

    @cached_property
    def full_sizes(self) -> tuple[IntArray, IntArray]:
        """Return the input and output channels of each layer when nothing is removed, shape (layers,)."""
        sides = ([len(getattr(row.shape, side)) for row in self.rows] for side in ("reads", "writes"))
        reads, writes = (np.array(side, dtype=np.int64) for side in sides)
        return reads, writes

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """Return what does not depend on the kept counts, an array of one entry per layer for each field."""
        names = ["kind", "pixels", "kernel", "groups", "per_group"]
        names += ["input_elements", "output_elements", "vector_elements", "stored_elements", "repeats", "operand"]
        fixed = {name: np.array([getattr(row.shape, name) for row in self.rows], dtype=np.int64) for name in names}
        fixed["scales"] = np.array([row.shape.scales for row in self.rows], dtype=bool)
        fixed["convolves"] = np.array([operator_of(row.node).is_convolution for row in self.rows], dtype=bool)
        fixed["residual"] = np.array([row.residual for row in self.rows], dtype=bool)
        fixed["activation"] = np.array([row.activation for row in self.rows], dtype=np.int64)
        return fixed

    @cached_property
    def _reads(self) -> tuple[IntArray, csr_array]:
        """Return each layer's fixed input channels, and how many a unit of each group adds."""
        return self._table([row.shape.reads for row in self.rows])

    @cached_property
    def _writes(self) -> tuple[IntArray, csr_array]:
        """Return each layer's fixed output channels, and how many a unit of each group adds."""
        return self._table([row.shape.writes for row in self.rows])

    def _table(self, units: list[IntArray]) -> tuple[IntArray, csr_array]:
        """Return fixed counts (layers,) and multiplicities (layers, groups)."""
        of, sizes = self.groups.group_of, np.array([len(group) for group in self.groups.groups])
        always = np.array([int((row == FROZEN).sum()) for row in units], dtype=np.int64)
        table: tuple[list[int], list[int], list[int]] = ([], [], [])
        for index, row in enumerate(units):
            groups, counts = np.unique(of[row[row != FROZEN]], return_counts=True)
            table[0].extend(counts // sizes[groups])
            table[1].extend([index] * len(groups))
            table[2].extend(groups)
        shape = (len(units), len(sizes))
        return always, csr_array((np.array(table[0], dtype=np.int64), table[1:]), shape=shape)

    @cached_property
    def uneven(self) -> tuple[Uneven, ...]:
        """Return the layers that have more channels of some units of a group than of others."""
        return find_uneven([(row.shape.reads, row.shape.writes) for row in self.rows], self.groups)

    @cached_property
    def _operators(self) -> tuple[list[str], IntArray]:
        """Return the operators whose work the layers are, each once, and which of them each layer's is."""
        work = [row.shape.op or row.op for row in self.rows]
        names = sorted(set(work))
        return names, np.array([names.index(name) for name in work], dtype=np.int64)

    @cached_property
    def touched(self) -> Touched:
        """Return which layers each group touches."""
        tables = [table.tocoo() for _, table in (self._reads, self._writes)]
        keys = [table.coords[1].astype(np.int64) * len(self.rows) + table.coords[0] for table in tables]
        pairs, places = np.unique(np.concatenate(keys), return_inverse=True)
        adds = [np.zeros(len(pairs), dtype=np.int64) for _ in tables]
        for table, entry, values in zip(tables, np.split(places, [len(keys[0])]), adds, strict=True):
            values[entry] = table.data
        groups = pairs // max(len(self.rows), 1)
        lengths = np.bincount(groups, minlength=len(self.groups.groups))
        starts = np.cumsum(lengths) - lengths
        return Touched(groups, pairs % max(len(self.rows), 1), adds[0], adds[1], starts, lengths)


def find_layers(model: TracedModel, groups: ChannelGroups) -> Layers:
    """Return the layers of a model that cost time, in graph order, each under a name of its own."""
    known = Known(groups.labels, computed_from_inputs(model))
    order = {node: place for place, node in enumerate(model.graph.nodes)}
    taken: set[fx.Node] = set()
    rows: list[LayerRow] = []
    names: dict[str, int] = {}
    stored: set[str] = set()
    for node in model.calls():
        if node in taken or node not in known.live:
            continue
        shapes = layer_shapes(known, node)
        for shape in shapes:
            # What follows a call follows the last layer that it is.
            fused, residual, activation = _fused(node, shape, order) if shape is shapes[-1] else ((), False, 0)
            taken.update(fused)
            name = _unique(".".join(filter(None, (layer_name(node), shape.part))), names)
            op = shape.op if shape.part and shape.op else operator_name(node.target)
            rows.append(LayerRow(name, op, node, fused, _counted_once(model, shape, stored), residual, activation))
    return Layers(tuple(rows), groups)


def _counted_once(model: TracedModel, shape: Shape, stored: set[str]) -> Shape:
    """Return the sizes of a layer, its weights told to be an earlier layer's where they are; ``stored`` grows."""
    names = {min(model.names_of(str(node.target))) if node.op == "get_attr" else node.name for node in shape.constants}
    known = bool(names) and names <= stored
    stored |= names
    return replace(shape, operand=Operand.SHARED) if known else shape


def computed_from_inputs(model: TracedModel) -> set[fx.Node]:
    """Return the nodes that depend on an input; the others are constants by the time of use."""
    live: set[fx.Node] = set()
    for node in model.graph.nodes:
        if node.op == "placeholder" or any(source in live for source in node.all_input_nodes):
            live.add(node)
    return live


def _fused(node: fx.Node, shape: Shape, order: dict[fx.Node, int]) -> tuple[tuple[fx.Node, ...], bool, int]:
    """Return what follows a call and is done with it: norm, residual addition, activation."""
    fused: list[fx.Node] = []
    residual, activation = shape.residual, 0
    is_product = shape.kind != OpKind.VECTOR
    for user in _followers(node):
        operator = operator_of(user)
        if is_product and not fused and operator.name == "batch_norm" and arguments_of(user)[5] is False:
            pass
        elif is_product and not residual and operator.name == "add" and _waits(user, node, order):
            residual = True
        elif operator.fused:
            activation = _RATES[operator.fused]
        elif not operator.identity:
            break
        fused.append(user)
        if activation:
            break
    return tuple(fused), residual, activation


def _followers(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the chain of calls of which each is the only reader of the one before."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        if user.op != "call_function" or (arguments_of(user)[0] is not node and operator_name(user.target) != "add"):
            return
        yield user
        node = user


def _waits(addition: fx.Node, node: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Return whether the other operand of an addition has the same shape and is there before the layer runs."""
    operands = [arg for arg in arguments_of(addition)[:2] if isinstance(arg, fx.Node)]
    shapes = {getattr(value_of(operand), "shape", None) for operand in operands}
    others = [operand for operand in operands if order[operand] < order[node]]
    return len(operands) == 2 and len(shapes) == 1 and len(others) == 1


def _unique(name: str, uses: dict[str, int]) -> str:
    """Return a name that no other layer has; ``uses`` counts how often each name was asked for."""
    while name in uses:
        uses[name] += 1
        name = f"{name}#{uses[name]}"
    uses[name] = 1
    return name
