"""Cycles of the computing units: MAC array, depthwise unit, vector unit, output stage, host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from smartc.targets.sections import Array
from smartc.targets.tiling import Tiling, ceil_div, round_up
from smartc.targets.workload import Flags, Floats, Ints, OpKind, Workload

if TYPE_CHECKING:
    from smartc.targets.target import Target


def compute_cycles(target: Target, work: Workload, shape: Tiling, listed: Flags, pattern: Flags) -> Floats:
    """Return the cycles that the unit of each layer computes.

    Args:
        target: The device.
        work: The layers.
        shape: Their tiles.
        listed: Where only live tiles are stored, which some devices skip.
        pattern: Where weights are stored by the N:M pattern of the target.
    """
    skipped = listed & target.sparsity.zero_tile_skip
    live = np.where(skipped, shape.live, shape.tiles) if skipped.any() else shape.tiles
    # Exposed cycles per tile to read where it belongs.
    index = skipped * np.int64(target.sparsity.index_cycles)
    array, efficiency = target.array, target.calibration.mac_efficiency
    # The tile count is 0 where the layer is not a MATRIX, and so are the cycles.
    busy = _FILLS[array.fill, array.dataflow](array, shape, live, index) * (live > 0)
    gain = np.where(pattern, target.sparsity.nm_gain, 1.0) if pattern.any() else 1.0
    cycles: Floats = busy * work.repeats / (array.tiles_per_cycle * efficiency * gain)
    # Most workloads lack most kinds: leaving those out saves most of the time that pricing takes.
    if (work.kind == OpKind.DEPTHWISE).any():
        depthwise = _depthwise(target, work, shape) / efficiency
        cycles = np.where(work.kind == OpKind.DEPTHWISE, depthwise, cycles)
    if (work.kind == OpKind.VECTOR).any():
        vector = ceil_div(work.vector_elements * work.cout, target.vector.lanes)
        cycles = np.where(work.kind == OpKind.VECTOR, vector, cycles)
    return cycles if work.supported.all() else np.where(work.supported, cycles, _on_host(target, work))


def output_cycles(target: Target, work: Workload) -> Floats:
    """Return the cycles in which the output stage writes whole columns of the array, pixel by pixel of the output."""
    rates = target.output.per_cycle
    rate = np.array([rates.none, rates.relu, rates.silu])[work.activation]
    staged = (work.kind <= OpKind.DEPTHWISE) & work.supported
    pixels = round_up(work.output_elements, target.align.pixels)
    cycles: Floats = staged * pixels * round_up(work.cout, target.array.cols) / rate
    return cycles


def multiply_accumulates(work: Workload) -> Ints:
    """Return the multiply-accumulates by definition, masks and padding left out of account."""
    counted = np.where(work.kind == OpKind.MATRIX, work.repeats, work.kind == OpKind.DEPTHWISE)
    return counted * work.pixels * work.kernel * ceil_div(work.cin, np.maximum(work.groups, 1)) * work.cout


def done_macs(work: Workload, shape: Tiling, skipped: Flags) -> Ints:
    """Return the multiply-accumulates that a device does, given the layers whose zero tiles it skips."""
    macs = multiply_accumulates(work)
    if not skipped.any():
        return macs
    live = np.rint(macs * (shape.live / np.maximum(shape.tiles, 1))).astype(np.int64)
    return np.where(skipped & (work.kind == OpKind.MATRIX), live, macs)


def _depthwise(target: Target, work: Workload, shape: Tiling) -> Ints:
    """Return the cycles of the depthwise unit, which never sees tiles."""
    unit = target.depthwise
    return shape.pixels * round_up(work.kernel, unit.tap_quantum) * ceil_div(work.cout, unit.lanes)


def _on_host(target: Target, work: Workload) -> Floats:
    """Return the cycles of the host, at least one: what is not supported is never free."""
    rates = target.ops.fallback
    elements = np.where(work.kind == OpKind.VECTOR, work.vector_elements * work.cout, 0)
    cycles = multiply_accumulates(work) / rates.macs_per_cycle + elements / rates.elements_per_cycle
    host: Floats = np.where(work.kind == OpKind.FREE, 0.0, np.maximum(cycles, 1.0))
    return host


def _overlapped(array: Array, shape: Tiling, live: Ints, index: Ints) -> Ints:
    """Return the cycles when a tile's weights load while the tile before streams its pixels.

    Source: equal to a Verilog array of this kind, cycle for cycle; the test simulates one.
    """
    load = array.weight_load_cycles + index
    return load + (live - 1) * np.maximum(shape.pixels, load) + shape.pixels + array.rows + array.cols


def _serial_weight(array: Array, shape: Tiling, live: Ints, index: Ints) -> Ints:
    """Return the cycles when each tile loads, streams and drains before the next; as SCALE-Sim counts."""
    return live * (shape.pixels + 2 * array.rows + array.cols - 2 + index)


def _serial_output(array: Array, shape: Tiling, live: Ints, index: Ints) -> Ints:
    """Return the cycles when rows x cols outputs stay in place; as SCALE-Sim counts."""
    folds = shape.groups * ceil_div(shape.pixels, array.rows) * shape.wide
    return folds * (shape.taps * shape.cin + array.rows + array.cols - 2)


def _serial_input(array: Array, shape: Tiling, live: Ints, index: Ints) -> Ints:
    """Return the cycles when rows x cols inputs stay in place; as SCALE-Sim counts."""
    folds = shape.groups * shape.deep * ceil_div(shape.pixels, array.cols)
    return folds * (shape.cout + 2 * array.rows + array.cols - 2)


def _unpipelined(array: Array, shape: Tiling, live: Ints, index: Ints) -> Ints:
    """Return the cycles of an array of dot products, which has no pipeline to fill."""
    return live * np.maximum(shape.pixels, array.weight_load_cycles + index)


_FILLS: dict[tuple[str, str], Callable[[Array, Tiling, Ints, Ints], Ints]] = {
    ("overlapped", "ws"): _overlapped,
    ("serial", "ws"): _serial_weight,
    ("serial", "os"): _serial_output,
    ("serial", "is"): _serial_input,
    ("none", "ws"): _unpipelined,
}
