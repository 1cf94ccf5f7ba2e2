"""What learning minimises: distance to the dense model, cross-entropy of labels, or the user's function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from smartc.core.errors import UserError
from smartc.data.batch import Batch
from smartc.learning.objectives.distillation import Distillation
from smartc.learning.objectives.objective import FromDense, LayerByLayer, OwnLoss, cross_entropy
from tests.support.learning_networks import images, traced

LABELS = torch.arange(8) % 10
TAPS = ("conv2d", "conv2d_1", "linear")


def _distance() -> Distillation:
    """Return the distance of outputs with fixed scales."""
    return Distillation.of(traced()).fitted([traced().run((images(16),))])


def _layers(seed: int = 0) -> LayerByLayer:
    """Return the distance of layers."""
    return replace(LayerByLayer.fitted(traced(), _distance(), TAPS, [(images(16),)]), seed=seed)


def _off(by: float) -> nn.Module:
    """Return the network with one weight moved."""
    weight = traced().tensor("0.weight")
    return traced().with_tensors({"0.weight": weight + by}).graph_module


def test_the_dense_model_is_at_distance_zero_from_itself_and_others_are_not() -> None:
    batch = Batch((images(8),))
    for objective in (FromDense(traced(), _distance(), False), _layers()):
        losses = [float(objective.loss(objective.prepared(_off(by)), batch)) for by in (0.0, 0.1, 0.4)]  # type: ignore[arg-type]
        assert losses[0] == pytest.approx(0, abs=1e-6)
        assert losses[0] < losses[1] < losses[2]


def test_labels_add_their_cross_entropy() -> None:
    inputs = images(8)
    for objective in (FromDense(traced(), _distance(), True), _layers()):
        model = objective.prepared(_off(0.1))  # type: ignore[arg-type]
        with torch.no_grad():
            plain, labelled = (objective.loss(model, Batch((inputs,), labels)) for labels in (None, LABELS))
            expected = nn.functional.cross_entropy(_off(0.1)(inputs), LABELS)
        assert float(labelled - plain) == pytest.approx(float(expected), rel=1e-5)


def test_names() -> None:
    plain = "distillation from the dense model"
    assert FromDense(traced(), _distance(), False).name == plain
    assert FromDense(traced(), _distance(), True).name == f"{plain} and cross-entropy of the labels"
    assert _layers().name == f"{plain} and its 3 layers"


def test_few_samples_are_seen_in_other_views() -> None:
    batch = Batch((torch.randn(4, 3, 32, 32),), torch.arange(4))
    objective = _layers(7)
    first, again, other = (objective.varied(batch, step) for step in (1, 1, 2))
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert not torch.equal(first.inputs[0], other.inputs[0])
    assert first.labels is batch.labels
    assert FromDense(traced(), _distance(), False).varied(batch, 1) is batch


@pytest.mark.parametrize("objective", [FromDense(traced(), _distance(), False), _layers()])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(objective: Any) -> None:
    """So that several processes that share a batch minimise what one would."""
    inputs, model = images(8) * torch.linspace(0.1, 3, 8)[:, None, None, None], objective.prepared(_off(0.2))
    with torch.no_grad():
        whole, left, right = (objective.loss(model, Batch((part,))) for part in (inputs, inputs[:4], inputs[4:]))
    assert float(whole) == pytest.approx(float(left + right) / 2, rel=1e-4)


def _own(function: Any) -> OwnLoss:
    """Return a loss of the user's."""
    return OwnLoss(function, traced(), "shop:loss")


def test_a_loss_of_ones_own_gets_model_inputs_and_labels() -> None:
    seen: list[Any] = []

    def loss(model: Any, inputs: Any, labels: Any) -> torch.Tensor:
        seen.extend((model, inputs, labels))
        return nn.functional.cross_entropy(model(*inputs), labels).reshape(1)

    model, inputs = _off(0.1), images(8)
    found = _own(loss).loss(model, Batch((inputs,), LABELS))
    assert found.shape == ()
    assert seen[0] is model
    assert torch.equal(seen[1][0], inputs)
    assert seen[2] is LABELS
    assert float(found) == pytest.approx(float(nn.functional.cross_entropy(model(inputs), LABELS)))


NO_LOSS = "train='shop:loss': it returns no loss of the model. Return a tensor of one number."


@pytest.mark.parametrize(
    "returned", [None, 0.5, torch.tensor(1.0), torch.zeros(2, requires_grad=True), torch.zeros(0, requires_grad=True)]
)
def test_a_loss_that_is_none(returned: Any) -> None:
    with pytest.raises(UserError) as caught:
        _own(lambda model, inputs, labels: returned).loss(_off(0.0), Batch((images(2),)))
    assert str(caught.value) == NO_LOSS


def test_a_loss_that_fails() -> None:
    with pytest.raises(UserError) as caught:
        _own(lambda model, inputs: None).loss(_off(0.0), Batch((images(2),)))
    text = str(caught.value)
    assert text.startswith("train='shop:loss': it fails: TypeError: ")
    assert text.endswith(". It is called with the model, a tuple of its inputs, and the labels or None.")
    assert "\n" not in text


def test_cross_entropy_of_maps_and_of_several_outputs() -> None:
    scores, labels = torch.randn(2, 5, 3, 4), torch.randint(0, 5, (2, 3, 4))
    expected = nn.functional.cross_entropy(scores, labels)
    assert torch.equal(cross_entropy({"out": scores, "aux": scores * 2}, labels), expected)
    narrow = scores.bfloat16()
    assert torch.equal(cross_entropy((narrow,), labels.byte()), nn.functional.cross_entropy(narrow.float(), labels))
    labels[0] = -100  # torch leaves these out
    assert torch.equal(cross_entropy(scores, labels), nn.functional.cross_entropy(scores, labels))


@pytest.mark.parametrize(
    ("shape", "labels", "shapes"),
    [
        ((4, 10), torch.full((4,), 10), "4 and 4x10"),
        ((4, 10), torch.zeros(4), "4 and 4x10"),
        ((4, 10), torch.zeros(4, 10).long(), "4x10 and 4x10"),
        ((4, 10, 2), torch.zeros(4).long(), "4 and 4x10x2"),
        ((4,), torch.zeros(4).long(), "4 and 4"),
        ((4, 10), torch.full((4,), -1), "4 and 4x10"),
    ],
)
def test_labels_that_are_no_classes(shape: tuple[int, ...], labels: torch.Tensor, shapes: str) -> None:
    with pytest.raises(UserError) as caught:
        cross_entropy(torch.zeros(shape), labels)
    assert str(caught.value) == (
        f"data=...: labels and outputs have the shapes {shapes}, which are no class numbers and their scores. "
        "Give a loss of your own with train=..., or leave the labels out."
    )
