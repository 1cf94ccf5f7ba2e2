"""Folders of images become what a model takes; what is no image is named."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smartc.core.errors import UserError
from smartc.data import image_folder as module
from smartc.data.image_folder import ImageFolder
from smartc.data.samples import load_samples
from smartc.frontend.capture import trace
from tests.support.sample_networks import Mean, images, refused, words
from tests.support.torchvision_models import declare_missing_operators

RNG = np.random.default_rng(0)
REPLACE = "Replace it, or take it out of the folder."


def _picture(path: Path, width: int, height: int, mode: str = "RGB", **options: Any) -> Path:
    """Save a random picture."""
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    pixels = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(), mode).save(path, **options)
    return path


def _load(folder: Path, model: Any, preprocess: str = "unit") -> ImageFolder:
    """Return the samples of a folder."""
    samples = load_samples(str(folder), model, preprocess)
    assert isinstance(samples, ImageFolder)
    return samples


@pytest.mark.parametrize(("width", "height"), [(50, 37), (37, 50), (16, 16), (9, 200), (21, 20)])
def test_the_same_pixels_as_torchvision(tmp_path: Path, width: int, height: int) -> None:
    declare_missing_operators()
    transforms = import_module("torchvision.transforms")
    file = _picture(tmp_path / "a.png", width, height)
    model = images(size=21)
    (batch,) = _load(tmp_path, model, "imagenet").in_order(1)
    wanted = transforms.Compose(
        [
            transforms.Resize(24),
            transforms.CenterCrop(21),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )(Image.open(file))
    assert torch.equal(batch.inputs[0][0], wanted)


def test_an_image_of_the_models_size_is_taken_whole(tmp_path: Path) -> None:
    file = _picture(tmp_path / "a.bmp", 6, 6)
    (batch,) = _load(tmp_path, images(size=6)).in_order(1)
    assert torch.equal(batch.inputs[0][0] * 255, torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float())


def test_sizes_that_are_no_square(tmp_path: Path) -> None:
    model = trace(Mean(), torch.zeros(2, 3, 7, 21))
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[:, 40:] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (batch,) = _load(tmp_path, model).in_order(1)
    assert batch.inputs[0].shape == (1, 3, 7, 21)
    left, right = batch.inputs[0][..., :9], batch.inputs[0][..., 12:]
    assert (float(left.max()), float(right.min() * 255)) == (0, pytest.approx(200))
    band = np.zeros((60, 80, 3), np.uint8)
    band[14:46] = 255  # more than the 23 of 60 rows that stay
    Image.fromarray(band).save(tmp_path / "a.png")
    assert float(next(_load(tmp_path, model).in_order(1)).inputs[0].min()) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [False, True])
def test_grey_and_colour(tmp_path: Path, channels: int, last: bool) -> None:
    shape = (2, 5, 5, channels) if last else (2, channels, 5, 5)
    model = trace(torch.nn.ReLU(), torch.zeros(shape))
    grey, colour = _picture(tmp_path / "a.png", 5, 5, "L"), _picture(tmp_path / "b.png", 5, 5, "RGB")
    _picture(tmp_path / "c.png", 5, 5, "RGBA")
    _picture(tmp_path / "d.png", 5, 5, "LA")
    _picture(tmp_path / "e.jpg", 5, 5, "CMYK")
    deep = RNG.integers(0, 2**16, (5, 5), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "f.png")
    (batch,) = _load(tmp_path, model).in_order(6)
    found = (batch.inputs[0] * 255).round().numpy()
    found = found if last else found.transpose(0, 2, 3, 1)
    mode = "L" if channels == 1 else "RGB"
    for place, file in ((0, grey), (1, colour)):
        assert np.array_equal(found[place], np.array(Image.open(file).convert(mode)).reshape(5, 5, channels))
    assert all(np.array_equal(found[5, ..., channel], deep >> 8) for channel in range(channels))


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    pixels = np.zeros((12, 12, 3), np.uint8)
    pixels[:6] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (batch,) = _load(tmp_path, images(size=12)).in_order(1)
    assert (float(batch.inputs[0][..., :6].max()), float(batch.inputs[0][..., 6:].min())) == (0, 1)


def test_folders_below_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.webp", "b/10.PNG", "a.jpeg", "c.jpg", ".hidden/x.png", "b/.hidden.png"):
        _picture(tmp_path / name, 8, 8)
    (tmp_path / "labels.txt").write_text("cat")
    samples = _load(tmp_path, images(size=8))
    assert [str(file.relative_to(tmp_path)) for file in samples.files] == ["a.jpeg", "b/10.PNG", "b/2.webp", "c.jpg"]
    assert (samples.source, samples.count, samples.labelled) == (tmp_path.name, 4, False)


@pytest.mark.parametrize("most", [2**30, 0])
def test_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", most)
    monkeypatch.setattr(module, "_DECODED_FIRST", 3)
    for number in range(7):
        Image.new("RGB", (8, 8), (number * 30,) * 3).save(tmp_path / f"{number}.png")
    samples = _load(tmp_path, images(size=8))
    assert (samples.decoded is None) == (most == 0)

    def numbers(batches: Any) -> list[list[int]]:
        return [(b.inputs[0][:, 0, 0, 0] * 255 / 30).round().int().tolist() for b in batches]

    assert numbers(samples.in_order(3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert numbers(samples.in_order(3, limit=4)) == [[0, 1, 2], [3]]
    whole = numbers(islice(samples.shuffled(3, 5), 6))
    if most:  # what has been decoded is kept
        for file in samples.files:
            file.unlink()
    assert numbers(islice(samples.shuffled(3, 5, start=3), 3)) == whole[3:]
    assert all(len(set(whole[step][:] + whole[step + 1])) == 6 for step in (0, 2, 4))
    assert [sorted(batch) for batch in numbers(islice(samples.shuffled(9, 5), 1))] == [list(range(7))]


def _text(path: Path) -> Path:
    """Write a text with the name of an image."""
    path.write_text("no image")
    return path


def _half(path: Path) -> Path:
    """Write a picture of which half is missing."""
    data = _picture(path, 64, 64).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def _nothing(path: Path) -> Path:
    """Write an empty file."""
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("b.png", _text, f"it is no image that can be read. {REPLACE}"),
        ("b.jpg", _nothing, f"it is no image that can be read. {REPLACE}"),
        ("b.tiff", _text, ".tiff images are not read. Convert it to .png, .jpg, .webp or .bmp, or take it out of "
         "the folder."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decoded", [0, 256])
def test_files_that_are_no_images(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decoded: int,
    name: str,
    make: Callable[[Path], Path],
    message: str,
) -> None:
    monkeypatch.setattr(module, "_DECODED_FIRST", decoded)
    _picture(tmp_path / "a.png", 8, 8)
    file = make(tmp_path / name)
    assert refused(str(tmp_path), images(size=8), "unit") == f"{file}: {message}"


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b.bmp", "b.webp"])
def test_half_an_image(tmp_path: Path, name: str) -> None:
    _picture(tmp_path / "a.png", 8, 8)
    file = _half(tmp_path / name)
    message = refused(tmp_path, images(size=8), "unit")
    assert message.startswith(f"{file}: it ")
    assert message.endswith(f" {REPLACE}")


def test_half_an_image_that_is_met_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DECODED_FIRST", 0)
    file = _half(tmp_path / "a.jpg")
    samples = _load(tmp_path, images(size=8))
    with pytest.raises(UserError) as caught:
        next(samples.in_order(1))
    assert caught.value.where == str(file)
    assert caught.value.fact.startswith("it cannot be decoded (image file is truncated (")


def test_folders_without_images(tmp_path: Path) -> None:
    give = "Give .jpg, .png, .bmp or .webp files."
    assert refused(tmp_path, images(), "unit") == f"{tmp_path}: it holds no images. {give}"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.npz").write_text("")
    (tmp_path / "a.txt").write_text("")
    assert refused(tmp_path, images(), "unit") == f"{tmp_path}: it holds no images; it holds a.txt, b/x.npz. {give}"


def test_how_to_see_them_must_be_said(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", 8, 8)
    assert refused(tmp_path, images()) == (
        f"{tmp_path}: a folder of images does not say how the model was trained to see them. "
        "Give preprocess=... imagenet, half, unit, or mean=0.48,0.45,0.41:std=0.23,0.22,0.22."
    )
    assert refused(tmp_path, images(channels=1), "imagenet") == (
        "preprocess='imagenet': it has 3 means and the model takes x: float32 Nx1x4x4. "
        "Give one number per channel, or one for all."
    )


def test_models_that_take_no_images(tmp_path: Path) -> None:
    fix = "Give images to a model of one input of N x channels x height x width, others a file of arrays."
    for model, takes in (
        (words(), "input_ids: int64 Nx5, attention_mask: int64 Nx5"),
        (images(channels=2, size=5), "x: float32 Nx2x5x5"),
        (trace(torch.nn.ReLU(), torch.zeros(2, 3)), "input: float32 Nx3"),
    ):
        assert refused(tmp_path, model) == f"{tmp_path}: it is a folder, and the model takes {takes}. {fix}"
