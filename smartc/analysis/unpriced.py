"""Find the calls with parameters whose work has no price."""

from __future__ import annotations

from torch import fx, nn

from smartc.analysis.find_layers import Layers, computed_from_inputs
from smartc.ir.traced_model import Remark, TracedModel, layer_name, operator_of


def unpriced(model: TracedModel, layers: Layers) -> tuple[Remark, ...]:
    """Return a remark on each call that computes with parameters and is left out of times and multiplications."""
    priced = {node for row in layers.rows for node in (row.node, *row.fused)}
    live = computed_from_inputs(model)
    calls = (node for node in model.calls() if node in live and _has_no_price(node, priced))
    found = ((node, names) for node in calls if (names := _parameters(model, node)))
    return tuple(Remark(layer_name(node), _text(node, names)) for node, names in found)


def _has_no_price(node: fx.Node, priced: set[fx.Node]) -> bool:
    """Say whether what a call computes is not known, or known and not counted."""
    operator = operator_of(node)
    return operator.family == "unknown" or (operator.cost != "free" and node not in priced)


def _parameters(model: TracedModel, node: fx.Node) -> list[str]:
    """Return the names of the parameters that a call reads."""
    names = [str(arg.target) for arg in node.all_input_nodes if arg.op == "get_attr"]
    return [name for name in names if isinstance(model.tensor(name), nn.Parameter)]


def _text(node: fx.Node, names: list[str]) -> str:
    """Return what is to be known of a call without a price."""
    return f"`{operator_of(node).name}` has no price: times and multiplications leave out what it does with {names[0]}"
