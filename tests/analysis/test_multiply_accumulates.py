"""Multiply-accumulates and weight bytes of whole architectures, against torch's own count and against parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from smartc.analysis.analyse import analysed
from smartc.analysis.find_layers import Layers, computed_from_inputs
from smartc.analysis.unpriced import unpriced
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.targets.latency import LayerCosts
from smartc.targets.target import Target, load_target
from smartc.targets.workload import OpKind
from tests.support import product_networks, torchvision_models, zoo
from tests.support.random_layers import changed

ZOO = (
    "vision_transformer multihead_attention transformer_encoder_layer grouped_query_attention shifted_windows "
    "mlp_mixer cross_attention_queries non_local_block unet_transposed einsum_convolution shufflenet_unit_view"
).split()
# Parameters without weight bytes, and why; by what they are.
WITHOUT_BYTES = {
    "bias": "one number for each output of a product, which the output stage holds",
    "folded": "a batch norm that is done with the layer before it is folded into that layer's weight",
    "scalar": "a single number, or one that is not told apart by channels",
    "computed": "what is computed from it ahead of time is stored in its place, and may have another size",
    "view": "passed on by a view, and moved by what reads that",
}


def network(name: str) -> tuple[nn.Module, Any]:
    """Return an architecture and a batch of two for it, by its name and where it is from."""
    place, _, own = name.partition(":")
    if place == "torchvision":
        return torchvision_models.build(own, dtype=torch.float32)
    if place == "zoo":
        return zoo.build(own, dtype=torch.float32)
    if place == "timm":
        timm = pytest.importorskip("timm")
        return timm.create_model(own, pretrained=False).eval(), (torch.randn(2, 3, 224, 224),)
    return product_networks.build(own)


NAMES = (
    *(f"torchvision:{name}" for name in torchvision_models.BUILDERS),
    *(f"zoo:{name}" for name in ZOO),
    *(f"own:{name}" for name in product_networks.NAMES),
    *(f"timm:{name}" for name in ("vit_tiny_patch16_224", "mixer_s32_224", "convmixer_768_32")),
)


@contextmanager
def _spelled_out() -> Iterator[None]:
    """Let torch compute attention and recurrences by products that its counter knows."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def operations(module: nn.Module, inputs: Any) -> int:
    """Return the floating-point operations that torch counts."""
    with _spelled_out(), FlopCounterMode(display=False) as counter:
        module(**inputs) if isinstance(inputs, dict) else module(*inputs)
    return int(counter.get_total_flops())


def exact() -> Target:
    """Return a target whose weights are not padded: a byte each."""
    keys = {"array__rows": 1, "array__cols": 1, "sparsity__tile": (1, 1), "depthwise__lanes": 1}
    return changed(load_target("npu-8x8"), **keys)


def priced(module: nn.Module, inputs: Any) -> tuple[TracedModel, Layers, LayerCosts]:
    """Return a captured network, its layers and what they cost."""
    model = trace(module, inputs)
    layers = analysed(model)
    return model, layers, exact().price(layers.workload(exact(), layers.full_sizes))


def readers(node: fx.Node, live: set[fx.Node]) -> Iterator[fx.Node]:
    """Yield the calls on activations that read a constant, or what is computed from constants."""
    for user in node.users:
        if user in live:
            yield user
        else:
            yield from readers(user, live)


def without_bytes(model: TracedModel, layers: Layers) -> dict[str, str]:
    """Return the parameters that have no weight bytes, by name, and what they are."""
    found: dict[str, str] = {}
    kinds = {node: "folded" for row in layers.rows for node in row.fused}
    kinds |= {row.node: "bias" for row in layers.rows if row.shape.kind <= OpKind.DEPTHWISE}
    shapes = {row.node: row.shape for row in layers.rows}
    live = computed_from_inputs(model)
    for node in model.graph.nodes:
        if node.op != "get_attr":
            continue
        name, tensor = str(node.target), model.tensor(str(node.target))
        for reader in readers(node, live):
            if tensor.ndim < 2 and reader in kinds:
                found[name] = kinds[reader]
            elif reader not in shapes:
                found[name] = "view"
            elif reader not in kinds and node not in shapes[reader].constants:
                found[name] = "computed"
            elif tensor.numel() % max(len(shapes[reader].writes), 1) and reader not in kinds:
                found[name] = "scalar"
    return found


def is_parameter(model: TracedModel, node: fx.Node) -> bool:
    """Say whether a node reads a parameter."""
    return node.op == "get_attr" and isinstance(model.tensor(str(node.target)), nn.Parameter)


def read_parameters(model: TracedModel) -> set[str]:
    """Return the names of the parameters that the graph reads."""
    return {str(node.target) for node in model.graph.nodes if is_parameter(model, node)}


def test_enough_architectures_are_here_wherever_this_runs() -> None:
    assert len(NAMES) >= 40
    assert len([name for name in NAMES if not name.startswith("timm:")]) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_products_and_weights_are_those_of_the_definition(name: str) -> None:
    module, inputs = network(name)
    model, layers, costs = priced(module, inputs)
    assert unpriced(model, layers) == ()
    samples = 2 if model.dynamic_batch else 1
    assert 2 * samples * int(costs.macs.sum()) == operations(module, inputs)
    left_out = without_bytes(model, layers)
    assert set(left_out.values()) <= WITHOUT_BYTES.keys()
    parameters = {
        id(model.tensor(name)): model.tensor(name).numel() for name in read_parameters(model) if name not in left_out
    }
    # Buffers, and what is computed ahead of time, are no parameters.
    own = [
        row.shape.kind <= OpKind.DEPTHWISE or all(is_parameter(model, node) for node in row.shape.constants)
        for row in layers.rows
    ]
    assert int(costs.weight_bytes[own].sum()) == sum(parameters.values())
