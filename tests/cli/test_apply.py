"""``smartc apply``: a build becomes weights that load into the user's own class."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import smartc
from smartc.cli.main import main
from smartc.core.errors import UserError
from tests.support.own_classes import Spelled
from tests.support.small_networks import SHAPE, small

MAKER = "tests.support.small_networks:small"


@pytest.fixture(scope="module")
def build(model_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the small network."""
    folder = tmp_path_factory.mktemp("builds") / "build"
    arguments = ["--target=npu-8x8", "--backend=pt2", "-q", "-o", str(folder)]
    assert main(["compile", str(model_files / "program.pt"), *arguments]) == 0
    return folder


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return the line that a command ends with, with exit code 2."""
    assert main(["apply", *map(str, arguments)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    return errors.strip()


@pytest.mark.parametrize("named", ["plan.json", "."])
def test_the_weights_load_into_the_class(
    build: Path, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.safetensors"
    assert main(["apply", str(build / named), MAKER, "-o", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Sequential: 4 layers have other sizes; it computes what {build / 'model.pt2'} does"
    assert lines[-3:] == [
        f"written: {file}. Load it by",
        "  import smartc; from tests.support.small_networks import small",
        f"  model = smartc.resized(small(), {str(file)!r})",
    ]
    model, inputs = smartc.resized(small(), file), torch.randn(3, *SHAPE)
    assert model.load_state_dict(load_file(file), strict=True)
    torch.testing.assert_close(model(inputs), smartc.load(build)(inputs))
    assert repr(model.get_submodule("0")) == "Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"


def test_weights_of_a_file_are_cut(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {
        name: torch.randn_like(one) if one.is_floating_point() else one for name, one in small().state_dict().items()
    }
    other["1.running_var"] = other["1.running_var"].abs()
    save_file(other, tmp_path / "own.safetensors")
    file = tmp_path / "weights.safetensors"
    given = ["--weights", str(tmp_path / "own.safetensors")]
    assert main(["apply", str(build), MAKER, *given, "-o", str(file)]) == 0
    kept = smartc.load(build).plan.tensors["0.weight"]["axes"][0]["kept"]
    assert torch.equal(load_file(file)["0.weight"], other["0.weight"][kept])
    assert f"  not read by the build, and as in {given[1]}: 1.num_batches_tracked" in capsys.readouterr().out


def test_a_plan_by_itself_is_refused(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(build / "plan.json", tmp_path)
    assert _refused(capsys, tmp_path / "plan.json", MAKER, "-o", tmp_path / "w") == (
        f"smartc: {tmp_path / 'plan.json'}: there is no model.pt2 beside it, which the result is compared with. "
        "Keep the files of a build together."
    )


def test_another_class_is_refused(build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _refused(capsys, build, "tests.support.small_networks:wider", "-o", tmp_path / "w") == (
        "smartc: Sequential: it has 0.weight of shape 17x3x3x3, and the plan was made for one of shape 16x3x3x3. "
        "Name the class that was compiled, with the arguments that it had."
    )
    assert _refused(capsys, build, "tests.support.small_networks:none", "-o", tmp_path / "w") == (
        "smartc: tests.support.small_networks:none: module tests.support.small_networks has no none. Check the name."
    )
    assert not (tmp_path / "w").exists()


def test_a_file_of_other_weights_is_refused(build: Path, tmp_path: Path) -> None:
    file, plain = tmp_path / "weights.safetensors", tmp_path / "plain.safetensors"
    assert main(["apply", str(build), MAKER, "-o", str(file)]) == 0
    save_file(load_file(file), plain)
    none, again = tmp_path / "none", "Give a module of the class that the file was written for, with the arguments that"
    for module, path, text in (
        (small(), plain, "it was not written by smartc apply. Name a file that smartc apply wrote."),
        (small(), Path(__file__), "it was not written by smartc apply. Name a file that smartc apply wrote."),
        (small(), none, "it cannot be read (No such file or directory). Check the path."),
        (Spelled(), file, f"it has no stem.weight. {again} it had."),
        (small()[:4], file, f"its 7.bias is none of the module's, or larger than that. {again} it had."),
    ):
        with pytest.raises(UserError) as caught:
            smartc.resized(module, path)
        assert str(caught.value) == f"{path}: {text}"
