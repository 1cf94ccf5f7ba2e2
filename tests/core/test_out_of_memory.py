"""Every library's way to say that memory ran out is recognised, wrapped in whatever, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smartc.core.errors import UserError
from smartc.core.out_of_memory import memory_error

FIX = "Lower batch=..., the number of samples or the size of the inputs, or use more memory."
FORBIDDING = 2**60


def _raised(call: object) -> BaseException:
    """Return what a call raises."""
    assert callable(call)
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (lambda: torch.empty(FORBIDDING, dtype=torch.int8), ": 1.0 EiB more were asked for"),
        (lambda: np.empty(FORBIDDING, np.int8), ": 1.0 EiB more were asked for"),
        (lambda: bytearray(FORBIDDING), ""),
    ],
)
def test_what_libraries_raise(call: object, asked: str) -> None:
    error = _raised(call)
    found = memory_error(error, "smartc")
    assert str(found) == f"smartc: there is not enough memory{asked}. {FIX}"
    wrapped = UserError("the model does not run", where="net", fix="Change it")
    wrapped.__cause__ = error
    assert str(memory_error(wrapped, "smartc")) == f"net: there is not enough memory{asked}. {FIX}"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 GiB. GPU", ": 20.0 GiB more were asked for"),
        ("Failed to allocate memory for requested buffer of size 4294967296", ": 4.0 GiB more were asked for"),
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 240000000000 bytes. Error code 12",
            ": 223.5 GiB more were asked for",
        ),
        ("std::bad_alloc", ""),
    ],
)
def test_texts_of_runtimes(text: str, asked: str) -> None:
    assert str(memory_error(RuntimeError(text), "x")) == f"x: there is not enough memory{asked}. {FIX}"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes differ"), ValueError("out of memory"), UserError("out of memory", where="a", fix="b")],
)
def test_other_errors_are_none(error: BaseException) -> None:
    assert memory_error(error, "x") is None
