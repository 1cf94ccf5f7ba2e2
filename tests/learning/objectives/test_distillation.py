"""Distillation: which outputs are logits, what the loss is worth, and that it stays finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smartc.core.errors import UserError
from smartc.frontend.capture import trace
from smartc.learning.objectives.distillation import SQUARED_ERROR_SHARE, Distillation

# Sums of a few hundred float32 terms in another order.
CLOSE = 1e-5


class Head(nn.Module):
    """Apply a layer and then a function of its output."""

    def __init__(self, layer: nn.Module, function: Any) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Any:
        """Return what the function makes of the layer's output."""
        return self.function(self.layer(x))


class Product(nn.Module):
    """Multiply by a stored matrix, or by its transpose."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn((7, 4) if transposed else (4, 7)))
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 4) to (N, 7)."""
        return x @ (self.matrix.t() if self.transposed else self.matrix)


VECTOR, TOKENS, IMAGE = torch.randn(2, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 8, 8)
CONVOLUTION = nn.Conv2d(3, 5, 1)
HEADS: dict[str, tuple[nn.Module, Tensor, int | None]] = {
    "linear": (nn.Linear(4, 7), VECTOR, 1),
    "linear_dropout_scaled": (Head(nn.Linear(4, 7), lambda y: F.dropout(y, 0.5) * 0.1), VECTOR, 1),
    "log_softmax": (Head(nn.Linear(4, 7), lambda y: y.log_softmax(-1)), VECTOR, 1),
    "language": (nn.Linear(4, 7), TOKENS, 2),
    "language_transposed": (Head(nn.Linear(4, 7), lambda y: y.transpose(1, 2)), TOKENS, 1),
    "last_token": (Head(nn.Linear(4, 7), lambda y: y[:, -1]), TOKENS, 1),
    "mean_over_tokens": (Head(nn.Linear(4, 7), lambda y: y.mean(1)), TOKENS, 1),
    "product": (Product(False), VECTOR, 1),
    "product_transposed": (Product(True), VECTOR, 1),
    "segmentation": (Head(CONVOLUTION, lambda y: F.interpolate(y, scale_factor=2.0, mode="bilinear")), IMAGE, 1),
    "pooled": (Head(CONVOLUTION, lambda y: F.adaptive_avg_pool2d(y, 1).flatten(1)), IMAGE, 1),
    "mean_over_space": (Head(CONVOLUTION, lambda y: y.mean((2, 3))), IMAGE, 1),
    "permuted_flat": (Head(CONVOLUTION, lambda y: y.permute(0, 2, 3, 1).flatten(1, 2)), IMAGE, 2),
    "permuted_view": (Head(CONVOLUTION, lambda y: y.view(y.shape[0], 5, 64).permute(0, 2, 1)), IMAGE, 2),
    "squeezed": (Head(CONVOLUTION, lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(-1)), IMAGE, 1),
    "unsqueezed": (Head(nn.Linear(4, 7), lambda y: y.unsqueeze(1)), VECTOR, 2),
    "one_class": (nn.Linear(4, 1), VECTOR, None),
    "sigmoid": (Head(nn.Linear(4, 7), torch.sigmoid), VECTOR, None),
    "relu": (Head(nn.Linear(4, 7), torch.relu), VECTOR, None),
    "heads_apart": (Head(nn.Linear(4, 6), lambda y: y.view(y.shape[0], 3, 2, 3)), TOKENS, None),
    "flat_map": (Head(CONVOLUTION, lambda y: y.flatten(1)), IMAGE, None),
    "sum_of_two": (Head(nn.Linear(4, 7), lambda y: y + y.flip(1)), VECTOR, None),
    "one_class_picked": (Head(nn.Linear(4, 7), lambda y: y[:, 2]), VECTOR, None),
    "normalised": (Head(nn.Linear(4, 7), lambda y: F.layer_norm(y, (7,))), TOKENS, None),
    "input": (Head(nn.Identity(), lambda y: y * 2), VECTOR, None),
}


@pytest.mark.parametrize("name", HEADS)
def test_tells_logits_from_features(name: str) -> None:
    module, example, axis = HEADS[name]
    assert Distillation.of(trace(module, example)).axes == (axis,)


class Many(nn.Module):
    """Return logits, a feature, whole numbers, flags and plain values in a structure."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(4, 7), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Map (N, 4) to a dict."""
        logits = self.head(x)
        return {"a": [logits, torch.tanh(self.body(x))], "b": (logits.argmax(1), logits > 0, None, 3)}


