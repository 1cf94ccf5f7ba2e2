"""The table of operators: its facts are true of PyTorch's operators, and one line more is known everywhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import smartc
from smartc.analysis.channel_rules.registry import rule_of
from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import Layers, find_layers
from smartc.core.errors import UserError
from smartc.ir.operators.operator import Operator, Vector, VectorMath
from smartc.ir.operators.table import OPERATORS, families, names_of_onnx, operator_named
from smartc.ir.traced_model import TracedModel, operator_name
from smartc.selection.channel_energy import unit_energy
from smartc.targets.target import load_target
from tests.support.oracle import relative_error

aten = torch.ops.aten
# Shapes are no tensors of floats, and what a cast gives depends on its other arguments.
MORE_ARGUMENTS = {"to": (torch.float64,), "_to_copy": (), "type_as": (torch.zeros(1),), "dropout": (0.5, False)}
MORE_ARGUMENTS |= {"feature_dropout": (0.5, False)}


@torch.library.custom_op("smartc_tests::soft_sign", mutates_args=())
def soft_sign(x: Tensor) -> Tensor:
    """Return x / (1 + |x|)."""
    return x / (1 + x.abs())


@soft_sign.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def sinh_formula(x: Vector, vector: VectorMath) -> Vector:
    """Return the hyperbolic sine."""
    grown = vector.exponential(x)
    return (grown - vector.number(1.0) / grown) * vector.number(0.5)


def soft_sign_formula(x: Vector, vector: VectorMath) -> Vector:
    """Return x / (1 + |x|)."""
    return x / (vector.number(1.0) + vector.maximum(x, vector.number(0.0) - x))


SINH = Operator("sinh", "activation", "unary", zero_at_zero=True, fused="silu", formula=sinh_formula)
SOFT_SIGN = Operator("soft_sign", "activation", "unary", zero_at_zero=True, formula=soft_sign_formula)
NEW: dict[str, tuple[Operator, Callable[[Tensor], Tensor]]] = {
    "sinh": (SINH, torch.sinh),
    "soft_sign": (SOFT_SIGN, soft_sign),
}


class Network(nn.Module):
    """A function of single elements after a pooling, where nothing takes it in, and between two convolutions."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of 8 channels."""
        return self.function(self.last(self.function(self.pool(self.first(x)))))


def built(name: str) -> tuple[nn.Module, Tensor]:
    """Return the network with one of the new operators, and its input."""
    torch.manual_seed(0)
    return Network(NEW[name][1]).eval(), torch.randn(2, 3, 8, 8)


def layers_of(model: TracedModel) -> Layers:
    """Return the layers of a model."""
    return find_layers(model, find_channel_groups(model))


