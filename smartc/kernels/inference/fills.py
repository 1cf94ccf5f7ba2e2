"""Fill runs of a buffer with one number."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from smartc.kernels.vector_math import splat


def fill_run(buffer: Any, start: Any, length: int, lanes: int, value: float = 0.0) -> None:
    """Build the statements that fill ``length`` elements; the last vector may overlap the one before it."""
    if length >= lanes:
        with T.serial(0, length // lanes) as step:
            T.buffer_store(buffer, splat(value, lanes), [T.Ramp(start + step * lanes, 1, lanes)])
        if length % lanes:
            T.buffer_store(buffer, splat(value, lanes), [T.Ramp(start + length - lanes, 1, lanes)])
    elif length > 0:
        with T.serial(0, length) as step:
            T.buffer_store(buffer, splat(value, 1), [start + step])
