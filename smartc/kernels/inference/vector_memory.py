"""Vectors between memory and registers: fetches ahead, loads under a mask, and a fence for LLVM."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.target import codegen
from tvm.tirx.script.builder import ir as T

from smartc.kernels.vector_math import splat


def prefetch(buffer: Any, place: Any, write: int = 0) -> None:
    """Fetch a line into the first cache; a place outside the buffer does nothing."""
    address = tirx.address_of(buffer[place])
    how, near, data = (tirx.IntImm("int32", value) for value in (write, 3, 1))
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, how, near, data))


def masked_load(buffer: Any, start: Any, mask: Any, lanes: int) -> Any:
    """Return a vector whose lanes outside the mask are zero and are not read."""
    address = tirx.address_of(buffer[start])
    return tirx.call_llvm_intrin(f"float32x{lanes}", "llvm.masked.load", address, *_align(), mask, splat(0.0, lanes))


def masked_store(buffer: Any, start: Any, value: Any, mask: Any) -> None:
    """Store a vector's lanes inside the mask."""
    address = tirx.address_of(buffer[start])
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.masked.store", value, address, *_align(), mask))


def fenced(value: Any, lanes: int) -> Any:
    """Return a vector that LLVM leaves as it is.

    It would join the selects of several columns into one, and load the pixels of all before it adds the first: both
    need more registers than there are.
    """
    return tirx.call_llvm_intrin(f"float32x{lanes}", "llvm.arithmetic.fence", value)


def _align() -> list[Any]:
    """Return the alignment that LLVM's masked loads and stores take before version 22."""
    return [tirx.IntImm("int32", 4)] if codegen.llvm_version_major() < 22 else []
