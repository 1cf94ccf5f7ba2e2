"""Model files are recognised by content, loaded without running code, and refused in one clear line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from smartc.frontend.model_file import file_hash, load_model
from smartc.ir.traced_model import TracedModel
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error
from tests.support.small_networks import Lookup, Refusal, Tied, small

SMALL = "tests.support.small_networks:small"
INPUT = ("1x3x8x8",)
TRUST = "Pass allow_pickle=True if you trust its source, or ask for an exported program or a state_dict."
FACTORY = "Use the factory that the weights were trained with."


class Planted:
    """Leave a file behind when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _outputs(model: TracedModel) -> torch.Tensor:
    """Run a model on a fixed input."""
    x = torch.linspace(-1, 1, 3 * 3 * 8 * 8).reshape(3, 3, 8, 8)
    outputs: torch.Tensor = model.run((x,))
    return outputs


@pytest.mark.parametrize(
    ("name", "factory", "allow"),
    [
        ("program.pt", None, False),
        ("state.pt", SMALL, False),
        ("legacy.pt", SMALL, False),
        ("checkpoint.pt", SMALL, False),
        ("state.safetensors", SMALL, False),
        ("module.pt", None, True),
        ("module4.pt", None, True),
        ("pickle.pt", None, True),
    ],
)
def test_every_form_gives_the_same_model(model_files: Path, name: str, factory: str | None, allow: bool) -> None:
    shapes = () if name == "program.pt" else INPUT
    model = load_model(model_files / name, factory=factory, input_shapes=shapes, allow_pickle=allow)
    program = load_model(model_files / "program.pt")
    stored = dict(program.graph_module.state_dict())
    assert all(torch.equal(tensor, stored[key]) for key, tensor in model.graph_module.state_dict().items())
    assert relative_error(_outputs(program), _outputs(model)) <= FLOAT32_TOLERANCE
    assert (model.name, str(model.inputs[0])) == (name, "input: float32 Nx3x8x8")


def test_a_missing_name_may_be_tied_to_one_that_is_there(tmp_path: Path) -> None:
    safetensors.torch.save_model(Tied(), str(tmp_path / "tied.safetensors"))
    model = load_model(
        tmp_path / "tied.safetensors", factory="tests.support.small_networks:Tied", input_shapes=("2x3x4x4",)
    )
    assert model.aliases["first.weight"] == ("first.weight", "second.weight")


def test_named_inputs_with_types(tmp_path: Path) -> None:
    torch.save(Lookup().state_dict(), tmp_path / "lookup.pt")
    model = load_model(
        tmp_path / "lookup.pt",
        factory="tests.support.small_networks:Lookup",
        input_shapes=("scale=Nx1x4", "ids=int64:Nx5"),
    )
    assert sorted(map(str, model.inputs)) == ["ids: int64 Nx5", "scale: float32 Nx1x4"]


def test_the_type_of_an_input_follows_the_model(tmp_path: Path) -> None:
    torch.save(small().double(), tmp_path / "double.pt")
    model = load_model(tmp_path / "double.pt", input_shapes=INPUT, allow_pickle=True)
    assert str(model.inputs[0]) == "input: float64 Nx3x8x8"


@pytest.mark.parametrize("shape", ["1x3x8x8", "9x3x8x8", "Nx3x8x8", "input=float32:4x3x8x8"])
def test_an_exported_program_may_be_given_its_own_shapes(model_files: Path, shape: str) -> None:
    model = load_model(model_files / "fixed.pt2", input_shapes=(shape,))
    assert str(model.inputs[0]) == "input: float32 4x3x8x8"


