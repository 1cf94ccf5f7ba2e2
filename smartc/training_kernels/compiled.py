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


def serves(*tensors: torch.Tensor) -> bool:
    """Return whether a kernel can read these tensors, need not be differentiable, and is faster than PyTorch."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.get_num_threads() > FEW_THREADS:
        return False
    return all(_is_plain(tensor) for tensor in tensors) and _is_installed()


@cache
def compiled(build: Callable[[int], Any]) -> Callable[..., None]:
    """Return a kernel for this processor; it takes tensors of PyTorch, their memory is shared.

    Args:
        build: Returns the function of TIR, given the floats of a vector.
    """
    import tvm

    from smartc.lowering.tvm_kernels.machine import machine_for

    machine = machine_for(None)
    name = build.__name__
    function = build(machine.lanes).with_attr("global_symbol", name)
    module = tvm.compile(tvm.IRModule({name: function}), target=machine.target)
    kernel: Callable[..., None] = module[name]
    return kernel


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is float32 in a row in this machine's memory."""
    real = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    return real and tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.numel() > 0


@cache
def _is_installed() -> bool:
    """Return whether there is a TVM to compile with."""
    return find_spec("tvm") is not None
