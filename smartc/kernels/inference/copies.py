"""Move tensors between layouts: any strides to any, and maps of pixels to the phases of the stride that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from smartc.kernels.inference.fills import fill_run
from smartc.kernels.inference.layout import Layout


@dataclass(frozen=True)
class Phases:
    """A map of pixels split by stride: pixel (y, x) of a phase is pixel (y * stride + py, x * stride + px).

    A channel holds one run of ``length`` elements for each phase.  Where px is not below the stride, the phase is
    one of several that differ by whole pixels, so that no window reads beyond a row.

    Attributes:
        stride: Vertical and horizontal.
        phases: First pixel (py, px) of each phase that something reads; px may lie outside the map.
        size: Rows and pixels of a row that are kept of a phase; fewer where the map ends before.
        lead: Place of the first pixel in a phase.
        pitch: Distance of two rows.
        length: Elements of a phase, a multiple of the lanes; all rows with their gaps fit in it.
        fill: What all other elements are.
        slack: Elements of the buffer before those of the first channel, and after those of the last; not written.
    """

    stride: tuple[int, int]
    phases: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    lead: int
    pitch: int
    length: int
    fill: float = 0.0
    slack: int = 0

    def layout(self, batch: int, channels: int) -> Layout:
        """Return the layout of the first phase."""
        step = len(self.phases) * self.length
        strides = (channels * step, step, self.pitch, 1)
        size = batch * channels * step + 2 * self.slack
        return Layout((batch, channels, *self.size), strides, self.slack + self.lead, size, slack=self.slack)


def phases_kernel(name: str, source: Layout, phases: Phases, lanes: int) -> Any:
    """Return the function ``(x, out)`` that splits a tensor (batch, channels, height, width)."""
    batch, channels = source.shape[:2]
    target = phases.layout(batch, channels)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((source.size,), "float32"))
        out = T.arg("out", T.buffer((target.size,), "float32"))
        with T.parallel(0, batch * channels) as index, T.sblock("channel"):
            place = T.axis.spatial(batch * channels, index)
            image, channel = tirx.floordiv(place, channels), tirx.floormod(place, channels)
            start = image * target.strides[0] + channel * target.strides[1] + phases.slack
            origin = image * source.strides[0] + channel * source.strides[1] + source.offset
            for numbers in _alike(source, phases):
                with T.serial(0, len(numbers)) as step:
                    there = start + (numbers[0] + step) * phases.length
                    _copy_phase((source, x, origin), (phases, out, there), numbers, step, lanes)
    return builder.get()


def _copy_phase(
    source: tuple[Layout, Any, Any], target: tuple[Phases, Any, Any], numbers: list[int], step: Any, lanes: int
) -> None:
    """Copy one of a run of phases and fill what is no pixel."""
    (layout, x, origin), (phases, out, start) = source, target
    rows, skipped, pixels = _extent(layout, phases, phases.phases[numbers[0]])
    rows = rows if pixels else 0
    (down, right), stride = _start(phases, numbers, step), phases.stride
    last = phases.phases[numbers[-1]][1] + skipped * stride[1]
    spread = stride[1] * layout.strides[3]
    fill_run(out, start, phases.lead, lanes, phases.fill)
    if rows:
        with T.serial(0, rows) as y:
            here = start + phases.lead + y * phases.pitch
            read = origin + (y * stride[0] + down) * layout.strides[2]
            read = read + (right + skipped * stride[1]) * layout.strides[3]
            fill_run(out, here, skipped, lanes, phases.fill)
            _copy_row(
                (x, read, spread), (out, here + skipped), _pieces(pixels, (layout.shape[3] - last, spread), lanes)
            )
            after = skipped + pixels
            fill_run(out, here + after, phases.pitch - after, lanes, phases.fill)
    end = phases.lead + rows * phases.pitch
    fill_run(out, start + end, phases.length - end, lanes, phases.fill)


def _pieces(pixels: int, extent: tuple[int, int], lanes: int) -> list[tuple[int, int, int]]:
    """Return first pixel, number of vectors and their lanes of the pieces in which a row is copied.

    Pixels two apart are picked from vectors of twice the lanes, which must end inside the row.
    """
    width, step = extent
    if step > 2:
        return [(0, pixels, 1)]
    vectors = pixels if step == 1 or step * pixels <= width else pixels - 1
    pieces, first = [(0, vectors // lanes, lanes)], vectors // lanes * lanes
    while lanes > 1:
        lanes //= 2
        if (vectors - first) & lanes:
            pieces.append((first, 1, lanes))
            first += lanes
    return [*pieces, (first, pixels - first, 1)]


def _copy_row(source: tuple[Any, Any, int], target: tuple[Any, Any], pieces: list[tuple[int, int, int]]) -> None:
    """Copy a row of pixels that lie some elements apart."""
    (x, read, step), (out, write) = source, target
    for first, count, lanes in pieces:
        if not count:
            continue
        with T.serial(0, count) as number:
            pixel = first + number * lanes
            if lanes == 1:
                value, there = x[read + pixel * step], write + pixel
            else:
                value, there = x[T.Ramp(read + pixel * step, 1, step * lanes)], T.Ramp(write + pixel, 1, lanes)
                value = tirx.Shuffle([value], list(range(0, step * lanes, step))) if step == 2 else value
            T.buffer_store(out, value, [there])


def _extent(source: Layout, phases: Phases, start: tuple[int, int]) -> tuple[int, int, int]:
    """Return the rows that a phase has, and of each row the pixels that lie before the map and in it."""
    rows, pixels = (len(range(start[axis], source.shape[2 + axis], phases.stride[axis])) for axis in (0, 1))
    skipped = max(-(start[1] // phases.stride[1]), 0)
    return min(phases.size[0], rows), skipped, max(min(phases.size[1], pixels) - skipped, 0)


def _alike(source: Layout, phases: Phases) -> list[list[int]]:
    """Return runs of phases in one row that begin at consecutive pixels and have as many; a loop does each."""
    runs: list[list[int]] = []
    for number, start in enumerate(phases.phases):
        before = phases.phases[number - 1] if number else None
        neighbour = before == (start[0], start[1] - 1)
        if runs and neighbour and _extent(source, phases, start) == _extent(source, phases, phases.phases[runs[-1][0]]):
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _start(phases: Phases, numbers: list[int], step: Any) -> tuple[int, Any]:
    """Return the first row and pixel of a phase in a run."""
    down, right = phases.phases[numbers[0]]
    return down, right + step


# Elements of a tile that is transposed through the first cache.
_TILE = 16


def copy_kernel(name: str, source: Layout, target: Layout) -> Any:
    """Return the function ``(x, out)`` that copies a tensor to another layout of the same shape.

    What lies between the target's elements is not written.  A source's stride may be 0: the element is repeated.
    """
    axes = sorted((axis for axis, size in enumerate(target.shape) if size > 1), key=lambda axis: -target.strides[axis])
    fast = next((axis for axis in axes if source.strides[axis] == 1), None)
    fast = fast if fast is not None and fast != axes[-1] else None
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((source.size,), "float32"))
        out = T.arg("out", T.buffer((target.size,), "float32"))
        extents = [target.shape[axis] for axis in axes]
        if fast is not None:
            place = axes.index(fast)
            extents[place] = -(-extents[place] // _TILE)
            extents.append(_TILE)
        with T.grid(*(extents or [1])) as found:
            loops = list(found) if len(extents) > 1 else [found]
            _copy_one(x, out, (source, target), (axes, fast), loops)
    return builder.get()


def _copy_one(
    x: Any, out: Any, layouts: tuple[Layout, Layout], order: tuple[list[int], int | None], loops: Any
) -> None:
    """Copy the element that the loops point to."""
    source, target = layouts
    axes, fast = order
    with T.sblock("copy"):
        places = dict(zip(axes, loops, strict=False))
        if fast is not None:
            places[fast] = places[fast] * _TILE + loops[-1]
        read = sum((places[axis] * source.strides[axis] for axis in axes), tirx.IntImm("int32", source.offset))
        write = sum((places[axis] * target.strides[axis] for axis in axes), tirx.IntImm("int32", target.offset))
        if fast is None or target.shape[fast] % _TILE == 0:
            T.buffer_store(out, x[read], [write])
        else:
            with T.If(places[fast] < target.shape[fast]), T.Then():
                T.buffer_store(out, x[read], [write])
