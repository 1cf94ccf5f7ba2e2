"""The shapes of layers, as the latency model needs them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_ACTIVATIONS = 3
# All fields that are not named here hold whole numbers.
_DTYPES: dict[str, type] = {
    **dict.fromkeys(("residual", "supported", "patterned"), np.bool_),
    "factor": np.float64,
}


class OpKind(IntEnum):
    """Which unit of a device runs a layer."""

    MATRIX = 0  # convolutions, linear layers: weight tiles on the MAC array
    DEPTHWISE = 1  # one input channel per output channel
    VECTOR = 2  # elementwise work, pooling
    FREE = 3  # views, constants: costs nothing


class Operand(IntEnum):
    """What a layer multiplies its input by."""

    WEIGHT = 0  # stored with the network
    SHARED = 1  # stored for an earlier layer already
    ACTIVATION = 2  # computed from the network's inputs


def _no() -> Flags:
    """Return the default of a flag that few layers set."""
    return np.zeros((), dtype=np.bool_)


def _yes() -> Flags:
    """Return the default of a flag that few layers clear."""
    return np.ones((), dtype=np.bool_)


def _zero() -> Ints:
    """Return the default of a count that few layers have."""
    return np.zeros((), dtype=np.int64)


def _one() -> Ints:
    """Return the default of a count that few layers have more than once."""
    return np.ones((), dtype=np.int64)


def _unit() -> Floats:
    """Return the factor of layers that take what the target says."""
    return np.ones((), dtype=np.float64)


def _all() -> Ints:
    """Return the tile count that stands for all tiles."""
    return np.full((), -1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Workload:
    """Layers as a struct of arrays: each field an int64 array, flags or factors, all broadcast to one shape.

    Raises:
        ValueError: A field is negative, a code is unknown, or the shapes do not broadcast.
    """

    kind: Ints  # OpKind codes
    pixels: (
        Ints  # that stream through the array, batch included: of the output, of a transposed convolution's input, rows
    )
    kernel: Ints  # taps: kh * kw
    cin: Ints  # all input channels, not those of one group
    cout: Ints
    groups: Ints
    input_elements: Ints  # read per input channel, summed over operands
    output_elements: Ints  # written per output channel
    residual: Flags = field(default_factory=_no)  # one more tensor of the output's size is read
    activation: Ints = field(default_factory=_zero)  # 0 none, 1 relu, 2 silu: which output rate holds
    vector_elements: Ints = field(default_factory=_zero)  # VECTOR: lane operations per output channel
    live_tiles: Ints = field(default_factory=_all)  # MATRIX: tiles that are not zero; -1 is all
    supported: Flags = field(default_factory=_yes)  # False: the host runs it
    operand: Ints = field(default_factory=_zero)  # Operand codes
    repeats: Ints = field(default_factory=_one)  # MATRIX: runs one after another with the same weights, as steps
    stored_elements: Ints = field(default_factory=_zero)  # VECTOR: stored numbers per output channel, as of a table
    patterned: Flags = field(default_factory=_no)  # MATRIX: the weight has the N:M pattern of the target
    factor: Floats = field(default_factory=_unit)  # what it takes where it was measured, over what a cost table says

    def __post_init__(self) -> None:
        """Convert each field, so that scalars and lists may be given, and check it."""
        for item in fields(self):
            value = np.asarray(getattr(self, item.name))
            dtype = _DTYPES.get(item.name, np.int64)
            if value.dtype.kind not in "bi" and dtype is not np.float64:
                raise ValueError(f"{item.name} holds {value.dtype}, not whole numbers")
            if value.size and value.min() < (-1 if item.name == "live_tiles" else 0):
                raise ValueError(f"{item.name} holds {value.min()}")
            object.__setattr__(self, item.name, value.astype(dtype, copy=False))
        for name, codes in (("kind", len(OpKind)), ("activation", _ACTIVATIONS), ("operand", len(Operand))):
            if getattr(self, name).size and getattr(self, name).max() >= codes:
                raise ValueError(f"{name} holds {getattr(self, name).max()}, the codes end at {codes - 1}")
        self.shape  # noqa: B018  # raises where the fields do not broadcast

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the common shape of all fields."""
        return np.broadcast_shapes(*(getattr(self, item.name).shape for item in fields(self)))
