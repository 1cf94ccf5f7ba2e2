"""torchvision networks with random weights and uneven statistics, small images and a batch of two."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.support.zoo.disturb import disturb

_Builder = Callable[[], nn.Module]
_libraries: list[torch.library.Library] = []


def declare_missing_operators() -> None:
    """Declare the two operators without which torchvision does not import beside a CPU build of torch."""
    if torch.version.cuda is not None or _libraries:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)


def _model(path: str, **options: Any) -> nn.Module:
    """Return one network of ``torchvision.models``, by its dotted path there."""
    declare_missing_operators()
    folder, _, name = f"torchvision.models.{path}".rpartition(".")
    builder: Callable[..., nn.Module] = getattr(import_module(folder), name)
    return builder(weights=None, **options)


_PLAIN = (
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "vgg16_bn",
    "densenet121",
    "alexnet",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet0_5",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "swin_t",
    "convnext_tiny",
)
_SEGMENTATION = ("fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large")

BUILDERS: dict[str, _Builder] = {
    **{name: partial(_model, name) for name in _PLAIN},
    "inception_v3": partial(_model, "inception_v3", init_weights=False),
    "googlenet": partial(_model, "googlenet", init_weights=False),
    "vit_b_16": partial(_model, "vit_b_16", image_size=64),
    **{name: partial(_model, f"segmentation.{name}", weights_backbone=None) for name in _SEGMENTATION},
    "r3d_18": partial(_model, "video.r3d_18"),
}

_SHAPES = {"inception_v3": (3, 96, 96), "alexnet": (3, 96, 96), "r3d_18": (3, 4, 32, 32)}


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, tuple[Tensor]]:
    """Return a network of ``BUILDERS`` in evaluation mode, and a batch of two for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = BUILDERS[name]().eval()
        inputs = torch.randn(2, *_SHAPES.get(name, (3, 64, 64)))
        _settle(module, inputs)
        disturb(module, seed, fresh=name == "alexnet")
    return module.to(dtype), (inputs.to(dtype),)


@torch.no_grad()
def _settle(module: nn.Module, inputs: Tensor) -> None:
    """Take batch-norm statistics from the inputs, or fifty layers of random weights overflow."""
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    module(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
