"""What learning minimises: the distance to the dense model, the task's loss, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from smartc.core.errors import OWN_CODE_FAILURES, Argument, UserError, first_line
from smartc.data.batch import Batch
from smartc.ir.traced_model import TracedModel
from smartc.learning.objectives.augment import random_views
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.objectives.intermediate_outputs import WithIntermediateOutputs

# Stands for the mean square of a layer that gives only zeros.
SMALLEST_SQUARE = 1e-12
# Labels that torch's cross-entropy leaves out.
IGNORED = -100


class Objective(Protocol):
    """A loss of a model on a batch.

    Attributes:
        name: The name that the report uses.
    """

    @property
    def name(self) -> str:
        """Return the name that the report uses."""
        ...

    def prepared(self, model: fx.GraphModule) -> nn.Module:
        """Return the model as ``loss`` takes it."""
        ...

    def varied(self, batch: Batch, step: int) -> Batch:
        """Return the batch of a step as it is used."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss to minimise, a number."""
        ...


class _AsItIs:
    """Takes model and samples as they are."""

    def prepared(self, model: fx.GraphModule) -> nn.Module:
        """Return the model."""
        return model

    def varied(self, batch: Batch, step: int) -> Batch:
        """Return the samples."""
        return batch


@dataclass(frozen=True, eq=False)
class FromDense(_AsItIs):
    """Be close to the dense model, and right where there are labels.

    Attributes:
        dense: The model as it was, in eval mode.
        distillation: How far two outputs are from each other.
        labelled: Whether batches have labels.
    """

    dense: TracedModel
    distillation: Distillation
    labelled: bool

    @property
    def name(self) -> str:
        """Return the name that the report uses."""
        return "distillation from the dense model" + (" and cross-entropy of the labels" if self.labelled else "")

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the distance to the dense model's outputs, plus the cross-entropy of the labels if there are any."""
        args, kwargs = self.dense.arguments(batch.inputs)
        with torch.no_grad():
            expected = self.dense.graph_module(*args, **kwargs)
        outputs = model(*args, **kwargs)
        loss = self.distillation.loss(outputs, expected)
        return loss if batch.labels is None else loss + cross_entropy(outputs, batch.labels)


@dataclass(frozen=True, eq=False)
class LayerByLayer:
    """Be close to the dense model in the outputs and after every layer: for few samples, of which this makes more.

    Attributes:
        dense: The model as it was, in eval mode.
        distillation: How far two outputs are from each other.
        mean_squares: The nodes that are compared, by name, and the mean square that each one's error is divided by.
        seed: What random views of the samples are drawn from.
    """

    dense: TracedModel
    distillation: Distillation
    mean_squares: Mapping[str, float]
    seed: int

    @classmethod
    def fitted(
        cls, dense: TracedModel, distillation: Distillation, names: Sequence[str], inputs: Sequence[tuple[Any, ...]]
    ) -> LayerByLayer:
        """Return the distance of some nodes, with the mean squares that they have on some inputs.

        With fixed mean squares the loss of a batch is the mean of its parts', whichever way it is cut.
        """
        squares = dict.fromkeys(names, 0.0)
        watched = WithIntermediateOutputs(dense.graph_module, names)
        with torch.no_grad():
            for flat in inputs:
                for name, value in watched(*flat)[1].items():
                    squares[name] += float(value.float().square().mean()) / len(inputs)
        return cls(dense, distillation, squares, 0)

    @property
    def name(self) -> str:
        """Return the name that the report uses."""
        return f"distillation from the dense model and its {len(self.mean_squares)} layers"

    def prepared(self, model: fx.GraphModule) -> nn.Module:
        """Return the model as ``loss`` takes it."""
        return WithIntermediateOutputs(model, tuple(self.mean_squares))

    def varied(self, batch: Batch, step: int) -> Batch:
        """Return other views of the same samples."""
        return random_views(batch, self.seed + step)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the distance to the dense model's outputs plus the mean distance of its layers."""
        with torch.no_grad():
            expected, inside = WithIntermediateOutputs(self.dense.graph_module, tuple(self.mean_squares))(*batch.inputs)
        outputs, found = model(*batch.inputs)
        loss = self.distillation.loss(outputs, expected)
        if inside:
            terms = [self._distance(name, found[name], value) for name, value in inside.items()]
            loss = loss + torch.stack(terms).mean()
        return loss if batch.labels is None else loss + cross_entropy(outputs, batch.labels)

    def _distance(self, name: str, found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of a node as a share of its mean square."""
        return (found.float() - expected.float()).square().mean() / max(self.mean_squares[name], SMALLEST_SQUARE)


@dataclass(frozen=True, eq=False)
class OwnLoss(_AsItIs):
    """The user's function of a model and a batch.

    Attributes:
        function: Called with the model, its inputs (a tuple) and the labels (None if there are none).
        model: Tells how inputs are arranged.
        name: What to call it.
    """

    function: Callable[..., Any]
    model: TracedModel
    name: str

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the value of the function.

        Raises:
            UserError: It fails, or returns no number that depends on the model.
        """
        args, kwargs = self.model.arguments(batch.inputs)
        inputs = (*args, *kwargs.values())
        where = Argument("train", self.name if ":" in self.name else self.function)
        try:
            loss = self.function(model, inputs, batch.labels)
        except OWN_CODE_FAILURES as error:
            fix = "It is called with the model, a tuple of its inputs, and the labels or None"
            raise UserError(f"it fails: {type(error).__name__}: {first_line(error)}", where=where, fix=fix) from error
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise UserError("it returns no loss of the model", where=where, fix="Return a tensor of one number")
        return loss.reshape(())


def cross_entropy(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the first output, whose axis 1 holds a score per class.

    Raises:
        UserError: The labels are no class numbers of that output.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    scores = tensors[0]
    fits = scores.ndim >= 2 and scores.shape[2:] == labels.shape[1:] and not labels.is_floating_point()
    if not fits or bool((((labels < 0) & (labels != IGNORED)) | (labels >= scores.shape[1])).any()):
        shapes = " and ".join("x".join(map(str, tensor.shape)) for tensor in (labels, scores))
        fact = f"labels and outputs have the shapes {shapes}, which are no class numbers and their scores"
        fix = ("Give a loss of your own with ", Argument("train"), ", or leave the labels out")
        raise UserError(fact, where=Argument("data"), fix=fix)
    return functional.cross_entropy(scores.float(), labels.long())
