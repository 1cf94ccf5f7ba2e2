"""Sizes that a file declares: believed only where the bytes are there, before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

# A tensor that repeats its elements may be larger than what is stored of it, up to this many bytes.
MOST_REPEATED_BYTES = 1 << 24
# torch's codes of element types whose elements take more than a byte, with the bytes that they take.
_ELEMENT_BYTES = {3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 13: 2, 28: 2, 34: 4, 35: 8}


def declared_too_much(meta: Mapping[str, Any], stored: int) -> bool:
    """Return whether a tensor's description asks for memory that its stored bytes do not back.

    Args:
        meta: ``dtype``, ``sizes``, ``strides`` and ``storage_offset`` as an exported program's configuration
            has them.
        stored: Bytes of its record.
    """
    sizes, strides = (_numbers(meta.get(key)) for key in ("sizes", "strides"))
    offset = _numbers([meta.get("storage_offset")])
    if sizes is None or strides is None or offset is None or len(sizes) != len(strides):
        return True
    element = _ELEMENT_BYTES.get(meta.get("dtype", 0), 1)
    count = math.prod(sizes)
    if not count:
        return False
    reach = offset[0] + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
    return reach * element > stored or _repeats_too_much(count * element, stored)


def without_bytes(value: Any) -> bool:
    """Return whether a value is a tensor that is not backed by the bytes of its file."""
    return isinstance(value, torch.Tensor) and repeats_too_much(value)


def repeats_too_much(tensor: torch.Tensor) -> bool:
    """Return whether a loaded tensor would take far more memory when copied than is stored of it.

    Tensors without storage of their own, such as those of the meta device, hold nothing at all.
    """
    if tensor.is_nested or tensor.layout != torch.strided or tensor.device.type == "meta":
        return True
    return _repeats_too_much(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _repeats_too_much(whole: int, stored: int) -> bool:
    """Return whether a tensor is larger than what is stored of it, and large."""
    return whole > stored and whole > MOST_REPEATED_BYTES


def _numbers(values: Any) -> list[int] | None:
    """Return sizes that are whole numbers and not negative; None where one is not."""
    if not isinstance(values, list):
        return None
    found = [value.get("as_int") if isinstance(value, dict) else None for value in values]
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in found):
        return None
    return [int(number) for number in found if number is not None]
