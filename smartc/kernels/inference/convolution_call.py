"""One call of the block-sparse convolution kernel: what it reads and writes, and how its pixels are cut."""

from __future__ import annotations

from dataclasses import dataclass

from smartc.kernels.inference.chunking import Chunks, chunks_of, singles
from smartc.kernels.inference.layout import Grid, Layout
from smartc.kernels.machine import Machine
from smartc.kernels.vector_math import Activation

# Columns ahead for which pixels and weights are fetched into the first cache: the hardware cannot foresee where
# the next column's pixels lie.  Measured on AVX-512; 8 to 20 are alike.
PIXELS_AHEAD, WEIGHTS_AHEAD = 12, 32
# Bytes of an image's input that stay in the second cache while all output channels are computed; a larger input
# is taken in tiles of pixels of this size.
TILED_ABOVE, TILE = 512 << 10, 512 << 10


@dataclass(frozen=True)
class Convolution:
    """One call of the kernel.

    Attributes:
        name: Of the function, a C identifier.
        source: Where the input lies, shape (batch, channels, ...).
        target: Where the output goes, shape (batch, channels, height, width).
        grid: The output's grid; the input's rows have the same pitch.
        runs: Runs of columns of the packed weight.
        steps: Distance in the input of each column of a run from the first one.
        groups: Groups of output channels.
        aligned: Whether every column begins on whole vectors.
        residual: Where the tensor lies that is added, or None.
        activation: Applied last, or None.
        taps: Distance in the input of each tap of a window that reads beyond the map's edges, where other elements
            lie than zeros; empty where it reads zeros.
        run_taps: Taps that follow each other in a run.
    """

    name: str
    source: Layout
    target: Layout
    grid: Grid
    runs: int
    steps: tuple[int, ...]
    groups: int
    aligned: bool
    residual: Layout | None
    activation: Activation | None
    taps: tuple[int, ...] = ()
    run_taps: int = 1

    def parts(self, machine: Machine) -> list[Chunks]:
        """Return the chunks of an image."""
        return chunks_of(self.grid, machine, self.aligned)

    @property
    def tiles(self) -> int:
        """Return the number of tiles of pixels of an image; each is computed for all output channels in turn."""
        size = self.source.shape[1] * self.source.strides[1] * 4
        return min(-(-size // TILE), max(self.grid.vectors // 3, 1)) if size > TILED_ABOVE else 1

    @property
    def tasks(self) -> int:
        """Return the steps of the parallel loop: images, tiles and groups of output channels."""
        return self.target.shape[0] * self.tiles * self.groups

    @property
    def ahead(self) -> int:
        """Return the runs ahead for which pixels are fetched."""
        return -(-PIXELS_AHEAD // len(self.steps))

    def masked(self, machine: Machine) -> bool:
        """Return whether the chunks hold more than pixels, which must become zeros."""
        return not self.grid.full and not singles(self.grid, machine)