def test_file_hash(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_hash(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere.pt", {}, "nowhere.pt: there is no such file. Check the path."),
        (
            "script.pt",
            {},
            "script.pt: it is a TorchScript archive, whose graph cannot be pruned. "
            "Export the original module by torch.export.save.",
        ),
        (
            "module.pt",
            {},
            "module.pt: it holds a pickled torch.nn.modules.container.Sequential, "
            f"which can run code when it is loaded. {TRUST}",
        ),
        ("module4.pt", {}, f"module4.pt: it holds a pickle, which can run code when it is loaded. {TRUST}"),
        ("pickle.pt", {}, f"pickle.pt: it holds a pickle, which can run code when it is loaded. {TRUST}"),
        (
            "state.pt",
            {"input_shapes": INPUT},
            "state.pt: it is a state_dict, which has no structure. "
            "Name what builds the module, as in factory='package.module:factory'.",
        ),
        (
            "state.pt",
            {"factory": SMALL},
            "state.pt: it does not say which inputs the model takes. "
            "Give the shape of each input, as in input_shapes=('1x3x224x224',).",
        ),
        (
            "program.pt",
            {"factory": SMALL},
            f"program.pt: it is an exported program, which brings its own structure. Leave factory='{SMALL}' out.",
        ),
        (
            "module.pt",
            {"factory": SMALL, "allow_pickle": True},
            f"module.pt: it is a module, which brings its own structure. Leave factory='{SMALL}' out.",
        ),
        (
            "state.pt",
            {"factory": SMALL, "input_shapes": ("1x4x8x8",)},
            "Sequential: the model does not run on inputs of shape 1x4x8x8: Given groups=1, weight of size "
            "[16, 3, 3, 3], expected input[1, 4, 8, 8] to have 3 channels, but got 4 channels instead. "
            "Give example inputs that the model accepts.",
        ),
    ],
)
def test_what_is_missing_or_too_much(refuse: Refusal, name: str, options: Any, message: str) -> None:
    assert refuse(name, **options) == message


def test_folder_and_unreadable_file(refuse: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    (refuse.folder / "folder.pt").mkdir()
    assert refuse("folder.pt") == "folder.pt: it is a folder. Name a model file."

    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("smartc.core.regular_file.os.open", denied)
    assert refuse("state.pt") == "state.pt: it cannot be read (Permission denied). Make it readable."


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            "wider",
            "state.pt, factory='{}': size mismatch for 0.weight: copying a param with shape "
            "torch.Size([16, 3, 3, 3]) from checkpoint, "
            "the shape in current model is torch.Size([17, 3, 3, 3]). " + FACTORY,
        ),
        (
            "deeper",
            "state.pt, factory='{}': 4 keys are missing (8.weight, 8.bias, 9.weight, ...). " + FACTORY,
        ),
        (
            "Tied",
            "state.pt, factory='{}': 2 keys are missing (first.weight, second.weight); "
            f"11 keys are not expected (0.weight, 0.bias, 1.weight, ...). {FACTORY}",
        ),
        (
            "broken",
            "factory='{}': calling it fails: ValueError: no such width. It is called without arguments.",
        ),
        ("number", "factory='{}': it returns int. It must return a torch.nn.Module."),
        ("SHAPE", "factory='{}': it is tuple and cannot be called. Name a function or a class."),
        ("missing", "factory='{}': module tests.support.small_networks has no missing. Check the name."),
    ],
)
def test_factories_that_do_not_fit(refuse: Refusal, factory: str, message: str) -> None:
    reference = f"tests.support.small_networks:{factory}"
    assert refuse("state.pt", factory=reference, input_shapes=INPUT) == message.format(reference)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("small", "it does not have the form package.module:name. For example shop.nets:resnet."),
        (
            "nosuchpackage.nets:small",
            "there is no module nosuchpackage. Run smartc in the folder that holds it, set PYTHONPATH, or install it.",
        ),
    ],
)
def test_references_that_lead_nowhere(refuse: Refusal, reference: str, message: str) -> None:
    assert refuse("state.pt", factory=reference, input_shapes=INPUT) == f"factory={reference!r}: {message}"


def test_unpickling_runs_code_only_with_the_flag(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(Planted(mark), tmp_path / "torch.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Planted(mark)))
    for name in ("torch.pt", "pickle.pt"):
        Refusal(tmp_path)(name)
    assert not mark.exists()
    message = Refusal(tmp_path)("torch.pt", allow_pickle=True)
    assert mark.exists()
    assert message == (
        "torch.pt: it holds NoneType without a model. Save the module's state_dict, or an exported program."
    )


def test_a_pickle_whose_class_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere.py").write_text("from torch import nn\nclass Net(nn.Module): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import elsewhere  # type: ignore[import-not-found]

    torch.save(elsewhere.Net(), tmp_path / "net.pt")
    monkeypatch.undo()
    monkeypatch.delitem(__import__("sys").modules, "elsewhere")
    assert Refusal(tmp_path)("net.pt", allow_pickle=True, input_shapes=INPUT) == (
        "net.pt: it needs code that is not here: No module named 'elsewhere'. "
        "Run smartc in the folder that holds the model's code, or set PYTHONPATH."
    )
