"""Packed ONNX: the same bits as the dense file, smaller, and plain layers once ONNX Runtime has loaded it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.lowering.packed_initializers import pack_initializers
from smartc.lowering.to_onnx import to_onnx
from smartc.lowering.to_program import to_program
from smartc.masks.packed_weight import TileOrder
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error
from tests.support.zero_tiles import with_zero_tiles

INPUT = (2, 20, 8, 8)
# Groups, and whether the input comes first; an exporter turns the weight of a linear layer on sequences round.
USES = {"stem.weight": (1, False), "left.weight": (3, False), "right.weight": (1, False), "up.weight": (2, True)}
USES |= {"head.weight": (1, False), "val_6": (1, True)}


class Residual(nn.Module):
    """A small residual network with edge tiles, groups, a transposed convolution and two kinds of products."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(20, 60, 3, padding=1)
        self.left = nn.Conv2d(60, 60, 3, padding=1, groups=3)
        self.right = nn.Conv2d(60, 60, 1)
        self.up = nn.ConvTranspose2d(60, 36, 3, stride=2, groups=2)
        self.rows = nn.Linear(36, 52)
        self.head = nn.Linear(52, 70)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.up(torch.relu(self.left(x) + self.right(x)))
        return self.head(torch.relu(self.rows(x.flatten(2).transpose(1, 2))).mean(dim=1))


@pytest.fixture(scope="module")
def dense() -> onnx.ModelProto:
    """Return the ONNX model of the network, without zeros."""
    torch.manual_seed(0)
    model = trace(Residual().eval(), torch.randn(INPUT))
    graph = to_onnx(model, to_program(model), {"version": "0"})
    turned = next(node.input[1] for node in graph.graph.node if node.name == "rows/MatMul")
    assert turned == "val_6"
    return graph


def masked(model: onnx.ModelProto, share: float, tile: tuple[int, int]) -> onnx.ModelProto:
    """Return a copy in which a share of the tiles of each weight is zero."""
    generator = torch.Generator().manual_seed(1)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in USES:
            weight = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            groups, transposed = USES[tensor.name]
            order = TileOrder(tuple(weight.shape), tile, groups=groups, transposed=transposed)
            live = torch.rand(order.blocks, generator=generator) >= share
            zeroed = order.joined(order.cut(weight) * live[:, :, None, None, None])
            tensor.CopyFrom(numpy_helper.from_array(zeroed.numpy(), tensor.name))
    return copy


def packed(model: onnx.ModelProto, tile: tuple[int, int]) -> onnx.ModelProto:
    """Return a packed copy, checked."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    pack_initializers(copy, tile)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def outputs(model: onnx.ModelProto, optimised: Path | None = None) -> Any:
    """Return what ONNX Runtime computes; write the graph that it runs to a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    numbers = np.random.default_rng(0).standard_normal(INPUT, dtype=np.float32)
    return session.run(None, {session.get_inputs()[0].name: numbers})[0]


def constants_of(graph: onnx.GraphProto) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return the constants of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("tile", [(8, 8), (16, 4), (8, 1)])
def test_computes_the_same_bits_and_folds_to_plain_layers(
    dense: onnx.ModelProto, tile: tuple[int, int], tmp_path: Path
) -> None:
    whole = masked(dense, 0.8, tile)
    small = packed(whole, tile)
    assert sum(node.op_type == "ScatterND" for node in small.graph.node) == len(USES)
    assert len(small.SerializeToString()) < len(whole.SerializeToString())
    run = [outputs(whole, tmp_path / "whole.onnx"), outputs(small, tmp_path / "small.onnx")]
    assert relative_error(*map(torch.from_numpy, run)) <= FLOAT32_TOLERANCE
    graphs = [onnx.load(tmp_path / name).graph for name in ("whole.onnx", "small.onnx")]
    # The sign of a zero is not stored.
    kept, restored = ({(array + 0).tobytes() for array in constants_of(graph).values()} for graph in graphs)
    assert kept <= restored
    assert [node.op_type for node in graphs[0].node] == [node.op_type for node in graphs[1].node]
    assert {"ScatterND", "ConstantOfShape", "Slice"}.isdisjoint(node.op_type for node in graphs[1].node)
    assert sum(value.nbytes for value in constants_of(graphs[0]).values()) == sum(
        value.nbytes for value in constants_of(graphs[1]).values()
    )


