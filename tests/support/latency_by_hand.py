"""The latency model once more, one layer at a time in plain Python, written from its formulas alone."""

from __future__ import annotations

from math import ceil, log2
from typing import Any

from smartc.targets.target import Target
from smartc.targets.workload import Operand, OpKind

MATRIX, DEPTHWISE, VECTOR, FREE = OpKind
WEIGHT, SHARED, ACTIVATION = Operand


def price_by_hand(target: Target, layer: Any) -> dict[str, float]:
    """Return the cost of one layer, its mask used only where that helps."""
    ways = [_cost(target, layer, listed=False)]
    uses = target.sparsity.zero_tile_skip or target.sparsity.weight_compression
    if uses and layer.supported and ways[0]["live_tiles"] < ways[0]["tiles"]:
        ways.append(_cost(target, layer, listed=True))
    if target.sparsity.nm != "none" and layer.patterned and layer.supported and layer.kind == MATRIX:
        ways.append(_cost(target, layer, listed=False, pattern=True))
    best = min(ways, key=lambda cost: (cost["total"], cost["weight_bytes"]))
    return best | {"weight_bytes": 0 if layer.operand == SHARED else best["weight_bytes"]}


def _runs(layer: Any) -> int:
    """Return how often a layer runs."""
    runs: int = layer.repeats if layer.kind == MATRIX else 1
    return runs


