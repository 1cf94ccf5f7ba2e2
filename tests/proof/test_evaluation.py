"""Accuracy, metrics and agreement are right, and labelled inputs that do not fit are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from smartc.core.errors import UserError
from smartc.frontend.capture import from_program, trace
from smartc.proof.evaluation import Labelled, Metric, agreement, check_fits, evaluate, evaluation, load_labelled
from smartc.results.figures import Agreement, Evaluation

FORMS = "Give an .npz, .safetensors or .pt file with inputs and labels."
OWN = "Give a metric of your own, as package.module:function."


class Brightest(nn.Module):
    """Score each class by the mean of its channel; a batch of another size than asked for fails."""

    def __init__(self, batch: int | None = None) -> None:
        super().__init__()
        self.batch = batch
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C)."""
        if self.batch is not None:
            assert len(x) == self.batch
        return x.mean((2, 3)) * self.weight


def three_quarters(model: nn.Module) -> float:
    """Return a fixed figure, if there is a model."""
    return 0.75 if isinstance(model, nn.Module) else 0.0


def nothing(model: nn.Module) -> float:
    """Fail."""
    raise KeyError("image_id")


def _images(count: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of three channels, and the number of the brightest; the last label is wrong."""
    labels = torch.arange(count) % 3
    inputs = torch.full((count, 3, 2, 2), 10, dtype=torch.uint8)
    inputs[torch.arange(count), labels] = 200
    labels[-1] = (labels[-1] + 1) % 3
    return inputs, labels


def _save(path: Path, inputs: Any, labels: Any) -> Path:
    """Save two arrays in the form that the name asks for."""
    if path.suffix == ".npz":
        np.savez(path, inputs=inputs.numpy(), labels=labels.numpy())
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file({"inputs": inputs, "labels": labels}, path)
    elif path.suffix == ".pt":
        torch.save({"inputs": inputs, "labels": labels}, path)
    else:
        torch.save((inputs, labels), path)
    return path


@pytest.mark.parametrize("name", ["data.npz", "data.safetensors", "data.pt", "data.pth"])
def test_accuracy_from_every_form(tmp_path: Path, name: str) -> None:
    labelled = load_labelled(str(_save(tmp_path / name, *_images())))
    assert isinstance(labelled, Labelled)
    assert labelled.source == name
    check_fits(labelled, trace(Brightest(), torch.zeros(2, 3, 2, 2)).inputs)
    assert evaluate(Brightest(batch=4), labelled, batch_size=4) == pytest.approx(0.9)


def test_uint8_images_are_scaled_and_floats_are_not() -> None:
    class Bright(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.flatten(1).mean(1), torch.full((len(x),), 1.5)], 1)

    inputs = torch.full((4, 3, 2, 2), 255, dtype=torch.uint8)
    for given, share in ((inputs, 1.0), (inputs.double(), 0.0)):
        assert evaluate(Bright(), Labelled(given, torch.ones(4, dtype=torch.int64), "x")) == share


def test_dense_prediction() -> None:
    inputs = torch.rand(5, 3, 4, 4)
    labelled = load_labelled((inputs, inputs.argmax(1)))
    assert evaluate(nn.Identity(), labelled, 2) == 1.0


def test_before_and_after_with_a_fixed_batch() -> None:
    program = torch.export.export(Brightest(), (torch.zeros(4, 3, 2, 2),))
    model = from_program(program, "brightest")
    labelled = load_labelled(_images())
    assert evaluation(model, model, labelled) == Evaluation("labelled inputs", "accuracy", 10, 0.9, 0.9)


def test_metrics() -> None:
    model = trace(Brightest(), torch.zeros(2, 3, 2, 2))
    reference = "tests.proof.test_evaluation:three_quarters"
    named, given = load_labelled(reference), load_labelled(three_quarters)
    check_fits(named, model.inputs)
    assert evaluation(model, model, named) == Evaluation(reference, "three_quarters", 0, 0.75, 0.75)
    assert evaluation(model, model, given) == Evaluation("three_quarters", "three_quarters", 0, 0.75, 0.75)


def _refused(action: Callable[..., Any], *arguments: Any) -> str:
    """Return the message of the refusal."""
    with pytest.raises(UserError) as caught:
        action(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (
            torch.zeros(3, 2),
            torch.zeros(4, dtype=torch.int64),
            "inputs of shape 3x2 and labels of shape 4 differ in length. Give one label per input.",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(3),
            "labels are float32 and must be integers. Give the number of the class, from 0.",
        ),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "it holds no inputs. Give at least one."),
        (
            torch.tensor([[1.0], [math.nan], [math.inf]]),
            torch.zeros(3, dtype=torch.int64),
            "2 of 3 inputs hold values that are not finite numbers. Leave these inputs out.",
        ),
    ],
)
def test_inputs_and_labels_that_do_not_fit(
    tmp_path: Path, inputs: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    path = _save(tmp_path / "data.npz", inputs, labels)
    assert _refused(load_labelled, str(path)) == f"{path}: {message}"


def test_files_that_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "keys.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(tmp_path / "objects.npz", inputs=np.array(["a", "b"]), labels=np.array([0, 1]))
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "keys.npz").read_bytes()[:200])
    for name, message in {
        "keys.npz": f"it lacks inputs and labels; it holds a, b. {FORMS}",
        "objects.npz": "inputs are <U1. Store them as numbers.",
        "tensor.pt": f"it holds Tensor. {FORMS}",
        "text.npz": f"it is damaged, or no file of arrays. {FORMS}",
        "cut.npz": f"it is damaged, or no file of arrays. {FORMS}",
        "nowhere.npz": "there is no such file. Check the path.",
        ".": f"it is a folder. {FORMS}",
    }.items():
        path = tmp_path / name
        assert _refused(load_labelled, str(path)) == f"{path}: {message}"


def test_what_is_neither_file_nor_function() -> None:
    assert _refused(load_labelled, 3) == (
        "evaluate: int holds no labelled inputs. "
        "Give a file, a pair of tensors (inputs, labels), or a function of the model."
    )
    assert _refused(load_labelled, "tests.proof.test_evaluation:missing") == (
        "evaluate='tests.proof.test_evaluation:missing': "
        "module tests.proof.test_evaluation has no missing. Check the name."
    )


def test_inputs_that_the_model_does_not_take() -> None:
    model = trace(Brightest(), torch.zeros(2, 3, 2, 2))
    takes = "the model takes x: float32 Nx3x2x2"
    labels = torch.zeros(5, dtype=torch.int64)
    for inputs, message in (
        (
            torch.zeros(5, 2, 2, 3),
            f"its inputs have the shape 5x2x2x3 and {takes}. Give inputs of the model's shape.",
        ),
        (
            labels.reshape(5, 1, 1, 1).expand(5, 3, 2, 2),
            f"its inputs are int64 and {takes}. Give inputs of the model's type.",
        ),
    ):
        assert _refused(check_fits, Labelled(inputs, labels, "x.npz"), model.inputs) == f"evaluate='x.npz': {message}"
    assert _refused(check_fits, Labelled(torch.zeros(5, 3, 2, 2), labels, "x.npz"), model.inputs * 2) == (
        f"evaluate='x.npz': the model has 2 inputs and the labelled file has one. {OWN}"
    )


def test_outputs_without_accuracy() -> None:
    inputs, labels = _images()
    assert _refused(evaluate, nn.Identity(), Labelled(inputs, labels, "x.npz")) == (
        f"evaluate='x.npz': the model's output has the shape 100x3x2x2 and the labels 10, "
        f"so there is no accuracy. {OWN}"
    )
    assert _refused(evaluate, Brightest(), Labelled(inputs, labels + 3, "x.npz")) == (
        "evaluate='x.npz': labels go from 3 to 5 and the model has 3 classes. Number the classes from 0."
    )
    assert _refused(evaluate, Brightest(), Metric(nothing, "shop:nothing")) == (
        "evaluate='shop:nothing': it fails: KeyError: 'image_id'. It is called with the model and must return a number."
    )


def test_agreement() -> None:
    reference = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0], [4.0, 3.0]])
    found = agreement(reference, outputs, 3, "some")
    assert (found.inputs, found.source, found.max_abs) == (3, "some", 1.0)
    assert (found.top1, found.cosine) == pytest.approx((2 / 3, (1 + 1 + 0.96) / 3))


def test_agreement_of_structures_and_batches() -> None:
    first = {"scores": torch.tensor([[1.0, 0.0]]), "mask": torch.zeros(1, 2, 2), "count": torch.tensor([3])}
    second = {
        "scores": torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
        "mask": torch.ones(2, 2, 2),
        "count": torch.tensor([3, 4]),
    }
    other = {**second, "count": torch.tensor([3, 2]), "scores": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}
    found = agreement([first, second], [first, other], 3, "two batches")
    assert (found.inputs, found.source, found.max_abs) == (3, "two batches", 2.0)
    assert (found.top1, found.cosine) == pytest.approx((2 / 3, 8 / 9))


def test_agreement_where_numbers_are_missing() -> None:
    odd = torch.tensor([[math.inf, math.nan, -math.inf]])
    assert agreement(odd, odd, 1, "x").max_abs == 0.0
    assert math.isnan(agreement(odd, torch.zeros(1, 3), 1, "x").cosine)
    assert agreement(torch.zeros(2, 3), torch.zeros(2, 3), 2, "x") == Agreement(2, "x", 1.0, 1.0, 0.0)
    assert agreement((), (), 0, "x") == Agreement(0, "x", None, 1.0, 0.0)


def test_agreement_needs_the_same_structure() -> None:
    with pytest.raises(ValueError, match=r"the outputs differ in shape: \(2, 3\) and \(2, 4\)"):
        agreement(torch.zeros(2, 3), torch.zeros(2, 4), 2, "x")
    with pytest.raises(ValueError, match="the outputs differ in structure"):
        agreement([torch.zeros(2)], {"a": torch.zeros(2)}, 2, "x")
