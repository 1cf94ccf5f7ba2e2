"""Draw rows of a layer's inputs and outputs from many inputs, some of which are held out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smartc.learning.reconstruction.layer_rows import LayerRows

# One in this many inputs is held out to judge each layer by; of fewer inputs, one in this many positions.
HELD_OUT = 4
CHUNK_ELEMENTS = 1 << 22
SEED = 0


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of inputs (groups, rows, K) and of outputs (groups, rows, out // groups)."""

    inputs: Tensor
    outputs: Tensor
    held_out: bool


@dataclass(frozen=True, eq=False)
class _Image:
    """The input and output of one entry of a batch, channels first, and which of all inputs it belongs to."""

    source: Tensor
    target: Tensor
    owner: int


def sampled_rows(
    view: LayerRows, inputs: Sequence[Tensor], outputs: Sequence[Tensor], counts: Sequence[int], limit: int
) -> Iterator[Rows]:
    """Yield rows in chunks, drawn evenly from all inputs and the same at every call.

    Args:
        view: The layer.
        inputs: Its input for each batch.
        outputs: Its output for each batch.
        counts: How many inputs each batch holds.
        limit: The number of rows to draw, about; at least one of each entry of a batch.
    """
    generator = torch.Generator().manual_seed(SEED)
    entries = sum(len(view.channels_first(output)) for output in outputs)
    parts: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}
    for image in _images(view, inputs, outputs, counts):
        space = image.target.shape[1:]
        positions = drawn_positions(math.prod(space), math.ceil(limit / max(entries, 1)), generator)
        for held_out, chosen in _parted(positions, image.owner, sum(counts)):
            if len(chosen):
                places = chosen.to(image.source.device)
                rows = view.rows(image.source, places, space), view.targets(image.target, places)
                parts[held_out].append(rows)
            if sum(rows[0].numel() for rows in parts[held_out]) >= CHUNK_ELEMENTS:
                yield _joined(parts.pop(held_out), held_out)
                parts[held_out] = []
    for held_out, rest in parts.items():
        if rest:
            yield _joined(rest, held_out)


def _images(
    view: LayerRows, inputs: Sequence[Tensor], outputs: Sequence[Tensor], counts: Sequence[int]
) -> Iterator[_Image]:
    """Yield every entry of every batch."""
    first = 0
    for source, target, count in zip(inputs, outputs, counts, strict=True):
        sources, targets = view.channels_first(source), view.channels_first(target)
        # Windows or time steps of one input follow one another where they have become part of the batch.
        spread = len(sources) // count if len(sources) % count == 0 else 0
        for entry, pair in enumerate(zip(sources, targets, strict=True)):
            yield _Image(*pair, first + (entry // spread if spread else entry % count))
        first += count


def drawn_positions(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Return ascending positions below ``size``, one from each of ``count`` equal parts; all if there are no more."""
    if count >= size:
        return torch.arange(size)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64)
    return ((torch.arange(count) + drawn) * (size / count)).long().clamp(max=size - 1)


def _parted(positions: Tensor, owner: int, owners: int) -> Iterator[tuple[bool, Tensor]]:
    """Yield the positions of an input that are fitted to, and those that are held out."""
    if owners >= HELD_OUT:
        yield owner % HELD_OUT == HELD_OUT - 1, positions
        return
    held_out = torch.arange(len(positions)) % HELD_OUT == HELD_OUT - 1
    yield False, positions[~held_out]
    yield True, positions[held_out]


def _joined(parts: list[tuple[Tensor, Tensor]], held_out: bool) -> Rows:
    """Return many entries' rows as one chunk, in single precision at least."""
    inputs, outputs = (torch.cat(side, dim=1) for side in zip(*parts, strict=True))
    wide = torch.promote_types(inputs.dtype, torch.float32)
    return Rows(inputs.to(wide), outputs.to(wide), held_out)
