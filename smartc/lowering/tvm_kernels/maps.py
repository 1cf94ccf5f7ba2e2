"""Bring maps of pixels into the grid or the phases that a kernel reads."""

from __future__ import annotations

from torch import fx

from smartc.lowering.tvm_kernels.copies import Phases, phases_kernel
from smartc.lowering.tvm_kernels.geometry import Geometry
from smartc.lowering.tvm_kernels.layout import Grid, Layout
from smartc.lowering.tvm_kernels.network import Held, Network
from smartc.lowering.tvm_kernels.packing import Integers


def fits(layout: Layout, grid: Grid) -> bool:
    """Return whether a tensor can be read as a grid: rows as far apart, zeros between them, all reads inside it."""
    if layout.shape[2:] != (grid.height, grid.width):
        return False
    if (grid.height > 1 and layout.strides[2] != grid.pitch) or (grid.width > 1 and layout.strides[3] != 1):
        return False
    known = layout.gap is not None and layout.gap >= grid.gap and layout.rows >= grid.rows
    if not known and (grid.gap or grid.rows or grid.shifts):
        return False
    if not set(grid.shifts) <= {shift for shift, _ in layout.planes}:
        return False
    reach = grid.reach
    batch, channels = layout.shape[:2]
    last = layout.offset + (batch - 1) * layout.strides[0] + (channels - 1) * layout.strides[1]
    return layout.offset >= reach and last + grid.vectors * grid.lanes + reach <= layout.size


def as_grid(network: Network, held: Held, grid: Grid, node: fx.Node) -> Held:
    """Return a map of pixels in a grid, copied if need be; the node names the copy."""
    if fits(held.layout, grid):
        return held
    key = (held.var, held.layout, grid)
    if key not in network.copies:
        batch, channels = held.layout.shape[:2]
        starts = tuple((0, shift) for shift in (0, *grid.shifts))
        phases = Phases((1, 1), starts, (grid.height, grid.width), grid.lead, grid.pitch, grid.plane)
        network.copies[key] = _split(network, held, phases, node, grid.layout(batch, channels))
    return network.copies[key]


def split_phases(
    network: Network, held: Held, phases: Phases, geometry: Geometry, node: fx.Node
) -> tuple[Held, Integers]:
    """Return a map of pixels split by a stride, and each tap's distance from the first pixel of the first phase."""
    key = (held.var, held.layout, phases)
    if key not in network.copies:
        layout = phases.layout(*held.layout.shape[:2])
        network.copies[key] = _split(network, held, phases, node, layout)
    return network.copies[key], geometry.taps_in_phases(phases)


def _split(network: Network, held: Held, phases: Phases, node: fx.Node, layout: Layout) -> Held:
    """Copy a map of pixels."""
    name = network.name(node, "input")
    return network.call(name, phases_kernel(name, held.layout, phases, network.machine.lanes), [held], layout)
