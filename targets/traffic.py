"""Bytes that layers move to and from off-chip memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smartc.targets.tiling import Tiling, ceil_div, round_up, whole_bytes
from smartc.targets.workload import Flags, Ints, Operand, OpKind, Workload

if TYPE_CHECKING:
    from smartc.targets.target import Target


def weight_bytes(target: Target, work: Workload, shape: Tiling, listed: Flags) -> Ints:
    """Return the bytes of each layer's weights as stored, edge tiles whole, index included; 0 for activations.

    Args:
        target: The device.
        work: The layers.
        shape: Their tiles.
        listed: Where only live tiles are stored, with an index that says which they are.
    """
    array, bits = target.array, target.precision.weight_bits
    stored = np.where(listed, shape.live, shape.tiles) if listed.any() else shape.tiles
    total = whole_bytes(stored * (array.rows * array.cols), bits)
    if listed.any():
        total = total + listed * _index_bytes(target, work, shape)
    if (work.kind == OpKind.DEPTHWISE).any():
        unit = target.depthwise
        taps = round_up(work.kernel, unit.tap_quantum) * round_up(work.cout, unit.lanes)
        total = np.where(work.kind == OpKind.DEPTHWISE, whole_bytes(taps, bits), total)
    if not work.supported.all():
        unpadded = (work.kind <= OpKind.DEPTHWISE) * work.kernel * shape.cin * work.cout
        total = np.where(work.supported, total, whole_bytes(unpadded, bits))
    if work.stored_elements.any():
        total = total + whole_bytes((work.kind == OpKind.VECTOR) * work.stored_elements * work.cout, bits)
    return total * (work.operand != Operand.ACTIVATION)


def pattern_bytes(target: Target, whole: Ints) -> Ints:
    """Return the bytes of weights stored by the target's N:M pattern: N of M, and for each its place among the M.

    Args:
        target: The device.
        whole: Bytes of the same weights stored whole.
    """
    kept, group = (int(count) for count in target.sparsity.nm.split(":"))
    bits = target.precision.weight_bits + (group - 1).bit_length()
    return ceil_div(whole * kept * bits, group * target.precision.weight_bits)


def weight_traffic(target: Target, work: Workload, stored: Ints) -> Ints:
    """Return the bytes of weights that each layer moves on chip.

    What runs step by step reads its weights at each step, unless the weight memory holds them.  Of a table no
    more is read than is written.

    Args:
        target: The device.
        work: The layers.
        stored: Bytes of their weights.
    """
    again = (work.kind == OpKind.MATRIX) & (work.repeats > 1) & (stored > target.memory.weight_sram_bytes)
    moved = stored * np.where(again, work.repeats, 1) if again.any() else stored
    if not work.stored_elements.any():
        return moved
    written = whole_bytes(work.output_elements * work.cout, target.precision.weight_bits)
    return np.where(work.kind == OpKind.VECTOR, np.minimum(moved, written), moved)


def activation_bytes(target: Target, work: Workload, shape: Tiling, weights: Ints) -> Ints:
    """Return the bytes of activations that each layer moves off chip.

    A tensor stays on chip where a third of the activation memory holds it: one third each for what is
    read, what is written and a shortcut that waits.  Producer and consumer judge a tensor by its own
    size, so they agree.  The host reads and writes off chip.

    Args:
        target: The device.
        work: The layers.
        shape: Their tiles.
        weights: Bytes of their weights.
    """
    bits, quantum = target.precision.activation_bits, target.align.storage_channels
    third = target.memory.activation_sram_bytes // 3
    moved = work.kind != OpKind.FREE
    read = whole_bytes(moved * work.input_elements * round_up(work.cin, quantum), bits)
    written = whole_bytes(moved * work.output_elements * round_up(work.cout, quantum), bits)
    reads = read * ((read > third) | ~work.supported)
    writes = written * ((written > third) | ~work.supported)
    if not (work.operand == Operand.ACTIVATION).any():
        return reads * _passes(target, work, shape, weights) + writes * (1 + work.residual)
    operand = _operand_bytes(target, work, shape)
    held = np.where(work.operand == Operand.ACTIVATION, operand // np.maximum(shape.groups, 1), weights)
    moves = reads * _passes(target, work, shape, held) + writes * (1 + work.residual)
    return moves + operand * ((operand > third) | ~work.supported)


def _operand_bytes(target: Target, work: Workload, shape: Tiling) -> Ints:
    """Return the bytes of activations that stand where weights do."""
    product = (work.operand == Operand.ACTIVATION) & (work.kind <= OpKind.DEPTHWISE)
    elements = product * work.kernel * work.cin * round_up(shape.cout, target.align.storage_channels)
    return whole_bytes(elements, target.precision.activation_bits)


def _index_bytes(target: Target, work: Workload, shape: Tiling) -> Ints:
    """Return the bytes that say which tiles are live: a number for each, or one bit for every tile."""
    sparsity = target.sparsity
    entries = shape.live * sparsity.index_bits if sparsity.index_bits else shape.tiles
    # One entry stands for all kernel positions where these share it.
    return ceil_div(entries, 8 if sparsity.per_kernel_position else 8 * np.maximum(work.kernel, 1))


def _passes(target: Target, work: Workload, shape: Tiling, weights: Ints) -> Ints:
    """Return how often the input is read: once per weight memory full, at most once per column of tiles."""
    on_array = (work.kind == OpKind.MATRIX) & work.supported
    fills = ceil_div(weights, max(target.memory.weight_sram_bytes, 1))
    return np.maximum(np.minimum(fills, shape.wide * on_array), 1)
