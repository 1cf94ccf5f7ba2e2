"""The sections of a target description: every key, its unit and what it may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from smartc.ir.operators.table import OPERATORS, families, operator_named
from smartc.targets.keys import Flag, Number, Several, Text, Whole, one_of

_BYTES = Whole(0, 2**50)
_RATE = Number(1e-6, 1e9)
_SHARE = Number(0.001, 1)
_TILE = Several("a list of two whole numbers from 1 to 65536, rows and cols", Whole(), length=2)


@dataclass(frozen=True)
class Operators:
    """A list of families of operators and of short names, all of them in the table of operators."""

    @property
    def expected(self) -> str:
        """Return the families in words."""
        return f"a list of operators such as conv2d, or of their families: {', '.join(families())}"

    def read(self, raw: object) -> tuple[str, ...]:
        """Return the words as a tuple."""
        if not isinstance(raw, list | tuple):
            raise ValueError(raw)
        known = OPERATORS.keys() | set(families())
        for word in raw:
            if not isinstance(word, str) or word not in known:
                raise ValueError(word)
        return tuple(raw)


@dataclass(frozen=True)
class Identity:
    """Which device this is, and how far its figures can be believed."""

    name: Annotated[str, Text("a name of letters, digits and -_.", r"[A-Za-z0-9][A-Za-z0-9_.\-]*")]
    kind: Annotated[str, one_of("npu", "cpu")]
    provenance: Annotated[str, one_of("generic", "vendor-model", "calibrated", "measured")]


@dataclass(frozen=True)
class Array:
    """The MAC array: ``rows`` x ``cols`` weights, input channels by output channels, make one tile."""

    rows: Annotated[int, Whole()]
    cols: Annotated[int, Whole()]
    dataflow: Annotated[str, one_of("ws", "os", "is")]  # weight, output, input stationary
    reduction: Annotated[str, one_of("channel", "im2col")]  # im2col: taps too fill the rows
    fill: Annotated[str, one_of("overlapped", "serial", "none")]  # none: nothing to fill
    tiles_per_cycle: Annotated[float, _RATE]
    weight_load_cycles: Annotated[int, Whole(0)]
    frequency_hz: Annotated[float, Number(1, 1e12)]


@dataclass(frozen=True)
class Align:
    """The quanta: kept channel counts, pixels, and channels in memory are multiples of these."""

    cin: Annotated[int, Whole()]
    cout: Annotated[int, Whole()]
    pixels: Annotated[int, Whole()]
    storage_channels: Annotated[int, Whole()]


@dataclass(frozen=True)
class Precision:
    """Bits of one weight, one activation, one accumulator."""

    weight_bits: Annotated[int, Whole(1, 64)]
    activation_bits: Annotated[int, Whole(1, 64)]
    accumulator_bits: Annotated[int, Whole(1, 64)]


@dataclass(frozen=True)
class OutputRates:
    """Outputs per cycle by the activation fused into the layer."""

    none: Annotated[float, _RATE]
    relu: Annotated[float, _RATE]
    silu: Annotated[float, _RATE]


@dataclass(frozen=True)
class Output:
    """The stage that turns accumulators into activations."""

    per_cycle: OutputRates


@dataclass(frozen=True)
class Depthwise:
    """The depthwise unit: channels per cycle, and the quantum that kernel taps are rounded up to."""

    lanes: Annotated[int, Whole()]
    tap_quantum: Annotated[int, Whole()]


@dataclass(frozen=True)
class Memory:
    """On-chip and off-chip memory; ``overlap`` says that moving data hides behind computing."""

    weight_sram_bytes: Annotated[int, _BYTES]
    activation_sram_bytes: Annotated[int, _BYTES]
    dram_bytes_per_cycle: Annotated[float, _RATE]
    overlap: Annotated[bool, Flag()]


@dataclass(frozen=True)
class Sparsity:
    """What the device does with zero weights, and what listing the others costs."""

    zero_tile_skip: Annotated[bool, Flag()]
    tile: Annotated[tuple[int, int], _TILE]
    per_kernel_position: Annotated[bool, Flag()]  # false: a tile is zero at all kernel positions or at none
    index_bits: Annotated[int, Whole(0, 64)]  # per live tile; 0: a bitmap of one bit per tile
    index_cycles: Annotated[int, Whole(0)]  # not hidden, per live tile
    weight_compression: Annotated[bool, Flag()]  # zero tiles take no bandwidth, though they may take cycles
    # Weights of which at most N of M neighbours along the input channels are not zero run faster and take less room.
    nm: Annotated[str, Text("none, or N:M such as 2:4", r"none|[1-9]\d?:[1-9]\d?")]
    nm_gain: Annotated[float, Number(1, 100)]  # by what MAC cycles are divided there; 1 with nm = "none"


@dataclass(frozen=True)
class Overhead:
    """What each layer costs before its first cycle."""

    launch_us: Annotated[float, Number(0, 1e9)]


@dataclass(frozen=True)
class Vector:
    """The unit for elementwise work and pooling: lane operations per cycle."""

    lanes: Annotated[int, Whole()]


@dataclass(frozen=True)
class Fallback:
    """The host that runs what the device does not support, in accelerator cycles."""

    macs_per_cycle: Annotated[float, _RATE]
    elements_per_cycle: Annotated[float, _RATE]


@dataclass(frozen=True)
class Ops:
    """The operators that the device runs itself: families of the table of operators, and single ones by short name."""

    supported: Annotated[tuple[str, ...], Operators()]
    fallback: Fallback

    def includes(self, name: str) -> bool:
        """Say whether the device runs an operator itself, for its family's sake or its own."""
        operator = operator_named(name)
        return name in self.supported or (operator.family in self.supported and not operator.by_name_only)


@dataclass(frozen=True)
class Calibration:
    """Shares of the nominal rates that were reached in a measurement; ``source``: file, date, mean error."""

    mac_efficiency: Annotated[float, _SHARE]
    bandwidth_efficiency: Annotated[float, _SHARE]
    source: Annotated[str, Text()]
