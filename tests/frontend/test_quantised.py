"""Quantised models, and those prepared for it, are refused in one line that says what to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.ao import quantization

import smartc
from smartc.core.errors import UserError
from smartc.frontend.capture import from_program, trace

FIX = "Give the model as it was in floating point, and quantise what smartc writes."


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence that PyTorch's quantisation has a successor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def network() -> nn.Sequential:
    """Return a convolution between the marks of where quantisation begins and ends."""
    conv = nn.Conv2d(3, 16, 3)
    return nn.Sequential(quantization.QuantStub(), conv, nn.ReLU(), nn.Conv2d(16, 4, 1), quantization.DeQuantStub())


def prepared(training: bool) -> nn.Module:
    """Return the network with observers, or with fake quantisation."""
    module = network().train(training)
    module.qconfig = (quantization.get_default_qat_qconfig if training else quantization.get_default_qconfig)("fbgemm")
    (quantization.prepare_qat if training else quantization.prepare)(module, inplace=True)
    module(torch.randn(2, 3, 8, 8))
    return module.eval()


def refusal(module: nn.Module) -> str:
    """Return the message with which a module is refused."""
    with pytest.raises(UserError) as caught:
        smartc.compile(module, torch.randn(2, 3, 8, 8), target="npu-8x8")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_prepared_is_refused(training: bool) -> None:
    message = refusal(prepared(training))
    assert message.startswith("Sequential: it is prepared for quantisation (")
    assert message.endswith(FIX)


def test_what_is_quantised_is_refused() -> None:
    message = refusal(quantization.convert(prepared(training=False)))
    assert message.startswith("Sequential: it is quantised (0 is a Quantize of torch.ao.nn.quantized")
    assert message.endswith(FIX)


def test_a_program_with_fake_quantisation_is_refused() -> None:
    program = torch.export.export(prepared(training=True), (torch.randn(2, 3, 8, 8),))
    with pytest.raises(UserError, match=r"^p: it is quantised, or prepared for it \(it calls aten\.\w*fake_quant"):
        from_program(program, "p")


def test_marks_alone_are_no_hindrance() -> None:
    assert trace(network().eval(), torch.randn(2, 3, 8, 8)).dynamic_batch
