"""Sizes beside the batch that an exported program leaves free: priced at the example's, and free in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import smartc
from smartc.analysis.analyse import analysed
from smartc.frontend.capture import trace
from smartc.frontend.model_file import load_model
from smartc.ir.free_axis import FreeAxis
from smartc.ir.traced_model import Remark
from smartc.targets.target import load_target

TARGET = load_target("npu-8x8")


class Picture(nn.Module):
    """Convolutions whose maps are flattened and folded back by sizes that the graph computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.last, self.head = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 4, H', W')."""
        x = self.second(self.first(x).relu()).relu()
        height, width = x.shape[2:]
        return self.head(self.last(x.flatten(2).reshape(x.shape[0], 32, height, width)).relu())


class Text(nn.Module):
    """Attention over a text of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, 32) to (N, L, 8)."""
        q, k, v = (part.unflatten(2, (4, 8)).transpose(1, 2) for part in self.mix(x).chunk(3, dim=2))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.down(self.up(x + self.out(mixed.transpose(1, 2).flatten(2))).relu())


CASES: dict[str, tuple[type[nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "picture": (Picture, (2, 3, 64, 48), (2, 3)),
    "text": (Text, (2, 12, 32), (1,)),
}


def saved(folder: Path, name: str, batch: bool, dtype: torch.dtype) -> tuple[nn.Module, Tensor, Path]:
    """Return a network, its example and the exported program's file, some axes free."""
    torch.manual_seed(0)
    kind, shape, axes = CASES[name]
    module, x = kind().to(dtype).eval(), torch.randn(shape, dtype=dtype)
    free: dict[int, Any] = {axis: Dim(f"size{axis}", min=8, max=512) for axis in axes}
    if batch:
        free[0] = Dim("batch", min=1)
    program = torch.export.export(module, (x,), dynamic_shapes=(free,), strict=False)
    file = folder / "model.pt2"
    torch.export.save(program, file)
    return module, x, file


def other(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return an input of another size along some axes."""
    shape = [size + 10 if axis in axes else size for axis, size in enumerate(x.shape)]
    return torch.randn(shape, dtype=x.dtype)


@pytest.mark.parametrize("batch", [True, False], ids=["free batch", "fixed batch"])
@pytest.mark.parametrize("name", CASES)
def test_layers_are_priced_at_the_size_of_the_example(tmp_path: Path, name: str, batch: bool) -> None:
    module, x, file = saved(tmp_path, name, batch, torch.float32)
    model, axes = load_model(file), CASES[name][2]
    fixed = trace(module, x if batch else (x,))
    assert model.dynamic_batch == batch
    assert model.inputs[0].free == tuple(FreeAxis(axis, 8, 512) for axis in axes)
    assert model.remarks == tuple(
        Remark("x", f"axis {axis} is free: priced and proved at the example's {x.shape[axis]}") for axis in axes
    )
    layers, whole = analysed(model), analysed(fixed)
    samples = 1 if batch else len(x)
    costs = [TARGET.price(found.workload(TARGET, found.full_sizes)) for found in (layers, whole)]
    assert int(costs[0].macs.sum()) == samples * int(costs[1].macs.sum()) > 0
    assert [row.name for row in layers.rows] == [row.name for row in whole.rows]
    assert layers.groups.count == whole.groups.count


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [True, False], ids=["free batch", "fixed batch"])
@pytest.mark.parametrize("name", CASES)
def test_files_keep_their_sizes_free(tmp_path: Path, name: str, batch: bool, dtype: torch.dtype) -> None:
    _, x, file = saved(tmp_path, name, batch, dtype)
    compiled = smartc.compile(file, target="npu-8x8", sparsity=0.5)
    assert compiled.report.summary.removed_channels > 0
    assert all(stage.passed for stage in compiled.report.verify)
    compiled.save(tmp_path / "build")
    axes = CASES[name][2]
    larger = other(x, axes)
    expected = compiled.module(larger)
    program = torch.export.load(tmp_path / "build" / "model.pt2").module(check_guards=False)
    assert torch.allclose(program(larger), expected, atol=1e-4)
    proto = onnx.load(tmp_path / "build" / "model.onnx")
    sizes = proto.graph.input[0].type.tensor_type.shape.dim
    free = {axis for axis, size in enumerate(sizes) if size.dim_param}
    assert free == {*axes, *([0] if batch else [])}
    assert not [remark for remark in compiled.report.remarks if "is fixed to" in remark.text]
