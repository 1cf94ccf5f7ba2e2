"""A folder of images as samples: found, checked, decoded when asked for, and kept where they fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from smartc.core.brief import readable
from smartc.core.errors import Argument, UserError
from smartc.data.arrays import Arrays, InputLayout
from smartc.data.batch import Batch, shuffled_places
from smartc.data.image_file import Frame, decode_image, frame_of, verify_image
from smartc.data.preprocess import PREPROCESS_FORMS

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
_OTHER_IMAGES = frozenset((".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".tga"))
# Bytes of decoded images that are kept in memory.
_MOST_BYTES = 2**30
# Images that are decoded before any work is done; of the others the headers are read.
_DECODED_FIRST = 256


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images that have been decoded: shape (count, *frame), uint8, with whether each is there."""

    pixels: torch.Tensor
    there: torch.Tensor


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images of a folder, in the order of their names.

    Attributes:
        source: What to call them in a report.
        files: The images.
        frame: What a model takes of each.
        layout: How they become inputs.
        decoded: What is kept, None where it would take too much memory.
    """

    source: str
    files: tuple[Path, ...]
    frame: Frame
    layout: InputLayout
    decoded: Decoded | None
    labelled: bool = False

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def at(self, places: torch.Tensor) -> Arrays:
        """Return the images at some places."""
        return Arrays((self.images(places.tolist()),))

    def shuffled(self, size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield full batches without end, from a new permutation for every epoch."""
        size = self.layout.size(size, self.count)
        for places in shuffled_places(self.count, size, seed, start):
            yield self.layout.batch(self.at(places), max(0, size - self.count))

    def in_order(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yield the images once, at most ``limit`` of them."""
        size, total = self.layout.size(size), min(self.count, self.count if limit is None else limit)
        for start in range(0, total, size):
            places = range(start, min(start + size, total))
            yield self.layout.filled(Arrays((self.images(list(places)),)))

    def images(self, places: list[int]) -> torch.Tensor:
        """Return images as uint8, shape (N, *frame).

        Raises:
            UserError: One cannot be decoded.
        """
        if self.decoded is None:
            return torch.stack([decode_image(self.files[place], self.frame) for place in places])
        for place in places:
            if not self.decoded.there[place]:
                self.decoded.pixels[place] = decode_image(self.files[place], self.frame)
                self.decoded.there[place] = True
        return self.decoded.pixels[torch.tensor(places)]


def image_folder(folder: Path, layout: InputLayout) -> ImageFolder:
    """Return the images in a folder and in those below it, checked.

    Raises:
        UserError: The model does not take images, it is not said how they are normalised, there are
            none, or a file is not one.
    """
    frame = frame_of(layout.model, str(folder))
    if layout.preprocess is None:
        fact = "a folder of images does not say how the model was trained to see them"
        raise UserError(fact, where=str(folder), fix=("Give ", Argument("preprocess"), f" {PREPROCESS_FORMS}"))
    layout.preprocess.check_channels(layout.model.inputs[0])
    files = _images_in(folder)
    decoded = None
    if len(files) * frame.bytes <= _MOST_BYTES:
        pixels = torch.empty((len(files), *frame.shape), dtype=torch.uint8)
        decoded = Decoded(pixels, torch.zeros(len(files), dtype=torch.bool))
    samples = ImageFolder(readable(folder.name or str(folder)), files, frame, layout, decoded)
    for place, file in enumerate(files):
        if place < _DECODED_FIRST:
            samples.images([place])
        else:
            verify_image(file)
    return samples


def _images_in(folder: Path) -> tuple[Path, ...]:
    """Return the images in a folder by name; hidden files and what is no image are left out."""
    found: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            file = Path(place, name)
            suffix = file.suffix.lower()
            if name.startswith("."):
                continue
            if suffix in _OTHER_IMAGES:
                fix = "Convert it to .png, .jpg, .webp or .bmp, or take it out of the folder"
                raise UserError(f"{suffix} images are not read", where=str(file), fix=fix)
            (found if suffix in _SUFFIXES else others).append(file)
    if not found:
        there = (
            f"; it holds {', '.join(sorted(str(file.relative_to(folder)) for file in others)[:5])}" if others else ""
        )
        raise UserError(f"it holds no images{there}", where=str(folder), fix="Give .jpg, .png, .bmp or .webp files")
    return tuple(sorted(found, key=lambda file: file.relative_to(folder).parts))


def _refuse(error: OSError) -> None:
    """Raise an error that names the folder that cannot be listed."""
    fact = f"it cannot be read ({error.strerror or error})"
    raise UserError(fact, where=str(error.filename), fix="Change its permissions") from error
