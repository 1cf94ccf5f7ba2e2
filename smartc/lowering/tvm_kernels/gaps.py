"""Choose the zeros between the rows of each map of pixels, so that neighbouring layers share one layout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx

from smartc.lowering.tvm_kernels.geometry import WIDEST_SHARED_GAP, Geometry
from smartc.lowering.tvm_kernels.windows import window_geometry
from smartc.model import arguments_of, operator_name

# They compute every pixel by itself, or keep it where it is.
_PIXELWISE = frozenset(
    "add sub mul div relu relu6 hardtanh clamp silu gelu sigmoid hardsigmoid hardswish tanh leaky_relu dropout "
    "feature_dropout cat batch_norm elu prelu contiguous alias detach clone chunk split split_with_sizes".split()
)


def choose_gaps(graph: fx.Graph) -> dict[fx.Node, int]:
    """Return for each map of pixels the zeros between its rows: what the widest window on it needs."""
    leader: dict[fx.Node, fx.Node] = {}
    need: dict[fx.Node, int] = {}

    def find(node: fx.Node) -> fx.Node:
        while leader.setdefault(node, node) is not node:
            node = leader[node]
        return node

    def join(node: fx.Node, other: fx.Node) -> None:
        first, second = find(node), find(other)
        need[first] = max(need.get(first, 0), need.get(second, 0))
        leader[second] = first

    for node in graph.nodes:
        geometry = window_geometry(node)
        if geometry is not None:
            _ask(node, geometry, (find, join, need))
        elif operator_name(node.target) in _PIXELWISE:
            for other in maps_like(node):
                join(node, other)
    return {node: need.get(find(node), 0) for node in graph.nodes if node.op == "call_function"}


def _ask(node: fx.Node, geometry: Geometry, state: Any) -> None:
    """Note what a window needs of its output's grid, and of its input's where they are one."""
    find, join, need = state
    shared = geometry.in_place and operator_name(node.target) != "max_pool2d"
    wanted = geometry.shared_gap if shared else geometry.gap
    if wanted > WIDEST_SHARED_GAP:
        return
    if shared:
        join(node, arguments_of(node)[0])
    place = find(node)
    need[place] = max(need.get(place, 0), wanted)


def maps_like(node: fx.Node) -> Iterable[fx.Node]:
    """Return the inputs of a node that are maps with as many pixels as its output."""
    value = node.meta.get("val")
    shape = getattr(value[0] if isinstance(value, list | tuple) else value, "shape", ())
    if len(shape) == 4:
        for other in node.all_input_nodes:
            theirs = getattr(other.meta.get("val"), "shape", ())
            if len(theirs) == 4 and theirs[2:] == shape[2:] and other.op == "call_function":
                yield other
