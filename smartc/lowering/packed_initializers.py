"""Store weights in an ONNX model as their live tiles, put back in place by operators that fold when it is loaded.

The weight keeps its name: it becomes the output of a few standard operators on constants (ConstantOfShape,
ScatterND, Reshape, Transpose, and Slice where tiles reach over an edge), which a runtime computes once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from smartc.masks.packed_weight import LEAST_SAVING, PackedWeight, TileOrder, pack

_TYPES = frozenset((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE))
# What the operators take beside the tiles and their numbers, in bytes; measured, names of 40 letters.
_GRAPH_BYTES = 1200


class _Use(NamedTuple):
    """How a node multiplies by a weight: in how many groups, and whether its first axis is the input."""

    groups: int
    transposed: bool


def pack_initializers(model: onnx.ModelProto, tile: tuple[int, int]) -> None:
    """Store, in place, each weight as its live tiles where that saves at least ``LEAST_SAVING`` of its bytes.

    Every kernel position has tiles of its own.  The nodes that read the weight say so in their metadata:
    ``smartc.tile``, ``smartc.live_tiles``, and ``smartc.tiles`` and ``smartc.tile_index``, the names of the
    constants.

    Args:
        model: Without what nothing reads, its nodes in order.
        tile: Output and input channels of a tile.
    """
    expansion = _Expansion()
    for weight, readers in list(_weights(model.graph)):
        use = _use(readers[0], weight.name)
        if use is None or any(_use(reader, weight.name) != use for reader in readers):
            continue
        array = numpy_helper.to_array(weight)
        packed = pack(torch.from_numpy(array.copy()), tile, groups=use.groups, transposed=use.transposed)
        index = _tile_numbers(packed)
        stored = packed.tiles.numpy().nbytes + index.nbytes + _GRAPH_BYTES
        if stored > (1 - LEAST_SAVING) * array.nbytes:
            continue
        expansion.add(weight.name, packed, index)
        for reader in readers:
            properties = _properties(weight.name, packed).items()
            reader.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=text) for key, text in properties)
    expansion.put_into(model.graph)


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[onnx.TensorProto, list[onnx.NodeProto]]]:
    """Yield each floating constant of two axes or more with the nodes that read it."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    for tensor in graph.initializer:
        if tensor.data_type in _TYPES and len(tensor.dims) > 1 and tensor.name not in outputs:
            yield tensor, readers.get(tensor.name, [])


def _use(node: onnx.NodeProto, name: str) -> _Use | None:
    """Return how a node multiplies by a weight; None where it does something else with it."""
    if list(node.input).count(name) > 1 or node.input[1:2] != [name]:
        return None
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose"):
        return _Use(values.get("group", 1), node.op_type == "ConvTranspose")
    if node.op_type == "Gemm":
        return _Use(1, not values.get("transB", 0))
    return _Use(1, True) if node.op_type == "MatMul" else None


def _tile_numbers(packed: PackedWeight) -> np.ndarray[Any, Any]:
    """Return the number of each live tile, counted along the block rows, in the smallest type that holds it."""
    rows, columns = packed.order.blocks
    numbers = np.repeat(np.arange(rows), np.diff(packed.row_ptr)) * columns + packed.col_idx
    kind = next(kind for kind in (np.uint8, np.uint16, np.int32, np.int64) if packed.total <= np.iinfo(kind).max + 1)
    return numbers.astype(kind)[:, None]


def _properties(name: str, packed: PackedWeight) -> dict[str, str]:
    """Return what a reader's metadata says of its weight."""
    rows, cols = packed.order.tile
    return {
        "smartc.tile": f"{rows}x{cols}",
        "smartc.live_tiles": f"{packed.live}/{packed.total}",
        "smartc.tiles": f"{name}.tiles" if packed.live else "",
        "smartc.tile_index": f"{name}.tile_index" if packed.live else "",
    }


