"""Write a map of pixels from a kernel: zeros around it, zeros where no pixel is, and its shifted planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from smartc.lowering.tvm_kernels.fills import fill_run
from smartc.lowering.tvm_kernels.geometry import pixel_mask
from smartc.lowering.tvm_kernels.layout import Grid, Layout
from smartc.lowering.tvm_kernels.packing import Floats
from smartc.lowering.tvm_kernels.vector_math import splat


def mask_of(grid: Grid, masked: bool, pixels: Floats | None = None) -> Floats | None:
    """Return what a kernel takes as its mask, or None where it takes none.

    One number for each place of the vectors: above zero at pixels if ``masked``; then, for each plane, above zero at
    those that it holds, which are not within the shift of the ends of their rows.
    """
    masks = [pixel_mask(grid) if pixels is None else pixels] if masked else []
    column = np.arange(grid.vectors * grid.lanes) % grid.pitch
    for shift in grid.shifts:
        masks.append(
            ((column - shift >= 0) & (column - shift < grid.width) & (pixel_mask(grid) > 0)).astype(np.float32)
        )
    return np.concatenate(masks) if masks else None


class MapWriter:
    """Builds the statements that write the channels of one map.

    Args:
        covered: Places of a channel that the kernel stores, from the first pixel on.
        masked: Whether some of these are no pixels.
    """

    def __init__(self, grid: Grid, target: Layout, covered: int, masked: bool) -> None:
        self.grid, self.target = grid, target
        self.covered, self.masked = covered, masked

    def declare_mask(self) -> None:
        """Declare the mask among the arguments of the function, if it takes one."""
        masks = self.masked + len(self.grid.shifts)
        if masks:
            self.mask = T.arg("mask", T.buffer((masks * self._masks_apart,), "float32"))

    def declare_output(self) -> None:
        """Declare the output."""
        self.out = T.arg("out", T.buffer((self.target.size,), "float32"))

    @property
    def _masks_apart(self) -> int:
        return self.grid.vectors * self.grid.lanes

    @property
    def _planes(self) -> list[tuple[int, int, int]]:
        """Return number, distance and shift of each plane, the map itself first."""
        planes = ((0, 0), *self.target.planes)
        return [(number, distance, shift) for number, (shift, distance) in enumerate(planes)]

    def clear_around(self, first: Any) -> None:
        """Write the zeros before and after a channel, given its first pixel's place."""
        lead, plane = self.grid.lead, self.grid.plane
        for _, distance, shift in self._planes:
            for start, end in ((-lead, -shift), (self.covered - shift, plane - lead)):
                fill_run(self.out, first + distance + start, end - start, self.grid.lanes)

    def store_vector(self, value: Any, first: Any, place: Any) -> None:
        """Store a vector of a channel's places from one on."""
        lanes = self.grid.lanes
        for number, distance, shift in self._planes:
            part = value
            if number or self.masked:
                mask = self.mask[T.Ramp(self._mask(number) + place, 1, lanes)]
                part = T.Select(mask > splat(0.0, lanes), value, splat(0.0, lanes))
            T.buffer_store(self.out, part, [T.Ramp(first + place + distance - shift, 1, lanes)])

    def store_pixel(self, value: Any, first: Any, place: Any) -> None:
        """Store one pixel of a channel."""
        for number, distance, shift in self._planes:
            inside = self.mask[self._mask(number) + place] > splat(0.0, 1) if number else None
            part = value if inside is None else tirx.Select(inside, value, splat(0.0, 1))
            T.buffer_store(self.out, part, [first + place + distance - shift])

    def _mask(self, number: int) -> int:
        """Return where the mask of a plane begins."""
        return (number - (not self.masked)) * self._masks_apart