@pytest.fixture(params=NEW)
def new(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Add one line to the table and return the name of its operator."""
    name: str = request.param
    assert name not in OPERATORS
    monkeypatch.setitem(OPERATORS, name, NEW[name][0])
    return name


def test_zeros_stay_where_the_table_says_so() -> None:
    real, imaginary = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.complex64)
    for row in OPERATORS.values():
        if row.rule == "unary" and row.zero_at_zero:
            zeros = imaginary if row.name == "_conj" else real
            assert not getattr(aten, row.name)(zeros, *MORE_ARGUMENTS.get(row.name, ())).any(), row.name


def test_weights_are_the_arguments_that_schemas_say() -> None:
    for row in OPERATORS.values():
        if row.weight is not None:
            packet = getattr(aten, row.name)
            names = [argument.name for argument in getattr(packet, packet.overloads()[0])._schema.arguments]
            assert names[row.weight.place] in (row.weight.name, "other"), row.name
            assert row.weight.bias is None or names[row.weight.bias] == "bias"


def test_operator_that_the_table_lacks_works_element_by_element_and_has_no_rule() -> None:
    unknown = operator_named("made_up")
    assert (unknown.cost, unknown.rule, unknown.identity) == ("vector", "", False)
    assert unknown.family not in families()
    assert rule_of("made_up") is None


def test_operators_of_onnx() -> None:
    assert names_of_onnx("ConvTranspose") == ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    assert set(names_of_onnx("MatMul")) == {"linear", "matmul", "mm", "bmm", "scaled_dot_product_attention"}
    assert names_of_onnx("Relu") == ("relu",)


@pytest.mark.parametrize("name", NEW)
def test_without_a_line_channels_stay(name: str) -> None:
    module, x = built(name)
    groups = find_channel_groups(smartc.trace(module, x))
    assert groups.count == 0
    assert groups.frozen["first.weight", 0] == f"meets `{name}` ({name}), which has no rule for channels yet"
    assert not load_target("npu-8x8").supports(name)


def test_channels_travel_through_a_new_operator(new: str) -> None:
    module, x = built(new)
    groups = find_channel_groups(smartc.trace(module, x))
    assert [(group.name, len(group)) for group in groups.groups] == [("first", 16)]


def test_layers_list_and_price_a_new_operator(new: str) -> None:
    module, x = built(new)
    layers = layers_of(smartc.trace(module, x))
    own = [place for place, row in enumerate(layers.rows) if row.op == new]
    fused = [operator_name(node.target) for row in layers.rows for node in row.fused]
    assert (len(own), fused) == ((0, [new, new]) if NEW[new][0].fused else (2, []))
    target = load_target("npu-8x8")
    work = layers.workload(target, layers.full_sizes)
    assert work.supported.all()
    assert (target.price(work).total > 0).all()


def test_energy_goes_through_a_new_operator(new: str) -> None:
    """Channels whose values are larger bring their reader more, as the function says."""
    module, x = built(new)
    with torch.no_grad():
        module.last.weight.fill_(1.0)  # type: ignore[union-attr, operator]
        module.first.bias.copy_(torch.linspace(0.5, 2.0, 16))  # type: ignore[union-attr, operator]
        module.first.weight.fill_(0.01)  # type: ignore[union-attr, operator]
    model = smartc.trace(module, x)
    energy = unit_energy(model, find_channel_groups(model))
    mean = NEW[new][1](torch.linspace(0.5, 2.0, 16, dtype=torch.float64)).numpy()
    assert energy / energy[0] == pytest.approx(mean**2 / mean[0] ** 2, rel=0.01)


def test_tvm_computes_a_new_operator_by_its_formula(new: str) -> None:
    pytest.importorskip("tvm")
    from smartc.lowering.to_tvm import to_tvm

    module, x = built(new)
    with torch.no_grad():
        wanted = module(x)
    (output,) = to_tvm(smartc.trace(module, x), batch=2).run([x])
    assert relative_error([wanted], [torch.from_numpy(output)]) < 1e-6


def test_tvm_refuses_an_operator_that_nobody_has_a_form_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tvm")
    from smartc.lowering.to_tvm import to_tvm

    monkeypatch.setitem(OPERATORS, "soft_sign", replace(SOFT_SIGN, formula=None))
    module, x = built("soft_sign")
    with pytest.raises(UserError, match=r"TVM has no form for the operator .*soft_sign"):
        to_tvm(smartc.trace(module, x), batch=2)


def test_model_with_a_new_operator_is_pruned_proved_and_lowered(new: str, tmp_path: Path) -> None:
    module, x = built(new)
    # PyTorch's exporter knows its own operators; what an operator of the user's is in ONNX, nobody does.
    backends = ["pt2", *(["onnx"] if new == "sinh" else []), *(["tvm"] if importlib.util.find_spec("tvm") else [])]
    compiled = smartc.compile(module, x, target="npu-8x8", sparsity=0.5, granularity="channel", backends=backends)
    stages = {"onnx": "masked == ONNX Runtime", "tvm": "masked == TVM"}
    assert all(proof.passed for proof in compiled.report.verify)
    assert {stages[backend] for backend in backends[1:]} <= {proof.stage for proof in compiled.report.verify}
    assert compiled.model.tensor("first.weight").shape[0] == 8
    compiled.save(tmp_path / "build")
    files = {"pt2": "model.pt2", "onnx": "model.onnx", "tvm": "model.so"}
    assert all((tmp_path / "build" / files[backend]).stat().st_size for backend in backends)
