"""Compiling a kernel for this processor, once in a process, where TVM is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from smartc.kernels.machine import Machine

# Kernels run on one thread.  Measured there they take half the time of PyTorch's operators, and less than those take on
# two; with more threads than these the operators are used, which share their work out.  TVM's own threads would wait
# by turning over, on the cores that PyTorch's need.
FEW_THREADS = 4
# TVM takes for granted that memory begins at a multiple of this many bytes, as PyTorch's own does; a view may not.
ALIGNED = 64


def serves(*tensors: torch.Tensor) -> bool:
    """Return whether a kernel can read these tensors, and is faster than PyTorch's operators."""
    return torch.get_num_threads() <= FEW_THREADS and all(map(_is_plain, tensors)) and _can_compile()


@cache
def compiled(build: Callable[..., Any], *sizes: int) -> Callable[..., None]:
    """Return a kernel for this processor; it takes tensors of PyTorch, their memory is shared.

    Args:
        build: Returns the function of TIR, given the floats of a vector and the sizes.
        sizes: What the kernel is compiled for.
    """
    import tvm

    name, machine = build.__name__, _machine()
    function = build(machine.lanes, *sizes).with_attr("global_symbol", name)
    # What is used several times has a name already; to look for more takes minutes.
    with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
        module = tvm.compile(tvm.IRModule({name: function}), target=machine.target)
    kernel: Callable[..., None] = module[name]
    return kernel


def lanes() -> int:
    """Return the floats of a vector of this processor."""
    return _machine().lanes


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is float32 in a row in this machine's memory, and begins where vectors may."""
    real = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    in_a_row = real and tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.numel() > 0
    return in_a_row and tensor.data_ptr() % ALIGNED == 0


@cache
def _can_compile() -> bool:
    """Return whether TVM is installed and can be loaded; without it steps take longer, and results are the same."""
    try:
        _machine()
    except Exception:
        return False
    return True


@cache
def _machine() -> Machine:
    """Return the machine that kernels are compiled for."""
    from smartc.kernels.machine import machine_for

    return machine_for(None)
