"""Switch batch norm and dropout between evaluation and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import fx, nn

from smartc.ir.operators.table import operator_named
from smartc.ir.traced_model import Remark, TracedModel, argument_of, layer_name, operator_name, stored_name
from smartc.passes.shared.base import PassResult

FLAGS = ("training", "train", "use_input_stats")
MODE = "training_mode"


class Mode(nn.Module):
    """Tells whether the module that it is part of is in training."""

    def forward(self) -> bool:
        """Return it."""
        return self.training


@dataclass(frozen=True)
class TrainingMode:
    """Let batch norms with running statistics, and dropout, behave as in training, or as in evaluation.

    Norms that the user wants left alone are always in evaluation.  Norms in training update their statistics in
    place whenever the model runs.  They get copies of their own, so that the model they came from keeps its statistics.

    Attributes:
        batch_norm: Whether norms with running statistics use the batch's; those without always do.
        dropout: Whether dropout and its kin draw random numbers.
        follow: Whether what behaves as in training does so only while the module is in training, that is between
            ``train()`` and ``eval()``.
    """

    batch_norm: bool = True
    dropout: bool = True
    follow: bool = False
    name: ClassVar[str] = "training-mode"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model with every flag as the fields say."""
        switched = model.copy()
        remarks = [remark for node in switched.calls() if (remark := self._switch(switched, node)) is not None]
        return PassResult(switched.cleaned(), tuple(remarks))

    def _switch(self, model: TracedModel, node: fx.Node) -> Remark | None:
        """Switch one call in place; None where it is none of ours or is as it should be."""
        kind = operator_name(node.target).removesuffix("_")
        in_training = operator_named(kind).in_training
        is_norm = in_training == "statistics"
        if not in_training:
            return None
        wanted = self.batch_norm and not _is_untouched(model, node) if is_norm else self.dropout
        training = wanted and (_mode(model) if self.follow else True)
        if is_norm and argument_of(node, 3, "running_mean") is None:
            return Remark(layer_name(node), f"{kind} without running statistics stays as it is")
        if not _set_flag(node, training):
            return None
        mode = ("training, while the module is" if self.follow else "training") if training else "evaluation"
        if is_norm and training:
            _own_statistics(model, node)
            if argument_of(node, 6, "momentum") == 0:
                mode += "; its running statistics stay, because its momentum is 0"
        return Remark(layer_name(node), f"{kind} set to {mode}", changed=True)


def _is_untouched(model: TracedModel, norm: fx.Node) -> bool:
    """Return whether the user wants a norm's statistics left alone."""
    mean = argument_of(norm, 3, "running_mean")
    return mean is not None and stored_name(mean) in model.untouched


def _mode(model: TracedModel) -> fx.Node:
    """Return the node that tells whether the module is in training, a new one if there is none."""
    nodes = list(model.graph.nodes)
    found = next((node for node in nodes if node.op == "call_module" and node.target == MODE), None)
    if found is not None:
        return found
    model.graph_module.add_submodule(MODE, Mode())
    with model.graph.inserting_before(next(node for node in nodes if node.op != "placeholder")):
        return model.graph.call_module(MODE)


def _set_flag(node: fx.Node, training: bool | fx.Node) -> bool:
    """Set a call's training flag and return whether it was another."""
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    place = next(place for place, argument in enumerate(arguments) if argument.name in FLAGS)
    flag = arguments[place]
    if argument_of(node, place, flag.name, flag.default_value) == training:
        return False
    if place < len(node.args):
        node.update_arg(place, training)
    else:
        # A flag that the exporter left out goes again, so that switching back gives the same graph.
        kwargs: dict[str, Any] = {key: value for key, value in node.kwargs.items() if key != flag.name}
        node.kwargs = kwargs if training == flag.default_value else {**kwargs, flag.name: training}
    return True


def _own_statistics(model: TracedModel, node: fx.Node) -> None:
    """Give a norm running statistics that share no memory with another model's."""
    for place, name in ((3, "running_mean"), (4, "running_var")):
        statistic = stored_name(argument_of(node, place, name))
        if statistic is not None:
            old = model.tensor(statistic)
            model.set_tensor(statistic, old.clone())