def test_shrinks_with_the_density() -> None:
    generator = torch.Generator().manual_seed(0)
    order = TileOrder((128, 128, 3, 3), (8, 8))
    for zeros, share in ((0.5, 0.55), (0.7, 0.35), (0.9, 0.15)):
        live = torch.rand(3, *order.blocks, generator=generator) >= zeros
        weights = [order.joined(torch.ones(*order.blocks, 1, 8, 8) * one[:, :, None, None, None]) for one in live]
        constants = [numpy_helper.from_array(weight.numpy(), f"w{place}") for place, weight in enumerate(weights)]
        nodes = [helper.make_node("Conv", [f"v{place}", f"w{place}"], [f"v{place + 1}"]) for place in range(3)]
        values = [helper.make_tensor_value_info(f"v{2 * i}", 1, [1, 128, 9 - 4 * i, 9 - 4 * i]) for i in (0, 1)]
        values[1] = helper.make_tensor_value_info("v3", 1, [1, 128, 3, 3])
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        assert len(packed(model, (8, 8)).SerializeToString()) < share * len(model.SerializeToString())


@pytest.mark.slow
def test_readers_tell_of_their_tiles(dense: onnx.ModelProto) -> None:
    graph = packed(masked(dense, 0.8, (8, 8)), (8, 8)).graph
    conv = next(node for node in graph.node if node.name == "stem/Conv")
    told = {prop.key: prop.value for prop in conv.metadata_props}
    constants = constants_of(graph)
    tiles, index = constants[told["smartc.tiles"]], constants[told["smartc.tile_index"]]
    assert told["smartc.tile"] == "8x8"
    assert told["smartc.live_tiles"] == f"{len(tiles)}/216"
    assert tiles.shape[1] == 64
    assert index.dtype == np.uint8
    assert "stem.weight" not in constants
    assert not next(node for node in graph.node if node.op_type == "Relu").metadata_props


def test_a_layer_of_zeros_takes_no_bytes(dense: onnx.ModelProto) -> None:
    whole = masked(dense, 1.0, (8, 8))
    small = packed(whole, (8, 8))
    assert not USES.keys() & constants_of(small.graph).keys()
    assert {"ScatterND", "Cast"}.isdisjoint(node.op_type for node in small.graph.node)
    assert relative_error(*map(torch.from_numpy, (outputs(whole), outputs(small)))) <= FLOAT32_TOLERANCE


def test_weights_without_zero_tiles_stay_whole(dense: onnx.ModelProto) -> None:
    assert packed(dense, (8, 8)).SerializeToString() == dense.SerializeToString()


def test_a_weight_read_in_two_ways_stays_whole() -> None:
    weight = numpy_helper.from_array(np.zeros((64, 64), dtype=np.float32), "w")
    values = [helper.make_tensor_value_info(name, 1, [4, 64]) for name in "xz"]
    for kind, count in (("MatMul", 1), ("Gemm", 0)):
        last = helper.make_node(kind, ["y", "w"], ["z"], **({"transB": 1} if kind == "Gemm" else {}))
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"]), last], "g", values[:1], values[1:], [weight]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        nodes = [node.op_type for node in packed(model, (8, 8)).graph.node]
        assert nodes.count("ConstantOfShape") == count


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE])
def test_keeps_the_type_of_the_weight(kind: int) -> None:
    weight = np.zeros((64, 64), dtype=helper.tensor_dtype_to_np_dtype(kind))
    weight[8, 8] = 3
    x, y = (helper.make_tensor_value_info(name, kind, [1, 64]) for name in "xy")
    product = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph([product], "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    model = packed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), (8, 8))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": np.ones((1, 64), dtype=weight.dtype)})[0]
    assert model.graph.node[0].op_type == "Cast"
    assert np.flatnonzero(result).tolist() == [8]


@pytest.mark.slow
def test_an_export_packs_where_a_tile_is_given() -> None:
    module = nn.Conv2d(16, 64, 3).eval()
    model = with_zero_tiles(trace(module, torch.randn(2, 16, 5, 5)), 0.7, (8, 8))
    exported = to_onnx(model, to_program(model), {"version": "0"}, tile=(8, 8))
    assert "ScatterND" in {node.op_type for node in exported.graph.node}
