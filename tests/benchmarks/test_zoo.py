"""The acceptance script tells right, wrong and broken compilations apart."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor, nn

from tests.proof.test_oracle import HandCompiled, HandPlan


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script as a module."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "zoo.py"
    specification = importlib.util.spec_from_file_location("zoo_benchmark", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def unchanged(module: nn.Module, inputs: tuple[Any, ...], sparsity: float) -> HandCompiled:
    """Compile by doing nothing."""
    summary = {"summary": {"removed_channels": 0, "prunable_channels": 9}}
    return HandCompiled(copy.deepcopy(module), HandPlan({"tensors": {}}), summary)


class Doubled(nn.Module):
    """A network that is off by a factor of two."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.original(x)


def doubled(module: nn.Module, inputs: tuple[Any, ...], sparsity: float) -> HandCompiled:
    """Compile wrong."""
    return HandCompiled(Doubled(module), HandPlan({"tensors": {}}), unchanged(module, inputs, 0).report)


def broken(module: nn.Module, inputs: tuple[Any, ...], sparsity: float) -> HandCompiled:
    """Fail to compile."""
    raise KeyError("no such unit\nand more")


@pytest.mark.parametrize(
    ("compiler", "expected"),
    [
        (unchanged, (0, "1 exact (0 of them smaller), 0 approx, 0 wrong, 0 crash", "removed nothing")),
        (doubled, (1, "0 exact (0 of them smaller), 0 approx, 1 wrong, 0 crash", " wrong ")),
        (broken, (1, "0 exact (0 of them smaller), 0 approx, 0 wrong, 1 crash", "KeyError: 'no such unit")),
    ],
)
def test_verdict(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    compiler: Any,
    expected: tuple[int, str, str],
) -> None:
    code, verdict, note = expected
    monkeypatch.setattr(script, "_compile", compiler)
    assert script.main(["--tag", "zoo", "--only", "plain_chain"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("zoo/plain_chain ")
    assert note in lines[1]
    assert lines[2].endswith(verdict)


def test_pattern_that_matches_nothing_fails(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--only", "no_such_network"]) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("0 networks in 0 CPU s: 0 exact")
