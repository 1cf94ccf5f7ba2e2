"""How many samples run at a time, so that what is alive of them at once stays within bounds."""

from __future__ import annotations

import math
from typing import Any

import torch

from smartc.ir.traced_model import TracedModel, Value, value_of
from smartc.proof.exact_run import last_readers, leaves

# What the values of a proof may take, which runs in float64, and those of a comparison, in the model's type.
PROOF_BYTES, COMPARISON_BYTES = 2**28, 2**30


def live_bytes(model: TracedModel, element: int) -> int:
    """Return the most bytes that one sample's values take at once, each freed after its last use.

    Args:
        model: What runs.
        element: Bytes of a floating-point number.
    """
    last = last_readers(model.graph)
    sizes: dict[Any, int] = {}
    most = 0
    for node in model.graph.nodes:
        if node.op in ("placeholder", "call_function"):
            sizes[node] = sum(_bytes(leaf, element) for leaf in leaves(value_of(node)))
        most = max(most, sum(sizes.values()))
        for used in last.get(node, ()):
            sizes.pop(used, None)
    return most


def samples_at_once(model: TracedModel, wanted: int, allowed: int, element: int) -> int:
    """Return how many samples run at a time: as many as wanted, fewer where they would take too much, at least one."""
    return fitting(live_bytes(model, element), wanted, allowed)


def fitting(live: int, wanted: int, allowed: int) -> int:
    """Return how many samples of this many bytes fit, at most as many as wanted and at least one."""
    return max(1, min(wanted, allowed // max(live, 1)))


def batches(model: TracedModel, flat: tuple[Any, ...], size: int) -> list[tuple[Any, ...]]:
    """Return flattened inputs in batches of at most this many samples; as they are where the model fixes its batch."""
    free = [bool(spec.shape) and spec.shape[0] is None for spec in model.inputs]
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    counts = {len(value) for value, splits in zip(tensors, free, strict=True) if splits}
    if len(counts) != 1 or max(counts) <= size:
        return [flat]
    return [_part(flat, free, slice(start, start + size)) for start in range(0, max(counts), size)]


def _part(flat: tuple[Any, ...], free: list[bool], place: slice) -> tuple[Any, ...]:
    """Return some samples of flattened inputs; what has no axis of samples stays whole."""
    splits = iter(free)
    return tuple(value[place] if isinstance(value, torch.Tensor) and next(splits) else value for value in flat)


def _bytes(value: Any, element: int) -> int:
    """Return what one value takes for one sample."""
    if not isinstance(value, Value):
        return 0
    size = element if value.dtype.is_floating_point else value.dtype.itemsize
    return math.prod(value.single) * size
