"""Random views: images are cropped, stretched and mirrored, all else stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smartc.data.batch import Batch
from smartc.learning.objectives.augment import SMALLEST_SIDE, random_views

# float32 coordinates of a ramp from -1 to 1.
TOLERANCE = 1e-5


def ramps(count: int, width: int, axis: int) -> Tensor:
    """Return images whose value is the coordinate along the width (3) or the height (2), from -1 to 1."""
    places = (2 * torch.arange(width) + 1) / width - 1
    return places.reshape(1, 1, *((1, -1) if axis == 3 else (-1, 1))).expand(count, 3, width, width).clone()


@pytest.mark.parametrize("axis", [2, 3])
def test_a_view_is_a_part_of_its_image(axis: int) -> None:
    images = ramps(200, 32, axis)
    (views,) = random_views(Batch((images,)), seed=1).inputs
    assert views.shape == images.shape
    # Away from the edge, where an image is mirrored, a stretched ramp is a ramp.
    inner = views.movedim(axis, -1)[..., 8:24]
    slopes = inner.diff(dim=-1) * 32 / 2
    first = slopes[:, 0, 0, 0]
    assert torch.allclose(slopes, first.reshape(-1, 1, 1, 1).expand_as(slopes), atol=1e-3)
    assert first.abs().min() >= SMALLEST_SIDE - 1e-3
    assert first.abs().max() <= 1 + 1e-3
    assert views.abs().max() <= 1 + TOLERANCE
    mirrored = float((first < 0).float().mean())
    assert mirrored == 0 if axis == 2 else 0.35 < mirrored < 0.65
    centre = inner.mean(-1)[:, 0, 0]
    assert (centre.abs() <= 1 - first.abs() + 1e-3).all()
    assert centre.std() > (1 - SMALLEST_SIDE) / 5


def test_an_image_of_one_colour_stays_so() -> None:
    colours = torch.rand(20, 3, 1, 1).expand(20, 3, 16, 20)
    (views,) = random_views(Batch((colours,)), seed=2).inputs
    assert torch.allclose(views, colours, atol=TOLERANCE)


def test_a_seed_decides_the_views() -> None:
    batch = Batch((torch.rand(4, 1, 16, 16),))
    (one,), (again,), (other,) = (random_views(batch, seed).inputs for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_all_else_stays_as_it_is() -> None:
    labels = torch.arange(2)
    inputs = (
        torch.rand(2, 4, 32, 32),
        torch.rand(2, 3, 15, 32),
        torch.randint(0, 9, (2, 3, 32, 32)),
        torch.rand(2, 3, 32),
        2.5,
    )
    viewed = random_views(Batch(inputs, labels, repeated=1), seed=0)
    assert all(left is right for left, right in zip(viewed.inputs, inputs, strict=True))
    assert viewed.labels is labels
    assert viewed.repeated == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_type(dtype: torch.dtype) -> None:
    (view,) = random_views(Batch((torch.rand(2, 3, 16, 16, dtype=dtype),)), seed=0).inputs
    assert view.dtype == dtype
