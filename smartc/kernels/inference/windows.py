"""Read the geometry of a sliding window from a call of a convolution or a pooling."""

from __future__ import annotations

from typing import Any

from torch import fx

from smartc.ir.traced_model import argument_of, arguments_of, operator_name
from smartc.kernels.inference.geometry import Geometry, Pair


def pair(value: Any, default: Any = None) -> Pair:
    """Return an argument that may be one number, one of a list, or a pair; an empty list is the default."""
    if value is None or value == []:
        value = default
    if isinstance(value, int):
        return value, value
    numbers = [int(number) for number in value]
    return (numbers[0], numbers[-1])


def shape_of(node: Any) -> tuple[int, ...]:
    """Return the shape of a node's output."""
    return tuple(int(size) for size in node.meta["val"].shape)


def window_geometry(node: fx.Node) -> Geometry | None:
    """Return the geometry of a two-dimensional convolution or pooling, None for all else."""
    kind = operator_name(node.target)
    # Those that have a kernel of windows here, by their own order of arguments.
    if node.op != "call_function" or kind not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return None
    source, target = shape_of(arguments_of(node)[0]), shape_of(node)
    if len(source) != 4:
        return None
    if kind == "conv2d":
        kernel = pair(shape_of(arguments_of(node)[1])[2:])
        stride, dilation = pair(argument_of(node, 3, "stride", 1)), pair(argument_of(node, 5, "dilation", 1))
        padding = _padding(argument_of(node, 4, "padding", 0), kernel, dilation)
    else:
        kernel = pair(argument_of(node, 1, "kernel_size"))
        stride = pair(argument_of(node, 2, "stride"), kernel)
        padding = pair(argument_of(node, 3, "padding", 0))
        dilation = pair(argument_of(node, 4, "dilation", 1)) if kind == "max_pool2d" else (1, 1)
    return Geometry(kernel, stride, padding, dilation, pair(source[2:]), pair(target[2:]))


def _padding(value: Any, kernel: Pair, dilation: Pair) -> Pair:
    """Return a convolution's padding before the first pixel, as numbers."""
    if value == "valid":
        return 0, 0
    if value == "same":
        down, right = ((size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True))
        return down, right
    return pair(value)
