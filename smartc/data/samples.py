"""Samples to calibrate on and to learn from, from whatever the user gave as ``data``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from smartc.core.errors import Argument, UserError
from smartc.core.load_by_name import load_function
from smartc.data.arrays import InMemory, InputLayout, input_layout
from smartc.data.batch import Batch, Samples
from smartc.data.check_arrays import checked
from smartc.data.image_folder import image_folder
from smartc.data.match_inputs import is_batch, match_inputs
from smartc.data.preprocess import PREPROCESS_FORMS, parse_preprocess
from smartc.data.sample_files import samples_in_file
from smartc.data.user_batches import Opening, gathered, streamed
from smartc.ir.traced_model import TracedModel

__all__ = ["PREPROCESS_FORMS", "Batch", "Samples", "load_samples"]

_GIVEN = "the data given"


def load_samples(data: Any, model: TracedModel, preprocess: str | None = None) -> Samples:
    """Return samples that fit a model.

    Args:
        data: A tensor, a tuple of arguments or a dict of keyword arguments, each with labels if there is
            one array more than the model has inputs (in a dict: ``labels`` or ``y``); an iterable, a
            DataLoader or a Dataset of these, kept in memory up to 1 GiB, or a function without
            arguments, called anew in every epoch; a file (.npz, .npy, .safetensors, .pt), a folder of
            images, or ``package.module:function``; or samples already loaded.
        model: The model that takes them.  uint8 stands for 0 to 1 where it takes floats.
        preprocess: How images and uint8 arrays are normalised: ``imagenet``, ``half`` (-1 to 1),
            ``unit`` (0 to 1), or ``mean=0.48,0.45,0.41:std=0.23,0.22,0.22``; needed for images.

    Raises:
        UserError: The data cannot be read, or are not what the model takes.
    """
    if isinstance(data, Samples):
        return data
    layout = input_layout(model, None if preprocess is None else parse_preprocess(preprocess))
    if isinstance(data, (str, Path)):
        return _named(data, layout)
    if is_batch(data, model):
        return InMemory(_GIVEN, checked(match_inputs(data, model, "data"), layout, "data"), layout)
    if isinstance(data, (Dataset, Iterable)):
        return gathered(Opening(lambda: data, layout, "data", _GIVEN), once=hasattr(data, "__next__"))
    if callable(data) and not isinstance(data, nn.Module):
        return streamed(Opening(data, layout, "data", getattr(data, "__qualname__", type(data).__name__)))
    fix = "Give tensors, an iterable of batches, a function that yields them, or a file's path"
    raise UserError(f"{type(data).__name__} holds no inputs", where="data", fix=fix)


def _named(data: str | Path, layout: InputLayout) -> Samples:
    """Return the samples that a text names."""
    path = Path(data)
    if path.is_dir():
        return image_folder(path, layout)
    if isinstance(data, str) and ":" in data and not path.exists():
        where = Argument("data", data)
        return streamed(Opening(load_function(data, where), layout, where, data))
    return samples_in_file(path, layout)
