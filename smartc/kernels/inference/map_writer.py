"""Write a map of pixels from a kernel: with zeros around it and between, and its shifted planes; or pixels alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.fills import fill_run
from smartc.kernels.inference.geometry import pixel_mask
from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.inference.packing import Floats
from smartc.kernels.inference.vector_memory import masked_store
from smartc.kernels.vector_math import splat


def mask_of(grid: Grid, masked: bool, pixels: Floats | None = None) -> Floats | None:
    """Return the mask that a kernel takes, or None where it takes none.

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


def writes_pixels(grid: Grid, target: Layout) -> bool:
    """Return whether a kernel that computes a grid stores its pixels alone, as NumPy would hold them."""
    return target.plain and not replace(grid, slack=0).layout(*target.shape[:2]).plain


class MapWriter:
    """Builds the statements that write the channels of one map.

    Args:
        covered: Places of a channel that the kernel stores, from the first pixel on.
        masked: Whether some of these are no pixels.
    """

    def __init__(self, grid: Grid, target: Layout, covered: int, masked: bool) -> None:
        self.grid, self.target = grid, target
        self.pixels = writes_pixels(grid, target)
        self.covered, self.masked = covered, masked

    def declare_mask(self) -> None:
        """Declare the mask among the arguments of the function, if it takes one."""
        masks = self.masked + len(self.grid.shifts)
        if masks:
            self.mask = T.arg("mask", T.buffer((masks * self._masks_apart,), "float32"))

    def declare_output(self) -> None:
        """Declare the output."""
        self.out = T.arg("out", T.buffer((self.target.size,), "float32"))

    def declare(self, residual: Layout | None) -> Any:
        """Declare the mask, what is added, if there are any, and the output; return the buffer that is added."""
        self.declare_mask()
        added = T.arg("residual", T.buffer((residual.size,), "float32")) if residual else None
        self.declare_output()
        return added

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
        if self.pixels:
            return
        lead, plane = self.grid.lead, self.grid.plane
        for _, distance, shift in self._planes:
            for start, end in ((-lead, -shift), (self.covered - shift, plane - lead)):
                fill_run(self.out, first + distance + start, end - start, self.grid.lanes)

    def store_vector(self, value: Any, first: Any, place: Any) -> None:
        """Store a vector of a channel's places from one on."""
        lanes = self.grid.lanes
        if self.pixels:
            self._store_pixels(value, first, place)
            return
        for number, distance, shift in self._planes:
            part = value
            if number or self.masked:
                mask = self.mask[T.Ramp(self._mask(number) + place, 1, lanes)]
                part = T.Select(mask > splat(0.0, lanes), value, splat(0.0, lanes))
            T.buffer_store(self.out, part, [T.Ramp(first + place + distance - shift, 1, lanes)])

    def store_pixel(self, value: Any, first: Any, place: Any) -> None:
        """Store one pixel of a channel; without gap its place is its number."""
        for number, distance, shift in self._planes:
            inside = self.mask[self._mask(number) + place] > splat(0.0, 1) if number else None
            part = value if inside is None else tirx.Select(inside, value, splat(0.0, 1))
            T.buffer_store(self.out, part, [first + place + distance - shift])

    def number(self, place: Any) -> Any:
        """Return the distance in the output of a channel's place from its first pixel."""
        if not (self.pixels and self.grid.gap):
            return place
        row = tirx.floordiv(place, self.grid.pitch)
        return row * self.grid.width + tirx.min(place - row * self.grid.pitch, self.grid.width)

    def _store_pixels(self, value: Any, first: Any, place: Any) -> None:
        """Store the lanes that are pixels, moved together."""
        grid, lanes = self.grid, self.grid.lanes
        if grid.gap:
            pixels = self.mask[T.Ramp(place, 1, lanes)] > splat(0.0, lanes)
            value = tirx.call_llvm_intrin(f"float32x{lanes}", "llvm.experimental.vector.compress", value, pixels, value)
        start = self.number(place)
        end = tirx.min(self.number(place + lanes), grid.height * grid.width)
        inside = T.Ramp(start, 1, lanes) < T.Broadcast(end, lanes)
        masked_store(self.out, first + start, value, inside)

    def _mask(self, number: int) -> int:
        """Return where the mask of a plane begins."""
        return (number - (not self.masked)) * self._masks_apart
