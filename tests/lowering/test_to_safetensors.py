"""weights.safetensors: every tensor comes back, with our reader and with the one in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.lowering.lower import lower
from smartc.lowering.to_safetensors import from_safetensors, to_safetensors
from smartc.masks.packed_weight import pack
from smartc.passes.pack_blocks import PackedBlocks, pack_blocks
from smartc.targets.target import load_target
from tests.passes.test_pack_blocks import EveryUse
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error
from tests.support.zero_tiles import with_zero_tiles

NPU = load_target("npu-8x8")
PAGE = Path(__file__).parents[2] / "docs" / "packed-weights.md"


@pytest.fixture(scope="module")
def case() -> tuple[TracedModel, PackedBlocks]:
    """Return a model with packed weights of every kind."""
    model = with_zero_tiles(trace(EveryUse().eval(), torch.randn(2, 16, 8, 8)), 0.6, (8, 8))
    return model, pack_blocks(model, NPU)


def documented_reader() -> Any:
    """Return the function ``read`` that the documentation shows."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    return names["read"]


def bits(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as NumPy has it, a bfloat16 as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_tensor_comes_back(case: tuple[TracedModel, PackedBlocks], dtype: torch.dtype, tmp_path: Path) -> None:
    model = case[0].to(dtype)
    packed = pack_blocks(model, NPU)
    content = to_safetensors(model, packed.weights, NPU)
    (tmp_path / "weights.safetensors").write_bytes(content)
    ours, theirs = from_safetensors(content), documented_reader()(tmp_path / "weights.safetensors")
    expected = {**dict(model.graph_module.named_parameters()), **dict(model.graph_module.named_buffers())}
    assert packed.weights
    assert ours.keys() == theirs.keys() == expected.keys()
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype
        assert bits(ours[name]).tobytes() == theirs[name].tobytes() == bits(tensor).tobytes()
        assert theirs[name].shape == tuple(tensor.shape)


@pytest.mark.parametrize("form", ["shared", "folded", "permuted"])
def test_the_documented_reader_knows_every_form(
    case: tuple[TracedModel, PackedBlocks], form: str, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).permutation(16) if form == "permuted" else np.arange(16)
    options = {"groups": 2, "permutation": np.concatenate([rows, rows + 16]), "folded": form == "folded"}
    weight = torch.randn(32, 9, 3, 2) * (torch.rand(32, 1, 3, 1) < 0.2)
    model = trace(nn.Conv2d(18, 32, (3, 2), groups=2).eval(), torch.randn(2, 18, 5, 5)).with_tensors({"weight": weight})
    packed = {"weight": pack(weight, (4, 8), form != "shared", **options)}  # type: ignore[arg-type]
    (tmp_path / "w").write_bytes(to_safetensors(model, packed, NPU))
    restored = documented_reader()(tmp_path / "w")["weight"]
    assert np.array_equal(restored, weight.numpy())


def test_the_file_is_smaller_and_always_the_same(case: tuple[TracedModel, PackedBlocks]) -> None:
    model, packed = case
    contents = {to_safetensors(model, packed.weights, NPU) for _ in range(3)}
    assert len(contents) == 1
    assert len(contents.pop()) < 0.75 * len(to_safetensors(model, {}, NPU))


def test_a_tied_weight_is_stored_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)))

    model = with_zero_tiles(trace(Tied().eval(), torch.randn(2, 64)), 0.8, (8, 8))
    packed = pack_blocks(model, NPU)
    content = to_safetensors(model, packed.weights, NPU)
    restored = from_safetensors(content)
    assert len(packed.weights) == 1
    assert len(content) < 0.5 * model.tensor("first.weight").nbytes
    assert sum(name.endswith("weight") for name in restored) == 1
    inputs = (torch.randn(3, 64),)
    assert relative_error(model.run(inputs), model.with_tensors(restored).run(inputs)) <= FLOAT32_TOLERANCE


def test_refuses_another_file() -> None:
    with pytest.raises(ValueError, match=r"^the file does not say how its weights are packed$"):
        from_safetensors(save({"x": torch.zeros(1)}))


def test_lowering_proves_the_packed_weights(case: tuple[TracedModel, PackedBlocks]) -> None:
    model = case[0]
    lowered, remarks = lower(model, (), {"version": "0"}, packed=pack_blocks(model, NPU))
    assert [part.file for part in lowered] == ["model.pt2", "weights.safetensors"]
    assert [remark.where for remark in remarks if remark.changed] == ["conv", "grouped", "up", "linear", "matmul"]
    inputs = (torch.randn(3, 16, 8, 8),)
    assert relative_error(model.run(inputs), lowered[1].run(inputs)) <= FLOAT32_TOLERANCE


def test_nothing_is_packed_without_a_target_or_zeros(case: tuple[TracedModel, PackedBlocks]) -> None:
    without = trace(nn.Conv2d(16, 16, 3).eval(), torch.randn(2, 16, 5, 5))
    assert [part.file for part in lower(without, (), {"version": "0"}, packed=pack_blocks(without, NPU))[0]] == [
        "model.pt2"
    ]
    assert [part.file for part in lower(case[0], (), {"version": "0"})[0]] == ["model.pt2"]
