"""Loops over vectors: as many elements at once as a vector has lanes, and what is left one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx.script.builder import ir as T


def for_vectors(length: Any, lanes: int, compute: Callable[[Any, int], None]) -> None:
    """Call ``compute`` with the first place of each vector and its width: ``lanes``, and 1 for what is left."""
    whole = tirx.floordiv(length, lanes)
    with T.serial(0, whole) as vector:
        compute(vector * lanes, lanes)
    with T.serial(0, length - whole * lanes) as rest:
        compute(whole * lanes + rest, 1)


def places(first: Any, width: int, stride: int = 1) -> Any:
    """Return the places of a vector's elements."""
    return first if width == 1 else T.Ramp(first, stride, width)


def repeated(number: Any, width: int) -> Any:
    """Return a vector of one number that is known only when the kernel runs."""
    return number if width == 1 else T.Broadcast(number, width)


def own_place(width: int, value: Any) -> Any:
    """Return a vector's copy in a place of its own; a mere name TVM replaces by its expression, wherever it is."""
    place = T.alloc_buffer((width,), "float32", scope="local")
    here = places(0, width)
    T.buffer_store(place, value, [here])
    return place[here]
