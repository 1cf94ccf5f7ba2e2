"""Drop the checks that the exporter leaves in the graph: they spell out sizes that will shrink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smartc.ir.traced_model import Remark, TracedModel, layer_name, operator_of
from smartc.passes.shared.base import PassResult


@dataclass(frozen=True)
class DropAssertions:
    """Erase calls that compute nothing and only check."""

    name: ClassVar[str] = "drop-assertions"

    def run(self, model: TracedModel) -> PassResult:
        """Return the model without them."""
        bare = model.copy()
        checks = [node for node in bare.calls() if operator_of(node).family == "assertion" and not node.users]
        remarks = tuple(Remark(layer_name(node), "dropped an assertion", changed=True) for node in checks)
        for node in checks:
            bare.graph.erase_node(node)
        return PassResult(bare.cleaned(), remarks)
