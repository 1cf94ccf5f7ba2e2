"""Bring maps of pixels into the grid or the phases that a kernel reads."""

from __future__ import annotations

from torch import fx

from smartc.kernels.inference.copies import Phases, phases_kernel
from smartc.kernels.inference.geometry import Geometry
from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.inference.network import Held, Network
from smartc.kernels.inference.packing import Integers

# Times the reach of a window that a map must hold to be read where it lies, without slack.
SMALL = 16


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
    return _copied(network, held, grid, node)


def as_rows(network: Network, held: Held, grid: Grid, node: fx.Node) -> Held:
    """Return a map of pixels whose rows follow each other, for a window that reads into the grid's slack.

    A map without slack may be copied besides where it is so small that most vectors would read beyond its buffer.
    """
    layout = held.layout
    if _joined(layout) and (layout.slack or grid.places > SMALL * grid.slack):
        return held
    return _copied(network, held, grid, node)


def _joined(layout: Layout) -> bool:
    """Return whether the rows of a map follow each other without gap."""
    height, width = layout.shape[2:]
    return (height == 1 or layout.strides[2] == width) and (width == 1 or layout.strides[3] == 1)


def _copied(network: Network, held: Held, grid: Grid, node: fx.Node) -> Held:
    """Copy a map of pixels to a grid, once."""
    key = (held.var, held.layout, grid)
    if key not in network.copies:
        batch, channels = held.layout.shape[:2]
        starts = tuple((0, shift) for shift in (0, *grid.shifts))
        size, pitch, source = (grid.height, grid.width), grid.pitch, held
        row = held.layout.reshaped((batch, channels, 1, grid.places))
        if row is not None and not grid.gap and not grid.shifts:
            # Rows without gap on both sides are copied as one.
            size, pitch, source = (1, grid.places), grid.places, Held(held.var, row, held.dtype)
        phases = Phases((1, 1), starts, size, grid.lead, pitch, grid.plane, slack=grid.slack)
        network.copies[key] = _split(network, source, phases, node, grid.layout(batch, channels))
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
