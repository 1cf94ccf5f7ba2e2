"""The unit and the meaning of every key of a target file; a test checks that none is missing."""

from __future__ import annotations

# Key: (unit, meaning).
MEANINGS: dict[str, tuple[str, str]] = {
    "target.name": ("", "what `--target` and reports call it"),
    "target.kind": ("", "`npu` for an accelerator, `cpu` for a processor"),
    "target.provenance": (
        "",
        "how the figures came about: assumptions, the vendor's formulas, a model fitted to measurements, "
        "or measurements themselves; every report states it",
    ),
    "array.rows": ("input channels", "rows of one weight tile"),
    "array.cols": ("output channels", "columns of one weight tile"),
    "array.dataflow": ("", "what stays in place while the rest streams past: weights, outputs or inputs"),
    "array.reduction": (
        "",
        "what fills the rows: the input channels at one kernel position, or those of all positions (`im2col`)",
    ),
    "array.fill": (
        "",
        "whether a tile loads while the one before it computes, each after the other, or there is no pipeline to fill",
    ),
    "array.tiles_per_cycle": ("tiles per cycle", "how many tiles take a pixel each in one cycle"),
    "array.weight_load_cycles": ("cycles", "time to load one tile of weights"),
    "array.frequency_hz": ("Hz", "clock; all cycles are counted by it"),
    "align.cin": ("channels", "kept input channels go in multiples of this"),
    "align.cout": ("channels", "kept output channels go in multiples of this"),
    "align.pixels": ("pixels", "output pixels are rounded up to a multiple of this"),
    "align.storage_channels": ("channels", "memory holds the channels of an activation in multiples of this"),
    "precision.weight_bits": ("bits", "size of a weight in memory"),
    "precision.activation_bits": ("bits", "size of an activation in memory"),
    "precision.accumulator_bits": ("bits", "size of an accumulator; for the record, no time follows from it"),
    "output.per_cycle.none": ("outputs per cycle", "rate of the output stage without an activation function"),
    "output.per_cycle.relu": ("outputs per cycle", "the same with ReLU or another clamp"),
    "output.per_cycle.silu": ("outputs per cycle", "the same with SiLU or another smooth function"),
    "depthwise.lanes": ("channels per cycle", "width of the depthwise unit"),
    "depthwise.tap_quantum": ("kernel positions", "kernel positions are rounded up to a multiple of this"),
    "memory.weight_sram_bytes": ("bytes", "on-chip memory for weights"),
    "memory.activation_sram_bytes": (
        "bytes",
        "on-chip memory for activations; a tensor stays there if a third holds it",
    ),
    "memory.dram_bytes_per_cycle": ("bytes per cycle", "bandwidth to off-chip memory"),
    "memory.overlap": ("", "whether moving data hides behind computing"),
    "sparsity.zero_tile_skip": ("", "whether a tile of zeros takes no cycles"),
    "sparsity.tile": ("channels", "rows and columns of the tile that can be skipped"),
    "sparsity.per_kernel_position": ("", "whether each kernel position has tiles of its own, or a tile spans all"),
    "sparsity.index_bits": ("bits per live tile", "size of the index that says where a tile belongs; 0 for a bitmap"),
    "sparsity.index_cycles": ("cycles per live tile", "time to read the index that nothing hides"),
    "sparsity.weight_compression": ("", "whether tiles of zeros are left out of memory, though they may take cycles"),
    "sparsity.nm": ("", "pattern that the device runs faster: at most N of M neighbouring input channels are not zero"),
    "sparsity.nm_gain": ("", "by what the cycles of a layer with that pattern are divided; 1 where there is none"),
    "overhead.launch_us": ("µs", "time before the first cycle of each layer"),
    "vector.lanes": ("operations per cycle", "width of the unit for elementwise work and pooling"),
    "ops.supported": ("", "what the device runs itself; the host runs the rest"),
    "ops.fallback.macs_per_cycle": ("MACs per cycle", "rate of the host for operators that are not supported"),
    "ops.fallback.elements_per_cycle": ("elements per cycle", "the same for elementwise work"),
    "calibration.mac_efficiency": ("share", "how much of the nominal rate of computing was reached in a measurement"),
    "calibration.bandwidth_efficiency": ("share", "how much of the nominal bandwidth was reached"),
    "calibration.source": ("", "where the two shares come from"),
}
