"""Reading the two data sets into memory."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from smartc.core.errors import UserError

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10
_CIFAR_RECORD = 1 + 3 * 32 * 32


@dataclass(frozen=True, eq=False)
class Images:
    """Images as uint8, shape (N, C, H, W), and their classes as int64, shape (N,)."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def first(self, count: int | None) -> Images:
        """Return the first images, or all."""
        return Images(self.inputs[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class DataSet:
    """The images to train on and those to test on, with the mean and deviation of the former per channel, 0 to 1."""

    train: Images
    test: Images
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Return the channels of an image."""
        return int(self.train.inputs.shape[1])

    def first(self, count: int | None) -> DataSet:
        """Return the data with no more than so many images in each part, normalised as all are."""
        return DataSet(self.train.first(count), self.test.first(count), self.mean, self.deviation)


def read_data(name: str, path: Path | None) -> DataSet:
    """Return a data set.

    Args:
        name: ``fashion-mnist``, the four gzipped IDX files in a folder; or ``cifar10``, the binary version's
            six ``.bin`` files in a folder, or an ``.npz`` of JPEG images: ``bytes_train`` with all files one after
            the other, ``end_train`` with where each ends, the classes ``y_train``, and the same with ``_test``.
        path: Where it is; Fashion-MNIST has a default.

    Raises:
        UserError: It is not there, or not readable.
    """
    if path is None and name != "fashion-mnist":
        raise UserError("has no default place", where=f"--data {name}", fix="Give --path")
    path = path or FASHION_FOLDER
    try:
        train, test = _READERS[name](path)
    except (OSError, EOFError, ValueError, KeyError) as error:
        fix = "Give --path of " + " or ".join(_FORMS[name])
        raise UserError(f"{name} cannot be read: {error}", where=str(path), fix=fix) from error
    pixels = train.inputs.transpose(0, 1).flatten(1)
    # In whole numbers, since a copy in floats would take a gigabyte.
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in pixels]).double()
    values, shares = torch.arange(256) / 255.0, counts / counts.sum(1, keepdim=True)
    mean = shares @ values.double()
    deviation = (shares @ (values.double() ** 2) - mean**2).sqrt()
    return DataSet(train, test, tuple(mean.tolist()), tuple(deviation.tolist()))


def _fashion(folder: Path) -> tuple[Images, Images]:
    """Read gzipped IDX files, whose headers take 16 and 8 bytes."""
    train, test = (
        Images(
            _unzipped(folder / f"{part}-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28),
            _unzipped(folder / f"{part}-labels-idx1-ubyte.gz", 8).long(),
        )
        for part in ("train", "t10k")
    )
    return train, test


def _unzipped(path: Path, header: int) -> torch.Tensor:
    """Return the bytes of a gzipped file after its header."""
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy())


def _cifar(path: Path) -> tuple[Images, Images]:
    """Read CIFAR-10 in either form."""
    if path.is_dir():
        train = [path / f"data_batch_{number}.bin" for number in range(1, 6)]
        return _binary(train), _binary([path / "test_batch.bin"])
    with np.load(path, allow_pickle=False) as arrays:
        return _jpeg(arrays, "train"), _jpeg(arrays, "test")


def _binary(paths: list[Path]) -> Images:
    """Return the images of files of records: a class, then the image."""
    records = np.concatenate([np.fromfile(path, np.uint8) for path in paths]).reshape(-1, _CIFAR_RECORD)
    inputs = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return Images(inputs, torch.from_numpy(records[:, 0].astype(np.int64)))


def _jpeg(arrays: Any, part: str) -> Images:
    """Return the images of one part of an ``.npz`` of JPEG files."""
    ends = arrays[f"end_{part}"].astype(np.int64)
    content = arrays[f"bytes_{part}"].tobytes()
    starts = np.concatenate(([0], ends[:-1]))
    pictures = [
        np.asarray(Image.open(io.BytesIO(content[start:end])).convert("RGB"))
        for start, end in zip(starts, ends, strict=True)
    ]
    inputs = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Images(inputs, torch.from_numpy(arrays[f"y_{part}"].astype(np.int64)))


_READERS: dict[str, Callable[[Path], tuple[Images, Images]]] = {"fashion-mnist": _fashion, "cifar10": _cifar}
_FORMS = {
    "fashion-mnist": ("a folder with the four gzipped IDX files",),
    "cifar10": ("a folder with the six .bin files", "an .npz of JPEG images"),
}
