"""Cut the pixels of a channel into chunks whose sums fit the registers."""

from __future__ import annotations

from dataclasses import dataclass

from smartc.kernels.inference.layout import Grid
from smartc.kernels.machine import Machine


@dataclass(frozen=True)
class Chunks:
    """Chunks of one size, one after another.

    Attributes:
        first: Place of the first one's first pixel.
        count: How many.
        vectors: Vectors of pixels of each.
        step: Places from one to the next.
        single: Place of one more pixel of the first one, whose sums lie with output channels in the lanes; None
            where there is none.
        single_step: Places to the next one's.
    """

    first: int
    count: int
    vectors: int
    step: int
    single: int | None = None
    single_step: int = 0

    @property
    def entries(self) -> int:
        """Return the vectors and single pixels of each."""
        return self.vectors + (self.single is not None)


def chunks(vectors: int, most: int) -> list[tuple[int, int, int]]:
    """Return first vector, number of chunks and vectors of each, all of nearly the same size."""
    chunks = -(-vectors // most)
    size, larger = divmod(vectors, chunks)
    parts = [(0, larger, size + 1), (larger * (size + 1), chunks - larger, size)]
    return [part for part in parts if part[1]]


def singles(grid: Grid, machine: Machine) -> int:
    """Return the number of pixels that follow chunks of whole vectors one by one; 0 where that does not pay."""
    whole, rest = divmod(grid.places, machine.lanes)
    return rest if machine.single and not grid.gap and rest <= -(-whole // machine.vectors) else 0


def chunks_of(grid: Grid, machine: Machine, aligned: bool = True) -> list[Chunks]:
    """Return the chunks of a map.

    Args:
        aligned: Whether what is read begins on whole vectors as the map does: single pixels are then taken from the
            map's end, so that all chunks do.  Otherwise each follows its vectors, in a line that they touch anyway.
    """
    left, lanes, place = singles(grid, machine), machine.lanes, 0
    vectors, last = grid.places // lanes if left else grid.vectors, grid.places - left
    found = []
    for _, count, size in chunks(vectors, machine.vectors):
        more, step = min(left, count), size * lanes
        if more and aligned:
            found.append(Chunks(place, more, size, step, last, 1))
            place += more * step
        elif more:
            found.append(Chunks(place, more, size, step + 1, place + step, step + 1))
            place += more * (step + 1)
        if count > more:
            found.append(Chunks(place, count - more, size, step))
            place += (count - more) * step
        left, last = left - more, last + more
    return found


def products(grid: Grid, machine: Machine) -> int:
    """Return the multiplications of vectors that a column of a weight costs on a map."""
    return sum(
        part.count * (part.vectors * machine.rows + (part.single is not None)) for part in chunks_of(grid, machine)
    )
