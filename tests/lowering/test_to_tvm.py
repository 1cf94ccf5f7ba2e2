"""Whole networks in TVM: names, errors, timing, and a library that runs without PyTorch and smartc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm")

import smartc
from smartc.core.errors import UserError
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.lowering.to_tvm import TvmModule, time_layers, to_tvm
from tests.support.oracle import FLOAT32_TOLERANCE, relative_error
from tests.support.recurrent_networks import build, token_ids

pytestmark = pytest.mark.slow

# float32 carries seven digits; a few layers lose one or two.
TOLERANCE = 1e-5


class Residual(nn.Module):
    """A stem, a residual block and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.first, self.second = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.pool(self.stem(x))
        x = torch.relu(self.second(torch.relu(self.first(x))) + x)
        return self.head(x.mean([2, 3]))


@pytest.fixture(scope="module")
def traced() -> TracedModel:
    """Return the network with some of its weights zero."""
    torch.manual_seed(0)
    module = Residual().eval()
    with torch.no_grad():
        module.first.weight[8:] = 0
        module.second.weight[:, 8:] = 0
    return smartc.trace(module, (torch.randn(2, 3, 33, 29),))


@pytest.fixture(scope="module")
def compiled(traced: TracedModel) -> TvmModule:
    """Return the network compiled for one image."""
    return to_tvm(traced)


def image(batch: int = 1) -> Tensor:
    """Return an input."""
    return torch.randn(batch, 3, 33, 29, generator=torch.Generator().manual_seed(1))


def test_computes_what_the_model_does(traced: TracedModel, compiled: TvmModule) -> None:
    (output,) = compiled.run((image(),))
    assert relative_error(traced.run((image(),)), torch.from_numpy(output)) < TOLERANCE


def test_zeros_that_are_kept_change_nothing(traced: TracedModel, compiled: TvmModule) -> None:
    dense = to_tvm(traced, dense={"first": True, "second": True})
    np.testing.assert_allclose(dense.run((image(),))[0], compiled.run((image(),))[0], rtol=0, atol=0)


def test_kernels_bear_the_users_names(compiled: TvmModule) -> None:
    assert {"stem.0", "pool", "first", "second", "head"} <= set(compiled.layers.values())
    assert compiled.layers["stem_0"] == "stem.0"


def test_times_each_layer_in_each_run(compiled: TvmModule) -> None:
    times = time_layers(compiled, (image(),), 3)
    assert {"stem.0", "pool", "first", "second", "head"} <= times.keys()
    assert all(len(seconds) == 3 and min(seconds) >= 0 for seconds in times.values())


def test_another_batch_is_refused(compiled: TvmModule) -> None:
    with pytest.raises(UserError) as caught:
        compiled.run((image(2),))
    assert str(caught.value) == (
        "model.so: the input has shape (2, 3, 33, 29), but the module was compiled for (1, 3, 33, 29). "
        "Give inputs of that shape, or compile for this batch size."
    )


def test_a_batch_other_than_a_fixed_one_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(2, 12) * 2

    fixed = smartc.trace(Fixed(), (torch.randn(2, 3, 4),))
    with pytest.raises(UserError) as caught:
        to_tvm(fixed, batch=3)
    assert str(caught.value) == (
        "Fixed: the model was captured for a batch of 2 alone, not for 3. Compile it for a batch of 2."
    )
    x = torch.randn(2, 3, 4)
    for module in (to_tvm(fixed, batch=2), to_tvm(fixed)):
        np.testing.assert_array_equal(module.run((x,))[0], fixed.run((x,)).numpy())


@pytest.mark.parametrize(
    "move",
    [
        lambda x, like: x.to(torch.device("cpu")),
        lambda x, like: x.to(like),
        lambda x, like: x.to(like.device, torch.float16, non_blocking=True).to(device="cpu", dtype=torch.float32),
    ],
)
def test_another_device_is_a_cast_to_the_type_that_is_left(move: Callable[[Tensor, Tensor], Tensor]) -> None:
    class Moved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return move(x * 2, x) + 1

    x = torch.randn(1, 3, 4)
    traced = smartc.trace(Moved(), (x,))
    # Shorter types are lowered in float32.
    single = traced.to(torch.float32)
    np.testing.assert_array_equal(to_tvm(traced).run((x,))[0], single.run((x,)).numpy())


def test_an_unknown_processor_is_refused(traced: TracedModel) -> None:
    with pytest.raises(UserError) as caught:
        to_tvm(traced, mcpu="z80")
    assert str(caught.value) == (
        "mcpu 'z80': LLVM knows no processor of this name; avx2, avx512, aarch64 name instruction sets. "
        "Give one of these, or a name that clang -mcpu=help lists."
    )


def test_an_operator_that_tvm_lacks_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.i0(x)

    with pytest.raises(UserError) as caught:
        to_tvm(smartc.trace(Odd(), (torch.randn(2, 3),)))
    assert str(caught.value) == (
        "special_i0: TVM has no form for the operator special_i0.default. "
        "Leave tvm out of backends=...; model.pt2 has the same network."
    )


def test_statistics_from_the_batch_are_refused() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval()
    with pytest.raises(UserError) as caught:
        to_tvm(smartc.trace(module, (torch.randn(2, 3, 4, 4),)))
    assert str(caught.value) == (
        "0: the batch norm takes its statistics from the batch. "
        "Leave tvm out of backends=...; model.pt2 has the same network."
    )


ALONE = """
import sys
sys.modules["torch"] = sys.modules["smartc"] = None  # an import of either fails
import numpy
import tvm
from tvm.runtime.vm import VirtualMachine
runner = VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
output = runner["main"](tvm.runtime.tensor(numpy.load(sys.argv[2])))[0]
numpy.save(sys.argv[3], output.numpy())
"""


def test_the_library_runs_without_pytorch_and_smartc(compiled: TvmModule, tmp_path: Path) -> None:
    compiled.export(tmp_path / "model.so")
    np.save(tmp_path / "x.npy", image().numpy())
    command = [sys.executable, "-c", ALONE, *(str(tmp_path / name) for name in ("model.so", "x.npy", "y.npy"))]
    subprocess.run(command, check=True, env={**os.environ, "TVM_USE_RUNTIME_LIB": "1"})
    found, expected = np.load(tmp_path / "y.npy"), compiled.run((image(),))[0]
    assert relative_error(*map(torch.from_numpy, (expected, found))) <= FLOAT32_TOLERANCE


def test_compiles_for_a_processor_of_another_kind(traced: TracedModel, tmp_path: Path) -> None:
    module = to_tvm(traced, mcpu="aarch64")
    module.export(tmp_path / "model.tar")
    assert (tmp_path / "model.tar").stat().st_size > 0


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ("lstm_classifier", "TVM gives the outputs of recurrent alone, and its last state is read, too"),
        ("rnn_tagger", "TVM would write 36 steps of recurrent layers out one by one, more than 32"),
    ],
)
def test_says_which_recurrent_layers_tvm_cannot_have(network: str, text: str) -> None:
    module, _ = build(network, torch.float32)
    with pytest.raises(UserError, match=f"^{module.__class__.__name__}: {text}. Leave tvm out of backends"):
        to_tvm(trace(module, token_ids(9)))