def _macs(layer: Any) -> int:
    """Return the multiply-accumulates of the dense layer."""
    macs: int = _runs(layer) * layer.pixels * layer.kernel * (layer.cin // layer.groups) * layer.cout
    return macs if layer.kind in (MATRIX, DEPTHWISE) else 0


def _tiles(target: Target, layer: Any) -> int:
    """Count the tiles that hold at least one weight."""
    array, cin, cout = target.array, layer.cin // layer.groups, layer.cout // layer.groups
    tiles = set()
    for row in range(layer.kernel * cin):
        tap, channel = divmod(row, cin)
        down = (tap, channel // array.rows) if array.reduction == "channel" else row // array.rows
        tiles |= {(down, column) for column in range(-(-cout // array.cols))}
    return layer.groups * len(tiles) if layer.kind == MATRIX else 0


def _array(target: Target, layer: Any, tiles: int, index: int, gain: float) -> float:
    """Return the cycles of the MAC array."""
    array, R, C = target.array, target.array.rows, target.array.cols
    M, load = _up(layer.pixels, target.align.pixels), target.array.weight_load_cycles + index
    cin, cout = layer.cin // layer.groups, layer.cout // layer.groups
    K, Tn = layer.kernel * cin, ceil(cout / C)
    Tk = layer.kernel * ceil(cin / R) if array.reduction == "channel" else ceil(K / R)
    if tiles == 0:
        return 0.0
    if array.fill == "overlapped":
        cycles = load + (tiles - 1) * max(M, load) + M + R + C
    elif array.fill == "none":
        cycles = tiles * max(M, load)
    elif array.dataflow == "ws":
        cycles = tiles * (M + 2 * R + C - 2 + index)
    elif array.dataflow == "os":
        cycles = layer.groups * ceil(M / R) * Tn * (K + R + C - 2)
    else:
        cycles = layer.groups * (2 * R + C + cout - 2) * Tk * ceil(M / C)
    return cycles * layer.repeats / (array.tiles_per_cycle * target.calibration.mac_efficiency * gain)


def _compute(target: Target, layer: Any, tiles: int, index: int, gain: float) -> tuple[float, float]:
    """Return the cycles of the unit that runs the layer, and of the output stage."""
    unit, host = target.depthwise, target.ops.fallback
    M = _up(layer.pixels, target.align.pixels)
    if layer.kind == FREE:
        return 0.0, 0.0
    if not layer.supported:
        elements = layer.vector_elements * layer.cout if layer.kind == VECTOR else 0
        return max(_macs(layer) / host.macs_per_cycle + elements / host.elements_per_cycle, 1.0), 0.0
    if layer.kind == VECTOR:
        return ceil(layer.vector_elements * layer.cout / target.vector.lanes), 0.0
    rate = getattr(target.output.per_cycle, ("none", "relu", "silu")[layer.activation])
    output = _up(layer.output_elements, target.align.pixels) * _up(layer.cout, target.array.cols) / rate
    if layer.kind == DEPTHWISE:
        cycles = M * _up(layer.kernel, unit.tap_quantum) * ceil(layer.cout / unit.lanes)
        return cycles / target.calibration.mac_efficiency, output
    return _array(target, layer, tiles, index, gain), output


def _weights(target: Target, layer: Any, stored: int, tiles: int, listed: bool) -> int:
    """Return the bytes of the weights."""
    R, C, bits = target.array.rows, target.array.cols, target.precision.weight_bits
    if layer.operand == ACTIVATION or layer.kind == FREE:
        return 0
    if layer.kind == VECTOR:
        return ceil(layer.stored_elements * layer.cout * bits / 8)
    if not layer.supported:
        return ceil(layer.kernel * (layer.cin // layer.groups) * layer.cout * bits / 8)
    if layer.kind == DEPTHWISE:
        unit = target.depthwise
        return ceil(_up(layer.kernel, unit.tap_quantum) * _up(layer.cout, unit.lanes) * bits / 8)
    weights = ceil(stored * R * C * bits / 8)
    if listed:
        entries = stored * target.sparsity.index_bits if target.sparsity.index_bits else tiles
        weights += ceil(entries / (8 if target.sparsity.per_kernel_position else 8 * layer.kernel))
    return weights


def _moved_weights(target: Target, layer: Any, weights: int) -> int:
    """Return the bytes of weights from outside: what does not fit comes at each step, of a table what is read."""
    if layer.kind == VECTOR:
        return min(weights, ceil(layer.output_elements * layer.cout * target.precision.weight_bits / 8))
    return weights * _runs(layer) if weights > target.memory.weight_sram_bytes else weights


def _activations(target: Target, layer: Any, weights: int) -> int:
    """Return the bytes of the activations that come from outside or go there."""
    if layer.kind == FREE:
        return 0
    quantum, bits = target.align.storage_channels, target.precision.activation_bits
    on_chip = target.memory.activation_sram_bytes // 3 if layer.supported else -1
    second, wide = 0, layer.cout // layer.groups
    if layer.operand == ACTIVATION and layer.kind in (MATRIX, DEPTHWISE):
        second = ceil(layer.kernel * layer.cin * _up(wide, quantum) * bits / 8)
    held = second // layer.groups if layer.operand == ACTIVATION else weights
    passes = max(1, min(ceil(held / max(1, target.memory.weight_sram_bytes)), ceil(wide / target.array.cols)))
    if layer.kind != MATRIX or not layer.supported:
        passes = 1
    read = ceil(layer.input_elements * _up(layer.cin, quantum) * bits / 8)
    written = ceil(layer.output_elements * _up(layer.cout, quantum) * bits / 8)
    moved = (read * passes if read > on_chip else 0) + (written * (1 + layer.residual) if written > on_chip else 0)
    return moved + (second if second > on_chip else 0)


def _cost(target: Target, layer: Any, listed: bool, pattern: bool = False) -> dict[str, float]:
    """Return the cost of one layer with its mask used or ignored, or its pattern used."""
    tiles = _tiles(target, layer)
    live = tiles if layer.live_tiles < 0 else min(layer.live_tiles, tiles)
    skip = listed and target.sparsity.zero_tile_skip
    index = target.sparsity.index_cycles if skip else 0
    compute, output = _compute(
        target, layer, live if skip else tiles, index, target.sparsity.nm_gain if pattern else 1.0
    )
    weights = _weights(target, layer, live if listed else tiles, tiles, listed)
    if pattern:
        kept, group = map(int, target.sparsity.nm.split(":"))
        places = ceil(log2(group))
        weights = ceil(
            weights * kept * (target.precision.weight_bits + places) / (group * target.precision.weight_bits)
        )
    moved = _moved_weights(target, layer, weights)
    activations = _activations(target, layer, weights)
    bandwidth = target.memory.dram_bytes_per_cycle * target.calibration.bandwidth_efficiency
    memory = moved / bandwidth + activations / bandwidth
    launch = target.overhead.launch_us * 1e-6 * target.array.frequency_hz if layer.kind != FREE else 0.0
    busy = max(compute, output, memory) if target.memory.overlap else compute + output + memory
    return {
        "compute": compute,
        "output": output,
        "weights": moved / bandwidth,
        "activations": activations / bandwidth,
        "overhead": launch,
        "total": launch + busy,
        "macs": _macs(layer),
        "weight_bytes": weights,
        "tiles": tiles,
        "live_tiles": live,
        "listed": listed,
    }


def _up(count: int, quantum: int) -> int:
    """Return the next multiple."""
    return ceil(count / quantum) * quantum
