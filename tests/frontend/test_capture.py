"""Capture keeps what the user's module is: its inputs, outputs, names, types and state."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smartc.core.errors import UserError
from smartc.core.quiet import quiet
from smartc.frontend.capture import trace
from smartc.ir.traced_model import Remark, TracedModel
from tests.support.oracle import relative_error
from tests.support.rule_networks import Network
from tests.support.small_networks import Tied


def classifier() -> nn.Module:
    """Return a network that keeps its batch free and behaves otherwise in training."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def refusal(module: nn.Module, inputs: Any) -> str:
    """Return the message with which a module is refused."""
    with pytest.raises(UserError) as caught:
        trace(module, inputs)
    return str(caught.value)


def line_of(function: Any, text: str) -> str:
    """Return the file and line of a piece of a function's source."""
    lines, first = inspect.getsourcelines(function)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)}"


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batch_is_free_whatever_the_example(batch: int) -> None:
    module = classifier()
    model = trace(module, torch.zeros(batch, 3, 6, 6))
    assert model.dynamic_batch
    assert [str(spec) for spec in model.inputs] == ["input: float32 Nx3x6x6"]
    assert model.remarks == ()
    for size in (1, 2, 3):
        x = torch.randn(size, 3, 6, 6)
        assert relative_error(module.eval()(x), model.run((x,))) == 0


def test_batch_is_fixed_where_inputs_do_not_share_it() -> None:
    model = trace(Network(lambda net, x, y: x + y.sum()), (torch.zeros(2, 3), torch.zeros(4)))
    text = "the batch is fixed to the example's: its tensor inputs do not share the size of axis 0"
    assert model.remarks == (Remark("Network", text),)
    assert [str(spec) for spec in model.inputs] == ["inputs_0: float32 2x3", "inputs_1: float32 4"]


class Named(NamedTuple):
    """An output with names."""

    total: Tensor
    parts: dict[str, Any]


class Keywords(nn.Module):
    """Takes named inputs in a structure and gives a structure."""

    def forward(self, image: Tensor, *, other: dict[str, Tensor], scale: float = 2.0) -> Named:
        total = image * scale + other["a"].sum(1, keepdim=True)
        return Named(total, {"list": [image, None, 3], "image": total.relu()})


def test_keyword_inputs_and_output_structure_are_kept() -> None:
    inputs = {"image": torch.randn(1, 3), "other": {"a": torch.randn(1, 4)}, "scale": 0.5}
    model = trace(Keywords(), inputs)
    wide = {"image": torch.randn(3, 3), "other": {"a": torch.randn(3, 4)}, "scale": 0.5}
    outputs = model.graph_module(**wide)
    assert model.dynamic_batch
    assert isinstance(outputs, Named)
    assert relative_error(Keywords()(**wide), outputs) == 0
    assert model.arguments((wide["image"], wide["other"]["a"], 0.5)) == ((), wide)  # type: ignore[index]


def test_batch_is_free_where_the_forward_takes_any_number_of_inputs() -> None:
    module = Network(lambda net, x, y: net.layer(x) + y, layer=nn.Linear(3, 4))
    model = trace(module, (torch.zeros(2, 3), torch.zeros(2, 4)))
    assert [spec.shape for spec in model.inputs] == [(None, 3), (None, 4)]
    assert model.run((torch.zeros(5, 3), torch.ones(5, 4))).shape == (5, 4)


def test_tensor_tuple_and_list_of_inputs_are_the_same() -> None:
    x = torch.randn(2, 3, 6, 6)
    outputs = [trace(classifier(), inputs).run((x,)) for inputs in (x, (x,), [x])]
    assert relative_error(outputs[0], outputs[1]) == relative_error(outputs[0], outputs[2]) == 0


class Restless(nn.Module):
    """Counts its calls and changes its input."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x.sub_(1.0))


def test_leaves_mode_tensors_and_inputs_alone() -> None:
    norm, x = nn.BatchNorm1d(3).eval(), torch.ones(2, 3)
    module = nn.Sequential(Restless(), norm, nn.Dropout())
    module.training = False
    before, modes = copy.deepcopy(module.state_dict()), [child.training for child in module.modules()]
    trace(module, x)
    assert [child.training for child in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(x, torch.ones(2, 3))


def test_shares_parameters_and_their_names_with_the_module() -> None:
    module = classifier()
    model = trace(module, torch.zeros(2, 3, 6, 6))
    assert model.state_names == set(module.state_dict())
    assert model.tensor("0.weight").data_ptr() == module.get_parameter("0.weight").data_ptr()
    assert model.name == "Sequential"


def test_tied_parameter_has_all_its_names() -> None:
    names = ("first.weight", "second.weight")
    model = trace(Tied(), torch.zeros(2, 3, 4, 4))
    assert model.names_of("first.weight") == model.names_of("second.weight") == names
    assert trace(classifier(), torch.zeros(2, 3, 6, 6)).names_of("0.weight") == ("0.weight",)


def test_parameters_of_one_storage_are_tied_and_its_transpose_is_not() -> None:
    first, second, turned = (nn.Linear(3, 3, bias=False) for _ in range(3))
    second.weight, turned.weight = nn.Parameter(first.weight.data), nn.Parameter(first.weight.data.t())
    model = trace(nn.Sequential(first, second, turned), torch.zeros(2, 3))
    assert model.names_of("0.weight") == ("0.weight", "1.weight")
    assert model.names_of("2.weight") == ("2.weight",)


def test_parts_for_training_are_named() -> None:
    class StochasticDepth(nn.Identity):
        """Stands for torchvision's."""

    model = trace(nn.Sequential(StochasticDepth(), nn.Linear(3, 3)), torch.zeros(2, 3))
    text = "takes no part in inference and is not in the compiled model"
    assert model.remarks == (Remark("StochasticDepth", text),)


