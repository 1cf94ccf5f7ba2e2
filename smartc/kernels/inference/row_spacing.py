"""Choose how the rows of each map of pixels lie, so that neighbouring layers share one layout.

A window reads beyond the ends of rows.  Where the processor leaves lanes of a vector out at no cost, the rows join and
the kernel knows for each tap which lanes read pixels of the map.  Elsewhere, and for kernels that need zeros, either
zeros lie between the rows, which every layer of the map's size then computes in vain, or the rows join and what the
window reads left and right is written besides, as planes in which the map is shifted.  Small maps take the planes: a
gap would cost them much of their vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of, operator_name, operator_of
from smartc.kernels.inference.chunking import products
from smartc.kernels.inference.geometry import WIDEST_SHARED_GAP, Geometry
from smartc.kernels.inference.layout import Grid, rounded
from smartc.kernels.inference.windows import window_geometry
from smartc.kernels.machine import Machine

# Beside what has a formula or passes on as it is: what the rules of the walk compute or read pixel by pixel where it
# lies, and what TVM computes so.  It is a choice of layouts, which says nothing of the operators.
_PIXELWISE = frozenset(
    "add sub mul div hardtanh clamp gelu leaky_relu cat batch_norm elu prelu chunk split split_with_sizes".split()
)
# The share of a layer's products that planes must save: they cost as many more stores.
_WORTH_PLANES = 0.05


@dataclass(frozen=True)
class Spacing:
    """How the rows of a map lie.

    Attributes:
        gap: Zeros between them.
        joined: Whether windows read planes; the gap is then 0.
        rows: Rows of zeros before and after each channel, if more than the gap.
        shifts: Columns by which the map's planes are shifted.
        slack: How far windows in place, which know which pixels are the map's, read beyond the map; the gap is then 0.
    """

    gap: int = 0
    joined: bool = False
    rows: int = 0
    shifts: tuple[int, ...] = ()
    slack: int = 0


@dataclass
class _Groups:
    """Maps that share a layout, joined as they are found; a group goes by one of its nodes.

    Attributes:
        leader: A node nearer to the one that the group goes by.
        need: Zeros that its windows need between the rows, where they need zeros.
        reach: How far its windows in place read beyond a map without gaps.
        zeros: Groups in which a kernel reads zeros where a window leaves the map.
        products: Groups with windows that the block-sparse kernel computes.
    """

    leader: dict[fx.Node, fx.Node] = field(default_factory=dict)
    need: dict[fx.Node, int] = field(default_factory=dict)
    reach: dict[fx.Node, int] = field(default_factory=dict)
    zeros: set[fx.Node] = field(default_factory=set)
    products: set[fx.Node] = field(default_factory=set)

    def find(self, node: fx.Node) -> fx.Node:
        """Return the node that a group goes by."""
        while self.leader.setdefault(node, node) is not node:
            node = self.leader[node]
        return node

    def join(self, node: fx.Node, other: fx.Node) -> None:
        """Make two groups one."""
        first, second = self.find(node), self.find(other)
        self.need[first] = max(self.need.get(first, 0), self.need.get(second, 0))
        self.reach[first] = max(self.reach.get(first, 0), self.reach.get(second, 0))
        for kind in (self.products, self.zeros):
            if second in kind:
                kind.add(first)
        self.leader[second] = first

    def ask(self, node: fx.Node, geometry: Geometry) -> None:
        """Note what a window needs of its output's grid, and of its input's where they are one."""
        kind, packed = operator_name(node.target), _packed(node)
        shared = geometry.in_place and kind != "max_pool2d"
        wanted = geometry.shared_gap if shared else geometry.gap
        if wanted and not packed and kind != "max_pool2d":
            self.zeros.add(self.find(node))
        if wanted > WIDEST_SHARED_GAP:
            return
        if shared:
            self.join(node, arguments_of(node)[0])
        place = self.find(node)
        self.need[place] = max(self.need.get(place, 0), wanted)
        if wanted and packed:
            self.products.add(place)
            self.reach[place] = max(self.reach.get(place, 0), geometry.reach if shared else 0)


def _packed(node: fx.Node) -> bool:
    """Return whether the block-sparse kernel computes a window."""
    groups = int(argument_of(node, 6, "groups", 1)) if operator_name(node.target) == "conv2d" else 0
    return groups == 1 or (groups > 1 and groups != _shape(arguments_of(node)[0])[1])


def choose_spacings(graph: fx.Graph, machine: Machine) -> dict[fx.Node, Spacing]:
    """Return the spacing of the rows of each map of pixels: as the widest window on it needs, at the least cost."""
    groups = _Groups()
    for node in graph.nodes:
        geometry = window_geometry(node)
        if geometry is not None:
            groups.ask(node, geometry)
        elif _is_pixelwise(node):
            for other in maps_like(node):
                groups.join(node, other)
    spacings = {}
    for node in graph.nodes:
        if node.op == "call_function":
            leader = groups.find(node)
            gap = groups.need.get(leader, 0)
            reach = groups.reach.get(leader, 0)
            if reach and machine.packs and leader not in groups.zeros:
                spacings[node] = Spacing(slack=rounded(reach, machine.lanes))
                continue
            joined = leader in groups.products and _pays(leader, gap, machine)
            spacings[node] = _with_planes(node) if joined else Spacing(gap)
    return spacings


def _is_pixelwise(node: fx.Node) -> bool:
    """Return whether a call computes every pixel by itself, or keeps it where it is."""
    operator = operator_of(node)
    return operator.identity or operator.formula is not None or operator.name in _PIXELWISE


def _pays(node: fx.Node, gap: int, machine: Machine) -> bool:
    """Return whether planes are cheaper for a map than a gap."""
    size = _shape(node)[2:]
    if not gap or len(size) != 2:
        return False
    apart, joined = (products(Grid(size[0], size[1], zeros, machine.lanes), machine) for zeros in (gap, 0))
    return joined < (1 - _WORTH_PLANES) * apart


def _with_planes(node: fx.Node) -> Spacing:
    """Return the planes and rows that windows in place read of a map."""
    readers = [user for user in node.users if operator_name(user.target) == "conv2d" and arguments_of(user)[0] is node]
    windows = [window_geometry(user) for user in readers]
    shifts = {shift for window in windows if window and window.in_place for shift in window.shifts}
    rows = max((abs(y) for y, _ in shifts), default=0)
    return Spacing(0, True, rows, tuple(sorted({x for _, x in shifts} - {0})))


def maps_like(node: fx.Node) -> Iterable[fx.Node]:
    """Return the inputs of a node that are maps with as many pixels as its output."""
    shape = _shape(node)
    if len(shape) == 4:
        for other in node.all_input_nodes:
            theirs = getattr(other.meta.get("val"), "shape", ())
            if len(theirs) == 4 and theirs[2:] == shape[2:] and other.op == "call_function":
                yield other


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's output, or of the first of several."""
    value = node.meta.get("val")
    return tuple(getattr(value[0] if isinstance(value, list | tuple) else value, "shape", ()))
