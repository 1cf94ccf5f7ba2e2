"""Other views of the same images: a teacher answers to any, so that a few samples go further."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from smartc.data.batch import Batch

# A crop has at least this share of an image's sides; one that a layer is refitted to may be of less, since
# there the variety of what is seen counts for more than that it looks like the samples.
SMALLEST_SIDE, SMALLEST_SIDE_TO_FIT = 0.85, 0.4
# Further views of each image, and the most numbers that they come to in all: 200 of 3x224x224.
FURTHER, MOST_NUMBERS = 3, 30_000_000
# Smaller tensors are no images.
SMALLEST_IMAGE = 16


def augmented(batches: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return other views of flattened inputs to fit layers to; none where there are no images."""
    numbers = sum(value.numel() for flat in batches for value in flat if _is_images(value))
    rounds = min(FURTHER, MOST_NUMBERS // numbers) if numbers else 0
    seeds = itertools.count()
    return [
        random_views(Batch(flat), next(seeds), SMALLEST_SIDE_TO_FIT).inputs for _ in range(rounds) for flat in batches
    ]


def random_views(batch: Batch, seed: int, smallest_side: float = SMALLEST_SIDE) -> Batch:
    """Return the batch with each image cropped, stretched back to its size and perhaps mirrored, at random.

    What is no batch of images, float tensors (N, 1 or 3, H, W) with sides of at least 16, stays as it is.

    Args:
        batch: The samples.
        seed: What the views come from.
        smallest_side: The least share of an image's sides that a crop has, 0 to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(_viewed(value, generator, smallest_side) if _is_images(value) else value for value in batch.inputs)
    return Batch(inputs, batch.labels, batch.repeated)


def _is_images(value: object) -> bool:
    """Return whether a value is a batch of images."""
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.ndim == 4
        and value.shape[1] in (1, 3)
        and min(value.shape[2:]) >= SMALLEST_IMAGE
    )


def _viewed(images: torch.Tensor, generator: torch.Generator, smallest_side: float) -> torch.Tensor:
    """Return one random view of each image."""
    count = len(images)
    side = smallest_side + (1 - smallest_side) * torch.rand(count, 2, generator=generator)
    centre = (torch.rand(count, 2, generator=generator) * 2 - 1) * (1 - side)
    mirrored = 1 - 2 * torch.randint(0, 2, (count,), generator=generator)
    table = torch.zeros(count, 2, 3)
    table[:, 0, 0], table[:, 1, 1] = side[:, 0] * mirrored, side[:, 1]
    table[:, :, 2] = centre
    grid = functional.affine_grid(table.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