def test_wrong_shape_is_refused() -> None:
    assert refusal(nn.Sequential(nn.Linear(4, 2)), torch.zeros(2, 5)) == (
        "Sequential: the model does not run on inputs of shape 2x5: mat1 and mat2 shapes cannot be multiplied "
        "(2x5 and 4x2). Give example inputs that the model accepts."
    )


def test_missing_input_is_refused() -> None:
    assert refusal(nn.Sequential(nn.Linear(4, 2)), ()) == (
        "Sequential: the model does not run on inputs of shape none: Sequential.forward() missing 1 required "
        "positional argument: 'input'. Give example inputs that the model accepts."
    )


def test_name_that_torch_keeps_for_itself_is_refused() -> None:
    assert refusal(Network(lambda net, x: x * net.code, code=(3,)), torch.zeros(2, 3)) == (
        "Network: torch.export cannot put the model's parameters under their names: \"attribute 'code' already "
        'exists". Rename the layer or parameter that this names.'
    )


def branching(net: Any, x: Tensor) -> Tensor:
    """Depend on a value."""
    if x.sum() > 0:
        return x
    return -x


def counting(net: Any, x: Tensor) -> Tensor:
    """Depend on a number taken from a tensor."""
    return x[:, : int(x.sum().item())]


@pytest.mark.parametrize(
    ("function", "line", "fact"),
    [
        (branching, "if x.sum() > 0:", "Could not guard on data-dependent expression Eq(u0, 1)"),
        (counting, "x.sum().item()", "Could not extract specialized integer from data-dependent expression"),
    ],
)
def test_refused_export_names_the_line(function: Any, line: str, fact: str, capfd: pytest.CaptureFixture[str]) -> None:
    message = refusal(Network(function), torch.ones(2, 3))
    assert message.startswith(f"Network: torch.export refuses the model: {fact}")
    place = f"(at {line_of(function, line)}, in {function.__name__})."
    assert message.endswith(f"{place} Change that line so that it does not depend on the values of tensors.")
    assert "\n" not in message
    assert capfd.readouterr().err == ""


def test_float64_stays_float64() -> None:
    module = classifier().double().eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    model = trace(module, x)
    assert model.dtype == model.run((x,)).dtype == torch.float64
    assert relative_error(module(x), model.run((x,))) == 0


def captured() -> TracedModel:
    """Return a captured network of two names for one weight."""
    return trace(Tied(), torch.randn(2, 3, 4, 4))


def test_copy_has_its_own_graph_and_the_same_tensors() -> None:
    model, x = captured(), torch.randn(3, 3, 4, 4)
    fresh = model.copy()
    for node in list(fresh.calls(torch.ops.aten.relu.default)):
        node.target = torch.ops.aten.neg.default
    fresh.cleaned()
    assert fresh.tensor("first.weight") is model.tensor("first.weight")
    assert len(list(model.calls(torch.ops.aten.relu.default))) == 1
    assert relative_error(model.run((x,)), fresh.run((x,))) > 0.1


def test_with_tensors_changes_all_names_of_the_copy_only() -> None:
    model, x = captured(), torch.randn(3, 3, 4, 4)
    zeroed = model.with_tensors({"second.weight": torch.zeros(3, 3, 1, 1)})
    assert isinstance(zeroed.tensor("second.weight"), nn.Parameter)
    assert zeroed.run((x,)).abs().max() == 0
    assert model.run((x,)).abs().max() > 0


def test_unknown_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the model has no tensor 'third.weight'$"):
        captured().set_tensor("third.weight", torch.zeros(3))


def test_to_converts_tensors_inputs_and_literal_types() -> None:
    model = trace(
        Network(lambda net, x: F.softmax(net.w(x), 1, dtype=torch.float32), w=nn.Linear(3, 3)), torch.zeros(2, 3)
    )
    wide = model.to(torch.float64)
    assert wide.dtype == wide.inputs[0].dtype == wide.examples[0].dtype == torch.float64
    assert wide.run((torch.zeros(2, 3, dtype=torch.float64),)).dtype == torch.float64
    assert model.dtype == model.run((torch.zeros(2, 3),)).dtype == torch.float32


def test_run_overwrites_nothing() -> None:
    module, x = (
        Network(lambda net, x: net.count.add_(1) + x.view(-1).sub_(1).sum() + x, count=torch.zeros(())),
        torch.ones(2, 3),
    )
    model = trace(module, x)
    assert relative_error(model.run((x,)), model.run((x,))) == 0
    assert torch.equal(x, torch.ones(2, 3))
    assert module.get_buffer("count") == 0


def test_run_needs_no_gradients() -> None:
    model = captured()
    assert not model.run((torch.randn(2, 3, 4, 4),)).requires_grad
    assert model.tensor("first.weight").requires_grad


@pytest.mark.parametrize("name", ["torch.export", "torch.onnx._internal.exporter._registration"])
def test_what_exporters_say_of_themselves_is_silenced(name: str) -> None:
    """The second says that torchvision is missing, which no user of smartc need have."""
    logger = logging.getLogger(name)
    before = logger.isEnabledFor(logging.ERROR)
    with quiet():
        assert not logger.isEnabledFor(logging.ERROR)
    assert logger.isEnabledFor(logging.ERROR) == before
