"""Where the elements of a tensor lie in a flat buffer: strides, and maps of pixels with zeros between their rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Layout:
    """A tensor's place in a flat buffer of floats.

    Attributes:
        shape: Sizes of the tensor, as PyTorch has them.
        strides: Distance of neighbours along each axis, in elements.
        offset: Place of the first element.
        size: Elements of the buffer.
        gap: A map of pixels whose rows lie this many zeros apart, with zeros before and after each channel
            for as many rows; None where what lies between the elements is not known to be zero.
        rows: Rows of zeros before and after each channel, where ``gap`` is known.
        planes: The map again, shifted: for each shift of columns, the distance from a pixel to the pixel that many
            columns to its right, or zero where the row ends before it.
        slack: Elements of the buffer before those of the first channel, and after those of the last.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    size: int
    gap: int | None = None
    rows: int = 0
    planes: tuple[tuple[int, int], ...] = ()
    slack: int = 0

    @property
    def plain(self) -> bool:
        """Return whether the elements lie as NumPy would put them, and nothing else is there."""
        return self.offset == 0 and self.size == math.prod(self.shape) and self.strides == plain_strides(self.shape)

    def same_place(self, other: Layout) -> bool:
        """Return whether equal indices are equal places in buffers of equal size."""
        return (self.shape, self.strides, self.offset, self.size) == (
            other.shape,
            other.strides,
            other.offset,
            other.size,
        )

    def permuted(self, axes: Sequence[int]) -> Layout:
        """Return the same place with its axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return replace(self, shape=shape, strides=tuple(self.strides[axis] for axis in axes), gap=None)

    def sliced(self, axis: int, start: int, length: int, step: int = 1) -> Layout:
        """Return a part of one axis."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        strides = (*self.strides[:axis], self.strides[axis] * step, *self.strides[axis + 1 :])
        gap = self.gap if axis < 2 and len(shape) == 4 else None
        return replace(self, shape=shape, strides=strides, offset=self.offset + start * self.strides[axis], gap=gap)

    def without(self, axis: int) -> Layout:
        """Return the layout less an axis of one element."""
        shape = (*self.shape[:axis], *self.shape[axis + 1 :])
        return replace(self, shape=shape, strides=(*self.strides[:axis], *self.strides[axis + 1 :]), gap=None)

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """Return the same elements in another shape, or None where that needs a copy."""
        strides: list[int] = []
        runs = self._runs()
        for size in reversed(shape):
            if size == 1:
                strides.append(0)
                continue
            while runs and runs[-1][0] == 1:
                runs.pop()
            if not runs or runs[-1][0] % size:
                return None
            length, stride = runs.pop()
            strides.append(stride)
            runs.append((length // size, stride * size))
        return replace(self, shape=tuple(shape), strides=tuple(reversed(strides)), gap=None)

    def _runs(self) -> list[tuple[int, int]]:
        """Return length and stride of each longest run of axes that is one arithmetic progression."""
        runs: list[tuple[int, int]] = []
        for length, stride in zip(self.shape, self.strides, strict=True):
            if length == 1:
                continue
            if runs and runs[-1][1] == length * stride:
                runs[-1] = (runs[-1][0] * length, stride)
            else:
                runs.append((length, stride))
        return runs


def plain_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a NumPy array of a shape; axes of one element have stride 0."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step if size > 1 else 0)
        step *= size
    return tuple(reversed(strides))


def plain(shape: Sequence[int]) -> Layout:
    """Return the layout of a NumPy array."""
    return Layout(tuple(shape), plain_strides(shape), 0, math.prod(shape))


def rounded(size: int, lanes: int) -> int:
    """Return the least multiple of a number of lanes that is not below a size."""
    return -(-size // lanes) * lanes


@dataclass(frozen=True)
class Grid:
    """How each channel of a map of pixels lies in memory.

    Pixel (y, x) is at ``lead + y * pitch + x``.  The gap after a row is also the gap before the next one, so a
    kernel tap is a constant distance everywhere, and the vectors of a channel run on over the ends of its rows.

    Attributes:
        height, width: Pixels.
        gap: Zeros after each row; zeros for as many rows before and after the channel.
        lanes: Elements of a vector; every channel begins and ends on a multiple.
        more_rows: Rows of zeros before and after the channel, if more than the gap.
        shifts: Columns by which the planes are shifted that follow the map itself, for windows on rows without gap.
        slack: Elements, of any value, before the first channel and after the last: whole vectors; windows that know
            which pixels are the map's may read them.
    """

    height: int
    width: int
    gap: int
    lanes: int
    more_rows: int = 0
    shifts: tuple[int, ...] = ()
    slack: int = 0

    @property
    def pitch(self) -> int:
        """Return the distance of two rows."""
        return self.width + self.gap

    @property
    def lead(self) -> int:
        """Return the place of the first pixel."""
        return rounded(self.reach, self.lanes)

    @property
    def rows(self) -> int:
        """Return the rows of zeros before and after the channel."""
        return max(self.gap, self.more_rows)

    @property
    def reach(self) -> int:
        """Return the elements before the first and after the last pixel that windows read or planes are written to."""
        return self.rows * self.pitch + max(self.gap, *(abs(shift) for shift in (0, *self.shifts)))

    @property
    def places(self) -> int:
        """Return the elements from the first pixel to the last."""
        return (self.height - 1) * self.pitch + self.width

    @property
    def vectors(self) -> int:
        """Return the number of vectors that hold the pixels from the first to the last."""
        return -(-self.places // self.lanes)

    @property
    def plane(self) -> int:
        """Return the elements of a channel's map, or of one of its planes."""
        return rounded(self.lead + self.vectors * self.lanes + self.reach, self.lanes)

    @property
    def length(self) -> int:
        """Return the elements of a channel."""
        return self.plane * (1 + len(self.shifts))

    @property
    def full(self) -> bool:
        """Return whether every lane of every vector is a pixel."""
        return self.vectors * self.lanes == self.height * self.width

    def layout(self, batch: int, channels: int) -> Layout:
        """Return the layout of a tensor (batch, channels, height, width)."""
        strides = (channels * self.length, self.length, self.pitch, 1)
        size = batch * channels * self.length + 2 * self.slack
        planes = tuple((shift, (number + 1) * self.plane) for number, shift in enumerate(self.shifts))
        shape = (batch, channels, self.height, self.width)
        return Layout(shape, strides, self.slack + self.lead, size, self.gap, self.rows, planes, self.slack)
