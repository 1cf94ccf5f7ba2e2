"""Pixels are normalised as asked, and what makes no sense is refused."""

from __future__ import annotations

import pytest
import torch

from smartc.core.errors import UserError
from smartc.data.preprocess import channel_axis, parse_preprocess
from smartc.ir.traced_model import InputSpec

CHOICES = "Choose one of imagenet, half, unit, or mean=0.48,0.45,0.41:std=0.23,0.22,0.22."
RGB = InputSpec("x", (None, 3, 4, 4), torch.float64)
LAST = InputSpec("x", (None, 4, 4, 3), torch.float64)


@pytest.mark.parametrize("spec", [RGB, LAST])
@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("half", (0.5,) * 3, (0.5,) * 3),
        ("unit", (0.0,) * 3, (1.0,) * 3),
        ("mean=0.1,0.2,.3:std=1,2,3e-1", (0.1, 0.2, 0.3), (1.0, 2.0, 0.3)),
        ("mean=0.1;std=2", (0.1,) * 3, (2.0,) * 3),
    ],
)
def test_every_channel_has_its_own_numbers(
    spec: InputSpec, text: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    axis = channel_axis(spec.shape)
    pixels = torch.rand(5, *(size or 0 for size in spec.shape[1:]), dtype=torch.float64)
    preprocess = parse_preprocess(text)
    preprocess.check_channels(spec)
    found = preprocess.apply_(pixels.clone(), spec)
    for channel in range(3):
        wanted = (pixels.select(axis or 0, channel) - mean[channel]) / std[channel]
        assert torch.equal(found.select(axis or 0, channel), wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", f"not known. {CHOICES}"),
        ("mean=0.5", f"not known. {CHOICES}"),
        ("mean=a:std=1", f"it holds what is not a number. {CHOICES}"),
        ("mean=1,2,3:std=1", "it has 3 means and 1 deviations. Give as many of each."),
        ("mean=0.5:std=0", f"its numbers must be finite and std above 0. {CHOICES}"),
        ("mean=nan:std=1", f"its numbers must be finite and std above 0. {CHOICES}"),
    ],
)
def test_what_makes_no_sense(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_preprocess(text)
    assert str(caught.value) == f"preprocess={text!r}: {message}"


def test_other_channels() -> None:
    for shape, text in (((None, 1, 4, 4), "Nx1x4x4"), ((None,), "N")):
        with pytest.raises(UserError) as caught:
            parse_preprocess("imagenet").check_channels(InputSpec("x", shape, torch.float32))
        assert str(caught.value) == (
            f"preprocess='imagenet': it has 3 means and the model takes x: float32 {text}. "
            "Give one number per channel, or one for all."
        )


def test_the_axis_of_channels() -> None:
    shapes = {(None, 3, 4, 3): 1, (None, 4, 4, 1): 3, (None, 7, 9): 1, (None, 8, 5, 5): 1, (None,): None}
    assert {shape: channel_axis(shape) for shape in shapes} == shapes
