"""What a model was trained to see: the mean and deviation that pixels are normalised by."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import InputSpec

PREPROCESS_FORMS = "imagenet, half, unit, or mean=0.48,0.45,0.41:std=0.23,0.22,0.22"
_PRESETS = {
    # Source: what torchvision's and timm's classifiers were trained with.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    "unit": ((0.0,), (1.0,)),
}
_FORM = re.compile(r"mean=(?P<mean>[^:;=]+)[:;]std=(?P<std>[^:;=]+)")


@dataclass(frozen=True)
class Preprocess:
    """Normalise pixels of 0 to 1 by ``(x - mean) / std``, one number per channel or one for all."""

    text: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def where(self) -> Argument:
        """Return the place for errors."""
        return Argument("preprocess", self.text)

    def check_channels(self, spec: InputSpec) -> None:
        """Raise unless the input has a channel for each number."""
        if len(self.mean) == 1:
            return
        axis = channel_axis(spec.shape)
        channels = spec.shape[axis] if axis is not None else None
        if channels != len(self.mean):
            fact = f"it has {len(self.mean)} means and the model takes {spec}"
            raise UserError(fact, where=self.where, fix="Give one number per channel, or one for all")

    def apply_(self, pixels: torch.Tensor, spec: InputSpec) -> torch.Tensor:
        """Normalise in place.

        Args:
            pixels: Floats, 0 to 1, of the input's shape.
            spec: The input they are for.
        """
        if len(self.mean) == 1:
            return pixels.sub_(self.mean[0]).div_(self.std[0])
        sizes = [1] * pixels.ndim
        sizes[channel_axis(spec.shape) or 0] = len(self.mean)
        mean, std = (pixels.new_tensor(numbers).reshape(sizes) for numbers in (self.mean, self.std))
        return pixels.sub_(mean).div_(std)


def parse_preprocess(text: str) -> Preprocess:
    """Read ``imagenet``, ``half``, ``unit`` or ``mean=0.48,0.45,0.41:std=0.23,0.22,0.22``.

    Raises:
        UserError: It has another form, or its numbers make no sense.
    """
    if text in _PRESETS:
        return Preprocess(text, *_PRESETS[text])
    where, fix = Argument("preprocess", text), f"Choose one of {PREPROCESS_FORMS}"
    match = _FORM.fullmatch(text)
    if match is None:
        raise UserError("not known", where=where, fix=fix)
    try:
        mean, std = (tuple(float(number) for number in match[key].split(",")) for key in ("mean", "std"))
    except ValueError as error:
        raise UserError("it holds what is not a number", where=where, fix=fix) from error
    if len(mean) != len(std):
        fact = f"it has {len(mean)} means and {len(std)} deviations"
        raise UserError(fact, where=where, fix="Give as many of each")
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise UserError("its numbers must be finite and std above 0", where=where, fix=fix)
    return Preprocess(text, mean, std)


def channel_axis(shape: Sequence[int | None]) -> int | None:
    """Return the axis of an input's channels: 1, or the last where only that has 1 or 3."""
    if len(shape) < 2:
        return None
    return len(shape) - 1 if len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3) else 1
