"""Files of labelled inputs: two arrays, ``inputs`` and ``labels``."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from smartc.core.errors import UserError
from smartc.core.regular_file import open_regular
from smartc.core.stored_arrays import read_arrays
from smartc.data.array_names import by_position, label_name
from smartc.frontend.stored_sizes import without_bytes

_KEYS = ("inputs", "labels")
# Types that torch computes with, or that become one of these as they are read; others it merely stores.
_NUMBERS = frozenset(
    getattr(torch, name)
    for name in """bool uint8 uint16 uint32 uint64 int8 int16 int32 int64
    float16 bfloat16 float32 float64""".split()
)
_PICKLED = "it holds Python objects, which could run code when loaded"


def read_labelled(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read inputs and labels from .npz, .safetensors or what torch.save wrote; no code is run.

    Raises:
        UserError: The file cannot be read, or does not hold the two arrays.
    """
    fix = "Give an .npz, .safetensors or .pt file with inputs and labels"
    content = read_content(path, fix)
    if isinstance(content, (tuple, list)) and len(content) == 2:
        content = dict(zip(_KEYS, content, strict=True))
    if not isinstance(content, Mapping):
        raise UserError(f"it holds {type(content).__name__}", where=str(path), fix=fix)
    names = _inputs_and_labels(content)
    missing = [key for key, name in zip(_KEYS, names, strict=True) if name is None]
    if missing:
        there = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise UserError(f"it lacks {' and '.join(missing)}; it holds {there}", where=str(path), fix=fix)
    inputs, labels = (_tensor(content[name], key, path) for key, name in zip(_KEYS, names, strict=True))
    return inputs, labels


def _inputs_and_labels(content: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the names of inputs and labels in a file: a single array beside labels is the input, however called."""
    names = list(content)
    if len(names) == len(_KEYS) and by_position(names):
        return names[0], names[1]
    label = label_name(names)
    others = [name for name in names if name != label]
    if _KEYS[0] in others:
        return _KEYS[0], label
    return others[0] if len(others) == 1 and label else None, label


def read_content(path: Path, fix: str) -> Any:
    """Return the arrays of a file, whose kind is told by its content; no code is run.

    Args:
        path: An .npz, .npy or .safetensors file, or one of torch.save.
        fix: What to give instead, for errors.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=str(path), fix="Check the path") from error
    except IsADirectoryError as error:
        raise UserError("it is a folder", where=str(path), fix=fix) from error
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror or error})", where=str(path), fix=fix) from error
    except UserError:
        raise
    except Exception as error:
        fact = _PICKLED if _is_pickled(path, error) else "it is damaged, or no file of arrays"
        raise UserError(fact, where=str(path), fix=fix) from error


def _is_pickled(path: Path, error: Exception) -> bool:
    """Return whether reading failed because a file holds Python objects."""
    if isinstance(error, pickle.UnpicklingError):
        with open_regular(path) as stream:
            return stream.read(2) in (b"PK", *(bytes((0x80, protocol)) for protocol in range(2, 6)))
    return isinstance(error, ValueError) and "allow_pickle" in str(error)


def _read(path: Path) -> Any:
    """Read a file by its content."""
    with open_regular(path) as stream:
        head = stream.read(9)
        stream.seek(0)
        if head.startswith(b"\x93NUMPY") or (head.startswith(b"PK") and _is_npz(stream)):
            return read_arrays(stream)
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            return load_file(path)
        return _backed(torch.load(stream, map_location="cpu", weights_only=True), path)


def _is_npz(stream: IO[bytes]) -> bool:
    """Return whether an archive holds nothing but arrays of NumPy."""
    with zipfile.ZipFile(stream) as archive:
        found = all(name.endswith(".npy") for name in archive.namelist())
    stream.seek(0)
    return found


def _backed(content: Any, path: Path) -> Any:
    """Return the content of a file, whose tensors must all have their bytes in it."""
    if any(map(without_bytes, pytree.tree_leaves(content))):
        fact = "it holds a sparse, nested, meta or expanded tensor, whose elements are not stored"
        raise UserError(fact, where=str(path), fix="Save it as an ordinary tensor, by .contiguous()")
    return content


def to_tensor(value: Any) -> torch.Tensor:
    """Return an array, or a list of numbers, as a tensor in memory of its own or shared.

    Raises:
        TypeError: It holds no numbers; the text names its type.
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    array = np.asarray(value)
    try:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise TypeError(str(array.dtype)) from error


def special_kind(tensor: torch.Tensor) -> str | None:
    """Return what a tensor is that has no plain numbers in memory; None for one that has."""
    kinds = {
        "nested": tensor.is_nested,
        "on the meta device": tensor.is_meta,
        "complex": tensor.is_complex(),
        "quantized": tensor.is_quantized,
        "sparse": tensor.layout != torch.strided,
        f"of the type {str(tensor.dtype).removeprefix('torch.')}": tensor.dtype not in _NUMBERS,
    }
    return next((kind for kind, holds in kinds.items() if holds), None)


def _tensor(value: Any, key: str, path: Path) -> torch.Tensor:
    """Return one of the two arrays as a tensor."""
    try:
        return to_tensor(value)
    except TypeError as error:
        raise UserError(f"{key} are {error}", where=str(path), fix="Store them as numbers") from error