@dataclass
class _Expansion:
    """The nodes that put tiles in place, and the constants that they read."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def put_into(self, graph: onnx.GraphProto) -> None:
        """Put everything into a graph, before the nodes that read it and in place of the whole weights."""
        made = {node.output[0] for node in self.nodes}
        for place in reversed(range(len(graph.initializer))):
            if graph.initializer[place].name in made:
                del graph.initializer[place]
        self.nodes.extend(graph.node)
        del graph.node[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.constants.values())

    def add(self, name: str, packed: PackedWeight, index: np.ndarray[Any, Any]) -> None:
        """Add what makes a weight of its tiles."""
        shape = self._numbers(packed.order.shape)
        if packed.live:
            channels = self._channels(name, packed.order, self._placed(name, packed, index))
            self._node("Reshape", [channels, shape], name, name)
        else:
            self._node("ConstantOfShape", [shape], name, name, value=_zero(packed))

    def _placed(self, name: str, packed: PackedWeight, index: np.ndarray[Any, Any]) -> str:
        """Return all tiles, a row for each: zeros with the live ones put where they belong."""
        size = packed.order.tile[0] * packed.order.tile[1]
        tiles = self._constant(f"{name}.tiles", packed.tiles.numpy().reshape(packed.live, size))
        number = self._constant(f"{name}.tile_index", index)
        if index.dtype != np.int64:
            number = self._node("Cast", [number], name, to=onnx.TensorProto.INT64)
        empty = self._node("ConstantOfShape", [self._numbers((packed.total, size))], name, value=_zero(packed))
        return self._node("ScatterND", [empty, number, tiles], name)

    def _channels(self, name: str, order: TileOrder, tiles: str) -> str:
        """Return the weight made of all tiles, in the order of its own axes."""
        (outer, inner), (rows, cols) = order.channels, order.tile
        high, wide = -(-outer // rows), -(-inner // cols)
        split = self._numbers((order.groups, high, order.positions, wide, rows, cols))
        tiles = self._node("Reshape", [tiles, split], name)
        # The output channels are axes 1 and 4 here, the input channels 3 and 5.
        turned = [0, 3, 5, 1, 4, 2] if order.transposed else [0, 1, 4, 3, 5, 2]
        turned_tiles = self._node("Transpose", [tiles], name, perm=turned)
        sizes, padded = [outer, inner], [high * rows, wide * cols]
        if order.transposed:
            sizes, padded = sizes[::-1], padded[::-1]
        edges = [place for place in (0, 1) if sizes[place] < padded[place]]
        if not edges:
            return turned_tiles
        whole = self._numbers((order.groups, *padded, order.positions))
        joined = self._node("Reshape", [turned_tiles, whole], name)
        bounds = [0] * len(edges), [sizes[place] for place in edges], [1 + place for place in edges]
        return self._node("Slice", [joined, *(self._numbers(part) for part in bounds)], name)

    def _node(self, kind: str, inputs: list[str], name: str, output: str = "", **attributes: Any) -> str:
        """Add a node for a weight and return the name of its output."""
        label = f"{name}/{kind}"
        self.used[label] = self.used.get(label, 0) + 1
        if self.used[label] > 1:
            label = f"{label}#{self.used[label]}"
        self.nodes.append(helper.make_node(kind, inputs, [output or label], label, **attributes))
        return output or label

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Add a constant, if there is none of that name, and return the name."""
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def _numbers(self, values: Sequence[int]) -> str:
        """Return the name of a constant list of numbers, which all weights share."""
        return self._constant(f"smartc.{'x'.join(map(str, values))}", np.array(values, dtype=np.int64))


def _zero(packed: PackedWeight) -> onnx.TensorProto:
    """Return the zero of a weight's type."""
    kind = helper.np_dtype_to_tensor_dtype(packed.tiles.numpy().dtype)
    return helper.make_tensor("zero", kind, [1], [0])
