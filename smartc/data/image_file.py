"""One image file: decoded, turned upright, scaled and cut to what a model takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smartc.core.errors import SmartcError, UserError, first_line
from smartc.core.regular_file import open_regular
from smartc.data.preprocess import channel_axis
from smartc.ir.traced_model import TracedModel

if TYPE_CHECKING:
    from PIL import Image

# An image is scaled until it covers this much more than the model's size in both directions, and the
# middle is cut out.  Source: how ImageNet classifiers are evaluated, 256 for 224.
_COVER = 256 / 224
# Of a scaled image, nearly all of which is cut away where one side is much longer than the other.
_MOST_PIXELS = 2**27


@dataclass(frozen=True)
class Frame:
    """What a model takes of an image.

    Attributes:
        channels: 1 for grey, 3 for red, green, blue.
        height: In pixels.
        width: In pixels.
        last: Whether channels are the last axis, not the first.
    """

    channels: int
    height: int
    width: int
    last: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of one decoded image."""
        space = (self.height, self.width)
        return (*space, self.channels) if self.last else (self.channels, *space)

    @property
    def bytes(self) -> int:
        """Return the memory of one decoded image."""
        return math.prod(self.shape)


def frame_of(model: TracedModel, where: str) -> Frame:
    """Return the frame of the images that a model takes; where it leaves a size free, the example's.

    Raises:
        UserError: Its inputs are no images.
    """
    takes = ", ".join(map(str, model.inputs))
    refusal = UserError(
        f"it is a folder, and the model takes {takes}",
        where=where,
        fix="Give images to a model of one input of N x channels x height x width, others a file of arrays",
    )
    if len(model.inputs) != 1 or not model.inputs[0].dtype.is_floating_point:
        raise refusal
    example = next(value for value in model.examples if isinstance(value, torch.Tensor))
    axis = channel_axis(model.inputs[0].shape)
    if example.ndim != 4 or axis is None or example.shape[axis] not in (1, 3):
        raise refusal
    height, width = (size for place, size in enumerate(example.shape) if place not in (0, axis))
    return Frame(example.shape[axis], height, width, axis == 3)


def verify_image(file: Path) -> None:
    """Read the header of an image, and check sums where its form has them.

    Raises:
        UserError: It is no image.
    """
    with _opened(file) as image:
        image.verify()


def decode_image(file: Path, frame: Frame) -> torch.Tensor:
    """Return an image as uint8 in a frame's shape.

    Raises:
        UserError: It is no image, or damaged.
    """
    from PIL import Image, ImageOps

    with _opened(file) as image:
        if image.mode.startswith("I"):  # 16 bits, of which Pillow would clip the upper half
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        upright = ImageOps.exif_transpose(image).convert("L" if frame.channels == 1 else "RGB")
        pixels = np.array(_cut(upright, frame)).reshape(frame.height, frame.width, frame.channels)
    return torch.from_numpy(pixels if frame.last else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _cut(image: Image.Image, frame: Frame) -> Image.Image:
    """Return the middle of an image scaled to cover more than the frame; one of the frame's size as it is."""
    from PIL.Image import Resampling

    if image.size == (frame.width, frame.height):
        return image
    width, height = round(frame.width * _COVER), round(frame.height * _COVER)
    if image.width * height > image.height * width:
        width = max(width, int(height * image.width / image.height))
    else:
        height = max(height, int(width * image.height / image.width))
    if width * height > _MOST_PIXELS:
        raise ValueError(f"its {image.width} x {image.height} pixels are too long and thin to be scaled")
    scaled = image.resize((width, height), Resampling.BILINEAR)
    left, top = round((width - frame.width) / 2), round((height - frame.height) / 2)
    return scaled.crop((left, top, left + frame.width, top + frame.height))


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open an image, and say which file it is that fails."""
    from PIL import Image, UnidentifiedImageError

    fix = "Replace it, or take it out of the folder"
    try:
        with open_regular(file) as stream, Image.open(stream) as image:
            yield image
    except SmartcError:
        raise
    except UnidentifiedImageError as error:
        raise UserError("it is no image that can be read", where=str(file), fix=fix) from error
    except Exception as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise UserError(f"it cannot be decoded ({text})", where=str(file), fix=fix) from error
