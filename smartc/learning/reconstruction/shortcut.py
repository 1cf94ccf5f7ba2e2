"""Find the sum that a layer's output goes into, so that the layer can make up for what the other operand has lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from smartc.ir.traced_model import arguments_of, operator_of
from smartc.learning.statistics.walk_activations import ActivationWalk

# A channel that a norm scales down further than this, relative to its largest scale, cannot make up for anything.
LEAST_SCALE = 1e-2


@dataclass(frozen=True, eq=False)
class Shortcut:
    """The other operand of the sum that alone reads a layer, and the batch norm on the way there, if any."""

    other: fx.Node
    norm: fx.Node | None


def shortcut_of(node: fx.Node) -> Shortcut | None:
    """Return the sum that alone reads a layer's output, None where there is none."""
    norm = None
    while len(node.users) == 1:
        reader = next(iter(node.users))
        operator = operator_of(reader)
        if operator.name == "add":
            return _sum_with(node, reader, norm)
        if operator.name == "batch_norm" and norm is None and _normalizes(reader, node):
            norm = reader
        elif not operator.identity:
            return None
        node = reader
    return None


def _normalizes(norm: fx.Node, node: fx.Node) -> bool:
    """Return whether a batch norm normalises a node's values by its running statistics."""
    return not arguments_of(norm)[5] and arguments_of(norm)[0] is node


def _sum_with(node: fx.Node, reader: fx.Node, norm: fx.Node | None) -> Shortcut | None:
    """Return the sum's other operand, if it has the same shape and both count once."""
    operands = [operand for operand in arguments_of(reader)[:2] if isinstance(operand, fx.Node)]
    others = [operand for operand in operands if operand is not node]
    if len(operands) != 2 or len(others) != 1 or reader.kwargs.get("alpha", 1) != 1:
        return None
    alike = others[0].op == "call_function" and others[0].meta["value"].shape == node.meta["value"].shape
    return Shortcut(others[0], norm) if alike else None


def with_shortcut(
    outputs: Sequence[Tensor], shortcut: Shortcut, dense: Sequence[Tensor], pruned: ActivationWalk
) -> list[Tensor]:
    """Return the outputs of a layer with which the sum is the dense model's.

    Args:
        outputs: The dense layer's outputs, one per batch.
        shortcut: The sum's other operand.
        dense: The other operand's values in the dense model.
        pruned: The walk that holds its values in the pruned model.
    """
    scale = None if shortcut.norm is None else _scale(shortcut.norm, pruned)
    wanted = []
    for output, left, right in zip(outputs, dense, pruned.values[shortcut.other], strict=True):
        lost = left - right
        wanted.append(output + (lost if scale is None else lost * scale.view(-1, *[1] * (lost.ndim - 2))))
    return wanted


def _scale(norm: fx.Node, walk: ActivationWalk) -> Tensor:
    """Return one over a norm's scale, 0 for channels that it scales down too far."""
    gamma, _, _, variance = (
        None if argument is None else walk.read(argument, 0) for argument in arguments_of(norm)[1:5]
    )
    scale = (variance + arguments_of(norm)[7]).rsqrt()
    scale = (scale if gamma is None else scale * gamma).detach()
    usable = scale.abs() > LEAST_SCALE * scale.abs().max()
    return torch.where(usable, 1 / torch.where(usable, scale, 1.0), 0.0)
