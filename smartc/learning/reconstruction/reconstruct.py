"""Choose the weights that a mask leaves so that each layer gives the dense layer's outputs again, in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from smartc.core.errors import UserError
from smartc.ir.traced_model import Remark, TracedModel, arguments_of, layer_name, sample_count, stored_name
from smartc.learning.reconstruction.layer_rows import is_layer
from smartc.learning.reconstruction.masked_layer import MaskedLayer, readers
from smartc.learning.reconstruction.masked_least_squares import NormalEquations
from smartc.learning.reconstruction.match_norm import matched_norm
from smartc.learning.reconstruction.sample_rows import sampled_rows
from smartc.learning.reconstruction.shortcut import shortcut_of, with_shortcut
from smartc.learning.statistics.batch_norm_statistics import running_names
from smartc.learning.statistics.walk_activations import ActivationWalk, Batches, writes_in_place
from smartc.passes.shared.base import PassResult
from smartc.passes.training_mode import TrainingMode

RIDGE = 1e-1
# Rows that a layer is fitted to: a number for all, and a number per unknown of an output channel.
ROWS = 16384
ROWS_PER_UNKNOWN = 4
# Share of the outputs' energy that an error this small is rounding: each output is off by 1e-5 of its size.
ROUNDING = 1e-10
SMALLEST = torch.finfo(torch.float64).tiny


def reconstruct(
    dense: TracedModel,
    pruned: TracedModel,
    supports: Mapping[str, Tensor],
    batches: Batches,
    *,
    ridge: float = RIDGE,
    match_norms: bool = True,
) -> PassResult:
    """Refit each masked layer to the dense layer's outputs, in graph order.

    Layer by layer, the weights on the support, and the bias, are moved to minimise
    ``|layer(x_pruned) - dense_layer(x_dense)|^2 + ridge * |change|^2``, where x_pruned comes from layers that
    are refitted already.  A layer whose output is added to another value also makes up for what that has lost.
    A layer without a bias shifts the running mean of the batch norm that alone reads it.  Each output
    channel's change is shortened to what serves held-out inputs best, so that none gets worse on them.

    Args:
        dense: The model before masking.
        pruned: The same graph with zeros outside the supports.
        supports: For each weight to refit, by name, which of its elements may differ from zero.
        batches: Flattened inputs as ``TracedModel.run`` takes them; their activations are held at once.
        ridge: Cost of a change, relative to the mean square of a layer's inputs; positive.
        match_norms: Whether each batch norm gets statistics with which its output varies as in the dense model;
            a fit to other inputs varies less than what it is fitted to.

    Returns:
        The refitted model, and a remark per layer: the share of its squared output error on held-out inputs
        that is left, or why it was left alone.

    Raises:
        UserError: There is no input.
        ValueError: The models differ, a support does not fit its weight, or the ridge is not positive.
    """
    if ridge <= 0:
        raise ValueError(f"the ridge is {ridge}, and must be positive")
    if not batches:
        raise UserError("there is no input to reconstruct layers from", where=pruned.name, fix="Give at least one")
    _check(dense, pruned, supports)
    evaluated = [TrainingMode(False, False).run(model).model for model in (dense, pruned)]
    before, after = (ActivationWalk(model, batches) for model in evaluated)
    work = _Reconstruction(before, after, supports, [sample_count(batch) for batch in batches], ridge, match_norms)
    remarks = work.run()
    return PassResult(pruned.with_tensors(work.changed), remarks)


def _check(dense: TracedModel, pruned: TracedModel, supports: Mapping[str, Tensor]) -> None:
    """Refuse models and supports that do not belong together."""
    left, right = ([(node.op, node.name, node.target) for node in model.graph.nodes] for model in (dense, pruned))
    if left != right:
        raise ValueError("the dense and the pruned model have different graphs")
    for name, support in supports.items():
        shape = tuple(pruned.tensor(name).shape)
        if support.dtype != torch.bool or tuple(support.shape) != shape:
            raise ValueError(
                f"the support of {name} is {support.dtype} {tuple(support.shape)}, its weight has shape {shape}"
            )


def _energy(tensors: Sequence[Tensor]) -> float:
    """Return the mean square of all elements."""
    count = sum(tensor.numel() for tensor in tensors)
    return float(sum(tensor.float().square().sum(dtype=torch.float64) for tensor in tensors)) / max(count, 1)


@dataclass(eq=False)
class _Reconstruction:
    """The state of one walk through both models.

    Attributes:
        dense, pruned: Their activations.
        supports: By weight name.
        counts: How many inputs each batch holds.
        ridge, match_norms: See ``reconstruct``.
        wanted: What refitted layers' outputs should be, until a norm has read them.
        changed: The tensors that have new values.
        twins: For each node of the pruned model the dense one's.
        same: Nodes whose values in the pruned model are the dense model's, and are not computed twice.
    """

    dense: ActivationWalk
    pruned: ActivationWalk
    supports: Mapping[str, Tensor]
    counts: Sequence[int]
    ridge: float
    match_norms: bool
    wanted: dict[fx.Node, Sequence[Tensor]] = field(default_factory=dict)
    changed: dict[str, Tensor] = field(default_factory=dict)
    same: set[fx.Node] = field(default_factory=set)
    twins: dict[fx.Node, fx.Node] = field(default_factory=dict)

    @property
    def model(self) -> TracedModel:
        """Return the model that is refitted."""
        return self.pruned.model

    def run(self) -> tuple[Remark, ...]:
        """Walk both graphs, refit each layer when its inputs are known, and return the remarks."""
        shares = not writes_in_place(self.model)
        self.twins = dict(zip(self.model.graph.nodes, self.dense.model.graph.nodes, strict=True))
        remarks, seen = [], set()
        for node, twin in self.twins.items():
            if node.op == "placeholder" and shares:
                self.same.add(node)
            if node.op == "call_function":
                self.dense.compute(twin)
                name = self._masked_weight(node)
                if name is not None and name not in seen:
                    seen.add(name)
                    remarks.append(self._refit(name, twin, node))
                self._compute(twin, node, shares)
            self.dense.release(twin)
            self.pruned.release(node)
        unread = [name for name in self.supports if not seen & {name, *self.model.names_of(name)}]
        return (*remarks, *(Remark(name, "is not read by a convolution or linear layer directly") for name in unread))

    def _compute(self, twin: fx.Node, node: fx.Node, shares: bool) -> None:
        """Compute a call of the pruned model, or take the dense one's values where they are the same."""
        if shares and all(self._is_same(source) for source in node.all_input_nodes):
            self.same.add(node)
            self.pruned.values[node] = self.dense.values[twin]
            return
        names = running_names(node)
        if self.match_norms and names is not None and self.model.untouched.keys().isdisjoint(names):
            self._match(node, twin)
        self.pruned.compute(node)

    def _match(self, node: fx.Node, twin: fx.Node) -> None:
        """Give a batch norm statistics that fit its new input."""
        source, twin_source = arguments_of(node)[0], arguments_of(twin)[0]
        names = running_names(twin)
        assert names is not None
        original = (self.dense.model.tensor(names[0]), self.dense.model.tensor(names[1]))
        wanted = self.wanted.pop(source, self.dense.values[twin_source])
        self._set(matched_norm(self.pruned, node, original, wanted))

    def _set(self, tensors: Mapping[str, Tensor]) -> None:
        """Give tensors new values."""
        for name, value in tensors.items():
            self.changed[name] = value
            self.model.set_tensor(name, value)

    def _is_same(self, node: fx.Node) -> bool:
        """Return whether a node's values are the dense model's."""
        if node.op != "get_attr":
            return node in self.same
        left, right = (walk.model.tensor(str(node.target)) for walk in (self.dense, self.pruned))
        return isinstance(left, Tensor) and torch.equal(left, right)

    def _masked_weight(self, node: fx.Node) -> str | None:
        """Return the name of the weight that a layer reads, if it has a support."""
        weight = arguments_of(node)[1] if is_layer(node) else None
        name = stored_name(weight) if isinstance(weight, fx.Node) else None
        return name if name is not None and self._support(name) is not None else None

    def _support(self, name: str) -> Tensor | None:
        """Return the support given for a weight under any of its names."""
        return next((self.supports[one] for one in (name, *self.model.names_of(name)) if one in self.supports), None)

    def _refit(self, name: str, twin: fx.Node, node: fx.Node) -> Remark:
        """Refit one layer, or say why not."""
        place, source = layer_name(node), arguments_of(node)[0]
        count = readers(self.model, name)
        if count != 1:
            return Remark(place, f"left alone, because its weight is read {count} times")
        support = self._support(name)
        assert support is not None
        layer = MaskedLayer.of(self.pruned, node, name, support)
        wanted = self._wanted(twin, node)
        fit, held_out = self._sums(layer, self.pruned.values[source], wanted)
        if not fit.rows or not held_out.rows:
            return Remark(place, "left alone, because there are too few inputs to fit it and to judge the fit")
        if not bool(fit.energy.isfinite().all() & held_out.energy.isfinite().all()):
            return Remark(place, "left alone, because its inputs or outputs are not finite")
        error = float((fit.energy.mean() + held_out.energy.mean()) / (fit.rows + held_out.rows))
        if error <= ROUNDING * _energy(wanted):
            return Remark(place, "computes what the dense layer does")
        change = held_out.shortened(fit.solve(layer.support, self.ridge, layer.shift is not None))
        self._set(layer.changed(self.model, change))
        if wanted is not self.dense.values[twin]:
            self.wanted[node] = wanted
        left = held_out.error(change).sum() / held_out.energy.sum().clamp(min=SMALLEST)
        return Remark(place, f"refitted: {left:.1%} of its squared output error is left", changed=True)

    def _wanted(self, twin: fx.Node, node: fx.Node) -> Sequence[Tensor]:
        """Return the outputs to fit a layer to: the dense ones, and what a shortcut around it has lost."""
        outputs, shortcut = self.dense.values[twin], shortcut_of(node)
        other = None if shortcut is None else shortcut.other
        if shortcut is None or other not in self.pruned.values or other in self.same:
            return outputs
        return with_shortcut(outputs, shortcut, self.dense.values[self.twins[other]], self.pruned)

    def _sums(
        self, layer: MaskedLayer, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> tuple[NormalEquations, NormalEquations]:
        """Return the sums over the rows to fit to, and over those held out."""
        groups, out, columns = layer.weight.shape
        sides = [NormalEquations.empty(groups, out, columns, layer.weight.device) for _ in range(2)]
        limit = ROWS + ROWS_PER_UNKNOWN * columns
        for rows in sampled_rows(layer.view, inputs, outputs, self.counts, limit):
            sides[rows.held_out].add(rows.inputs, layer.lacking(rows))
        return sides[0], sides[1]
