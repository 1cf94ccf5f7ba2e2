"""Other views of the same images: a teacher answers to any, so that a few samples go further."""

from __future__ import annotations

import torch
from torch.nn import functional

from smartc.batch import Batch

# A crop has at least this share of an image's sides.
SMALLEST_SIDE = 0.85
# Smaller tensors are no images.
SMALLEST_IMAGE = 16


def random_views(batch: Batch, seed: int) -> Batch:
    """Return the batch with each image cropped, stretched back to its size and perhaps mirrored, at random.

    What is no batch of images, float tensors (N, 1 or 3, H, W) with sides of at least 16, stays as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(_viewed(value, generator) if _is_images(value) else value for value in batch.inputs)
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


def _viewed(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return one random view of each image."""
    count = len(images)
    side = SMALLEST_SIDE + (1 - SMALLEST_SIDE) * torch.rand(count, 2, generator=generator)
    centre = (torch.rand(count, 2, generator=generator) * 2 - 1) * (1 - side)
    mirrored = 1 - 2 * torch.randint(0, 2, (count,), generator=generator)
    table = torch.zeros(count, 2, 3)
    table[:, 0, 0], table[:, 1, 1] = side[:, 0] * mirrored, side[:, 1]
    table[:, :, 2] = centre
    grid = functional.affine_grid(table.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
