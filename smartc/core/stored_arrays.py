"""Arrays in files of NumPy, whose declared sizes are believed only where the bytes are there."""

from __future__ import annotations

import math
import zipfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# What compression makes of zeros; an archive that claims more per stored byte is made to fill the memory.
MOST_EXPANSION = 1032


def read_arrays(stream: IO[bytes]) -> dict[str, Array] | Array:
    """Return the arrays of an .npz file by name, or the one of an .npy file.

    Args:
        stream: The file, open at its start, which can seek.

    Raises:
        ValueError: It holds Python objects, is damaged, or declares more than it stores.
    """
    if stream.read(6) == b"\x93NUMPY":
        stream.seek(0)
        size = stream.seek(0, 2)
        stream.seek(0)
        return _read_array(stream, size)
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if any(one.file_size > MOST_EXPANSION * max(one.compress_size, 1) for one in members):
            raise ValueError("a member claims to be larger than its bytes can be")
        arrays = {}
        for member in members:
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = _read_array(file, member.file_size)
        return arrays


def _read_array(file: IO[bytes], size: int) -> Array:
    """Return one array of a stream of this many bytes."""
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:
        raise ValueError(f"version {version} of the .npy format is not read")
    shape, _, dtype = headers[version](file)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - file.tell():
        raise ValueError(f"it declares {math.prod(shape)} elements, more than it stores")
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array
