"""Arrays are read where their bytes are there; what a file merely declares is refused before it is allocated."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from smartc.core.stored_arrays import read_arrays


def _npy(array: Any, **options: Any) -> bytes:
    """Return an array as an .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.zeros((0, 4)), np.float32(3), np.asfortranarray(np.eye(3))]
)
def test_arrays_come_back(array: Any) -> None:
    single = read_arrays(io.BytesIO(_npy(np.asanyarray(array))))
    assert isinstance(single, np.ndarray)
    assert np.array_equal(single, array)
    stream = io.BytesIO()
    np.savez_compressed(stream, x=array, y=np.ones(3))
    stream.seek(0)
    found = read_arrays(stream)
    assert isinstance(found, dict)
    assert list(found) == ["x", "y"]
    assert np.array_equal(found["x"], array)


@pytest.mark.parametrize("shape", [(10**9,), (10**6, 10**6), (2**63, 2**63), (7,), (-1,), (10**400,)])
def test_more_than_is_stored_is_refused(shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    content = header.getvalue() + bytes(48)
    with pytest.raises(ValueError, match="more than it stores"):
        read_arrays(io.BytesIO(content))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", content)
    stream.seek(0)
    with pytest.raises(ValueError, match="more than it stores"):
        read_arrays(stream)


def test_python_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(io.BytesIO(_npy(np.array([{}]), allow_pickle=True)))


def test_a_member_that_claims_to_be_larger_than_compression_makes_it_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", bytes(64))
    claimed = b"\xff\xff\xff\x0f"
    content = stream.getvalue().replace((64).to_bytes(4, "little") * 2, (64).to_bytes(4, "little") + claimed)
    assert claimed in content
    with pytest.raises(ValueError, match="claims to be larger"):
        read_arrays(io.BytesIO(content))