def test_takes_any_structure_and_ignores_what_is_not_floating() -> None:
    model = trace(Many(), VECTOR)
    distillation = Distillation.of(model, temperature=3.0)
    assert distillation.axes == (1, None, None, None, None, None)
    teacher, student = model.run((torch.randn(6, 4),)), model.run((torch.randn(6, 4),))
    (left, feature), (right, goal) = student["a"], teacher["a"]
    divergence = (
        9 * (right.div(3).softmax(1) * (right.div(3).log_softmax(1) - left.div(3).log_softmax(1))).sum(1).mean()
    )
    error = (left - right).square().mean() / right.var(correction=0)
    expected = (
        divergence + SQUARED_ERROR_SHARE * error + (feature - goal).square().mean() / goal.var(correction=0)
    ) / 2
    assert distillation.loss(student, teacher).item() == pytest.approx(expected.item(), rel=CLOSE)
    assert distillation.loss(teacher, teacher).item() == pytest.approx(0, abs=CLOSE)


def test_a_constant_shift_of_logits_costs_something() -> None:
    teacher = torch.randn(8, 7)
    assert Distillation((1,)).loss(teacher + 1, teacher).item() > 0.05


def test_positions_of_a_dense_prediction_count_equally() -> None:
    teacher, student = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3)
    rows = [value.permute(0, 2, 3, 1).reshape(-1, 5) for value in (student, teacher)]
    assert Distillation((1,)).loss(student, teacher).item() == pytest.approx(
        Distillation((1,)).loss(*rows).item(), rel=CLOSE
    )


def test_the_teacher_gets_no_gradient_and_the_student_does() -> None:
    teacher, student = (torch.randn(4, 7, requires_grad=True) for _ in range(2))
    Distillation((1,)).loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("axis", [1, None])
def test_gradient_is_right(axis: int | None) -> None:
    teacher = torch.randn(3, 4, dtype=torch.float64)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Distillation((axis,)).loss(x, teacher), (student,))


def test_stays_finite_in_bfloat16_and_is_computed_in_float32() -> None:
    student = (torch.randn(4, 1000) * 100).bfloat16().requires_grad_()
    teacher = (torch.randn(4, 1000) * 100).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = Distillation((1,)).loss(student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("axis", [1, None])
def test_infinite_logits_of_masked_classes_are_left_out(axis: int | None) -> None:
    teacher = torch.randn(4, 6)
    teacher[:, 2] = -torch.inf
    student = torch.where(teacher.isfinite(), torch.randn(4, 6), -torch.inf).requires_grad_()
    loss = Distillation((axis,)).loss(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("teacher", [torch.zeros(4, 3), torch.ones(4, 3), torch.tensor(2.0), torch.ones(1, 1)])
def test_outputs_that_do_not_vary_do_not_divide_by_zero(teacher: Tensor) -> None:
    assert Distillation((None,)).loss(teacher + 0.01, teacher).isfinite()


def test_fitted_scales_make_the_loss_the_mean_of_its_parts() -> None:
    teacher, student = torch.randn(8, 5) * 3, torch.randn(8, 5)
    fixed = Distillation((None,)).fitted([teacher[:6], teacher[6:]])
    assert fixed.scales == pytest.approx((teacher.var(correction=0).item(),), rel=CLOSE)
    halves = [fixed.loss(student[part], teacher[part]) for part in (slice(0, 4), slice(4, 8))]
    assert fixed.loss(student, teacher).item() == pytest.approx(torch.stack(halves).mean().item(), rel=CLOSE)


def test_refuses_a_model_without_floating_outputs() -> None:
    model = trace(Head(nn.Linear(4, 7), lambda y: y.argmax(1)), VECTOR)
    with pytest.raises(UserError) as caught:
        Distillation.of(model)
    assert str(caught.value) == (
        "Head: none of its 1 outputs is a floating-point tensor, so that there is nothing to imitate. Give labels "
        "or a loss function, or let the model return what it computes them from."
    )


def test_refuses_what_does_not_belong_together() -> None:
    with pytest.raises(ValueError, match=r"^there are 2 outputs, and 1 were expected$"):
        Distillation((None,)).loss((VECTOR, VECTOR), VECTOR)
    with pytest.raises(ValueError, match=r"^output 0 has shape \(2, 4\), the teacher's \(1, 4\)$"):
        Distillation((None,)).loss(VECTOR, VECTOR[:1])
    with pytest.raises(ValueError, match=r"^no output is a floating-point tensor with elements$"):
        Distillation((None,)).loss(VECTOR[:0], VECTOR[:0])
    with pytest.raises(ValueError, match=r"^the temperature is 0, and must be positive$"):
        Distillation.of(trace(nn.Linear(4, 7), VECTOR), temperature=0)
