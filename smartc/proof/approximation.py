"""The error of norms that lost channels: their outputs and the model's beside those of the masked original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from smartc.analysis.channels.channel_groups import ApproximateNorm, ChannelGroups, surviving
from smartc.analysis.channels.labels import Labels
from smartc.decision.decision import Decision
from smartc.ir.traced_model import TracedModel, arguments_of, layer_name, operator_of, sample_count
from smartc.masks.layouts import BoolArray
from smartc.passes.shared.survivors import Survivors
from smartc.proof.comparison import Comparison
from smartc.proof.prove import narrowed
from smartc.proof.reference import mask_readers
from smartc.results.figures import Approximation, NormError


def approximation(comparison: Comparison, decision: Decision) -> Approximation | None:
    """Return the error that norms make which lost channels; None where none did.

    Both networks have zeros where they read what is removed. In one of them every norm sees all channels, in the other
    those that stay, with weights that make up for it where these were repaired.

    Args:
        comparison: Has the inputs.
        decision: What is kept.
    """
    groups, keep = decision.options.groups, decision.keep
    norms = groups.changed_norms(keep)
    if not norms:
        return None
    masked = mask_readers(decision.unrepaired or decision.model, groups, keep)
    fewer = mask_readers(narrowed(decision), groups, keep)
    places = _places(norms, groups, keep)
    sums = _Sums()
    inputs, source = comparison.inputs()
    count = 0
    for flat in inputs:
        expected, actual = (_Watched(model, places).values_of(flat) for model in (masked, fewer))
        sums.add(expected, actual, places)
        count += sample_count(flat)
    found = [_norm_error(norm, keep, sums) for norm in norms if not _is_part(norm, norms)]
    return Approximation(count, source, sums.error(""), tuple(found))


def _places(norms: Sequence[ApproximateNorm], groups: ChannelGroups, keep: BoolArray) -> dict[str, dict[int, Any]]:
    """Return, by the name of each call whose output is normalised, the indices that stay of axes that lose some."""
    found = {}
    survivors = Survivors(groups.labels, keep)
    for node in {node for norm in norms for node in norm.outputs}:
        labels = groups.labels.get(node)
        axes = range(len(labels.shape)) if isinstance(labels, Labels) else ()
        alive = {axis: survivors.of(node, axis) for axis in axes}
        found[node.name] = {
            axis: torch.from_numpy(np.flatnonzero(flags)) for axis, flags in alive.items() if flags is not None
        }
    return found


def _is_part(norm: ApproximateNorm, norms: Sequence[ApproximateNorm]) -> bool:
    """Return whether statistics are the mean of a norm that is written out, whose variance another call takes."""
    return norm.node not in norm.outputs and any(_origin(other.node) in norm.outputs for other in norms)


def _origin(statistics: fx.Node) -> fx.Node:
    """Return what statistics are of: what goes into functions of one value before them."""
    node = arguments_of(statistics)[0]
    while operator_of(node).rule in ("unary", "joined", "multiplication") and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
    return node


def _norm_error(norm: ApproximateNorm, keep: BoolArray, sums: _Sums) -> NormError:
    """Return what is to be said of one norm; of several outputs that with the largest error."""
    alive = surviving(norm.units, keep)
    error = max(sums.error(node.name) for node in norm.outputs)
    return NormError(layer_name(norm.node), len(alive), int(alive.sum()), error)


@dataclass(eq=False)
class _Sums:
    """Squares of differences and of what is expected, by the name of a call; those of the outputs by ''."""

    squares: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, expected: Mapping[str, Any], actual: Mapping[str, Any], places: Mapping[str, Any]) -> None:
        """Add what two networks computed of one batch."""
        for name, value in expected.items():
            pairs = zip(pytree.tree_leaves(value), pytree.tree_leaves(actual[name]), strict=True)
            for left, right in pairs:
                if not isinstance(left, torch.Tensor) or not left.is_floating_point():
                    continue
                left, right = (_stays(one, places.get(name, {}), left.shape).double() for one in (left, right))
                if left.shape == right.shape:  # shapes that hang on values cannot be compared
                    wrong, size = self.squares.get(name, (0.0, 0.0))
                    found = float((left - right).square().sum()), float(left.square().sum())
                    self.squares[name] = (wrong + found[0], size + found[1])

    def error(self, name: str) -> float:
        """Return the relative error of a call, or of the outputs."""
        wrong, size = self.squares.get(name, (0.0, 0.0))
        return (wrong / size) ** 0.5 if size else 0.0


def _stays(value: torch.Tensor, axes: Mapping[int, torch.Tensor], whole: Sequence[int]) -> torch.Tensor:
    """Return what stays of a value; of an axis that is shorter than the whole, all of it."""
    for axis, kept in axes.items():
        value = value.index_select(axis, kept) if value.shape[axis] == whole[axis] else value
    return value


class _Watched(fx.Interpreter):
    """A network that keeps what some of its calls compute."""

    def __init__(self, model: TracedModel, names: Mapping[str, Any]) -> None:
        # Calls that write in place write into copies.
        buffers = {name: buffer.clone() for name, buffer in model.graph_module.named_buffers()}
        super().__init__(model.with_tensors(buffers).graph_module)
        self.names = names
        self.seen: dict[str, Any] = {}

    def values_of(self, flat: tuple[Any, ...]) -> dict[str, Any]:
        """Return what the calls compute by their names, and the outputs by ''."""
        own = (value.clone() if isinstance(value, torch.Tensor) else value for value in flat)
        with torch.no_grad():
            outputs = self.run(*own, enable_io_processing=False)
        return {**self.seen, "": outputs}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and keep what it computes if that is asked for."""
        value = super().run_node(n)
        if n.name in self.names:
            self.seen[n.name] = value
        return value
