"""Compiling a kernel for this processor, once in a process, where TVM is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

# A kernel runs on one thread: with more than these PyTorch's own operators, which share their work out, are faster.
# TVM's threads would be idle most of the time, and wait by turning over, on the cores that PyTorch's need.
FEW_THREADS = 4

# TVM takes for granted that memory begins at a multiple of so many bytes, as PyTorch's own does; a view may not.
ALIGNED = 64


def serves(*tensors: torch.Tensor) -> bool:
    """Return whether a kernel can read these tensors, and is faster than PyTorch's operators."""
    return torch.get_num_threads() <= FEW_THREADS and all(map(_is_plain, tensors)) and _is_installed()


@cache
def compiled(build: Callable[..., Any], *sizes: int) -> Callable[..., None]:
    """Return a kernel for this processor; it takes tensors of PyTorch, their memory is shared.

    Args:
        build: Returns the function of TIR, given the floats of a vector and the sizes.
        sizes: What the kernel is compiled for.
    """
    import tvm

    from smartc.lowering.tvm_kernels.machine import machine_for

    machine = machine_for(None)
    name = build.__name__
    function = build(machine.lanes, *sizes).with_attr("global_symbol", name)
    # What is used several times has a name already; to look for more takes minutes.
    with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
        module = tvm.compile(tvm.IRModule({name: function}), target=machine.target)
    kernel: Callable[..., None] = module[name]
    return kernel


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is float32 in a row in this machine's memory, and begins where vectors may."""
    real = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    in_a_row = real and tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.numel() > 0
    return in_a_row and tensor.data_ptr() % ALIGNED == 0


@cache
def _is_installed() -> bool:
    """Return whether there is a TVM to compile with."""
    return find_spec("tvm") is not None
