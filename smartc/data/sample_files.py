"""Files of samples: arrays by name, one array, or batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smartc.core.brief import readable
from smartc.core.errors import UserError
from smartc.data.arrays import InMemory, InputLayout
from smartc.data.batch import Samples
from smartc.data.check_arrays import checked
from smartc.data.labelled_file import read_content
from smartc.data.match_inputs import is_batch, match_inputs
from smartc.data.user_batches import Opening, gathered

_FIX = "Give an .npz, .npy, .safetensors or .pt file of arrays, a folder of images, or package.module:function"


def samples_in_file(path: Path, layout: InputLayout) -> Samples:
    """Return the samples in a file: a batch, or a list of them.

    Args:
        path: An .npz, .npy or .safetensors file, or one of torch.save.
        layout: What they must fit.

    Raises:
        UserError: It cannot be read, or its arrays are not what the model takes.
    """
    content = _content(path)
    if is_batch(content, layout.model):
        arrays = match_inputs(content, layout.model, str(path))
        return InMemory(readable(path.name), checked(arrays, layout, str(path)), layout)
    return gathered(Opening(lambda: content, layout, str(path), readable(path.name)), once=False)


def _content(path: Path) -> Any:
    """Return the content of a file, if it can be samples."""
    content = read_content(path, _FIX)
    if isinstance(content, (tuple, list, Mapping)) or hasattr(content, "shape"):
        return content
    raise UserError(f"it holds {type(content).__name__}", where=str(path), fix=_FIX)
