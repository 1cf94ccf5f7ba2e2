"""A convolution whose value the network returns is stored where the caller reads it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("tvm")

import smartc
from smartc.kernels.machine import machine_for
from smartc.lowering.to_tvm import to_tvm
from tests.support.oracle import relative_error

pytestmark = pytest.mark.slow

# float32 carries seven digits; sums of up to a few hundred products lose one or two.
TOLERANCE = 1e-5
SHAPES = [
    (nn.Conv2d(8, 24, 3, padding=1), (3, 8, 13, 17)),
    (nn.Conv2d(5, 7, 3), (1, 5, 5, 7)),
    (nn.Conv2d(12, 12, 3, padding=1, groups=12), (1, 12, 11, 40)),
    (nn.Conv2d(6, 9, 5, stride=2, padding=2), (2, 6, 21, 21)),
    (nn.Conv2d(16, 1, 1), (3, 16, 9, 9)),
]


@pytest.mark.parametrize(("layer", "shape"), SHAPES)
def test_it_is_right_for_every_shape_and_needs_no_copy(layer: nn.Conv2d, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(layer, nn.ReLU()).eval(), torch.randn(shape)
    compiled = to_tvm(smartc.trace(module, torch.cat([x[:1], x[:1]])), batch=len(x))
    (first,), (second,) = compiled.run((x,)), compiled.run((x,))
    with torch.no_grad():
        wanted = module(x)
    assert first.shape == wanted.shape
    assert (first == second).all()
    assert relative_error(wanted, torch.from_numpy(first)) < TOLERANCE
    if machine_for(None).packs:
        assert not [name for name in compiled.layers if "copy" in name]
