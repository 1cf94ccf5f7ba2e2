"""Random targets and layers for the latency model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from smartc.targets.target import Target, load_target
from smartc.targets.workload import Workload


def changed(target: Target, **keys: Any) -> Target:
    """Return the target with keys set, written as ``section__key``."""
    for name, value in keys.items():
        section, _, key = name.partition("__")
        target = replace(target, **{section: replace(getattr(target, section), **{key: value})})
    return target


def random_target(random: np.random.Generator) -> Target:
    """Return a target of any settings that are allowed together."""
    rows, cols = (int(size) for size in random.choice([2, 4, 8, 16], 2))
    flow = random.choice(["ws", "ws", "os", "is"])
    nm, gain = [("none", 1.0), ("2:4", 1.73), ("6:8", 1.0), ("1:3", 3.0)][random.integers(4)]
    flags = {
        name: bool(random.integers(2))
        for name in ("memory__overlap", "sparsity__weight_compression", "sparsity__per_kernel_position")
    }
    return changed(
        load_target("npu-8x8"),
        array__rows=rows,
        array__cols=cols,
        array__dataflow=str(flow),
        array__fill=str(random.choice(["overlapped", "serial", "none"])) if flow == "ws" else "serial",
        array__reduction=str(random.choice(["channel", "im2col"])),
        array__weight_load_cycles=int(random.choice([0, rows, 40])),
        array__tiles_per_cycle=float(random.choice([1.0, 2.0, 0.5])),
        align__pixels=int(random.choice([1, 4, 16])),
        align__storage_channels=int(random.choice([1, 8, 16])),
        precision__weight_bits=int(random.choice([4, 8, 16])),
        precision__activation_bits=int(random.choice([4, 8, 16])),
        depthwise__tap_quantum=int(random.choice([1, 4])),
        memory__weight_sram_bytes=int(random.choice([0, 500, 20000])),
        memory__activation_sram_bytes=int(random.choice([0, 3000, 100000])),
        memory__dram_bytes_per_cycle=float(random.choice([0.5, 3.0, 8.0])),
        sparsity__zero_tile_skip=bool(flow == "ws" and random.integers(2)),
        sparsity__tile=(rows, cols),
        sparsity__index_bits=int(random.choice([0, 5, 16])),
        sparsity__index_cycles=int(random.choice([0, 2])),
        sparsity__nm=nm,
        sparsity__nm_gain=gain,
        overhead__launch_us=float(random.choice([0.0, 0.7])),
        calibration__mac_efficiency=float(random.choice([1.0, 0.8])),
        calibration__bandwidth_efficiency=float(random.choice([1.0, 0.6])),
        **flags,
    )


def random_layers(random: np.random.Generator, count: int) -> Workload:
    """Return layers of all kinds, with and without groups, masks and support."""
    groups = random.choice([1, 1, 2, 3], count)
    return Workload(
        kind=random.integers(0, 4, count),
        pixels=random.integers(1, 90, count),
        kernel=random.choice([1, 4, 9], count),
        cin=groups * random.integers(0, 40, count),
        cout=groups * random.integers(0, 40, count),
        groups=groups,
        input_elements=random.integers(1, 200, count),
        output_elements=random.integers(1, 90, count),
        residual=random.integers(0, 2, count) > 0,
        activation=random.integers(0, 3, count),
        vector_elements=random.integers(0, 300, count),
        live_tiles=random.integers(-1, 120, count),
        supported=random.integers(0, 5, count) > 0,
        operand=random.integers(0, 3, count),
        repeats=random.choice([1, 1, 5], count),
        stored_elements=random.choice([0, 2, 500], count),
        patterned=random.integers(0, 2, count) > 0,
        factor=np.ones(count),
    )
