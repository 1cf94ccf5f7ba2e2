"""Files of labelled inputs: two arrays, ``inputs`` and ``labels``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smartc.errors import UserError

_KEYS = ("inputs", "labels")


def read_labelled(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read inputs and labels from .npz, .safetensors or what torch.save wrote; no code is run.

    Raises:
        UserError: The file cannot be read, or does not hold the two arrays.
    """
    fix = "Give an .npz, .safetensors or .pt file with inputs and labels"
    try:
        content = _read(path)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=str(path), fix="Check the path") from error
    except IsADirectoryError as error:
        raise UserError("it is a folder", where=str(path), fix=fix) from error
    except OSError as error:
        raise UserError(f"it cannot be read ({error.strerror or error})", where=str(path), fix=fix) from error
    except Exception as error:
        raise UserError("it is damaged, or no file of arrays", where=str(path), fix=fix) from error
    if isinstance(content, (tuple, list)) and len(content) == 2:
        content = dict(zip(_KEYS, content, strict=True))
    if not isinstance(content, Mapping):
        raise UserError(f"it holds {type(content).__name__}", where=str(path), fix=fix)
    missing = [key for key in _KEYS if key not in content]
    if missing:
        there = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise UserError(f"it lacks {' and '.join(missing)}; it holds {there}", where=str(path), fix=fix)
    inputs, labels = (_tensor(content[key], key, path) for key in _KEYS)
    return inputs, labels


def _read(path: Path) -> Any:
    """Read a file by its content."""
    with path.open("rb") as stream:
        head = stream.read(9)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            is_numpy = all(name.endswith(".npy") for name in archive.namelist())
        if is_numpy:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
    if head[8:9] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensor(value: Any, key: str, path: Path) -> torch.Tensor:
    """Return one of the two arrays as a tensor."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    try:
        return torch.from_numpy(np.ascontiguousarray(value))
    except (TypeError, ValueError) as error:
        kind = getattr(value, "dtype", type(value).__name__)
        raise UserError(f"{key} are {kind}", where=str(path), fix="Store them as numbers") from error
