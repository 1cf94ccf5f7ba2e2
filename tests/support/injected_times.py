"""A network for the target ``cpu``, and times of its layers that are given instead of measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import smartc
from smartc.analysis.find_layers import Layers
from smartc.artifact.compiled import Compiled
from smartc.ir.traced_model import Remark, TracedModel
from smartc.lowering import files
from smartc.lowering.lower import Lowered
from smartc.measuring import bench
from smartc.measuring.measurement import Dense, NetworkTimes
from smartc.measuring.timing import Timing

X = torch.randn(2, 32, 7, 7, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """Return two convolutions and a classifier."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4)),
    ).eval()


def inject(
    monkeypatch: pytest.MonkeyPatch, compiled: Mapping[str, float]
) -> tuple[list[list[str]], list[dict[str, bool]]]:
    """Make every layer take 1 ms in the dense network, and what is given in the files; return what was timed.

    Files are PyTorch's in disguise: what they compute is proved, and nothing takes long.
    """
    asked: list[list[str]] = []
    dense_layers: list[dict[str, bool]] = []

    def lowered_to(
        model: TracedModel, backends: Sequence[str], metadata: Mapping[str, str], **options: Any
    ) -> tuple[list[Lowered], list[Remark]]:
        names = {"onnx": "model.onnx", "tvm": "model.so"}
        timed = [
            Lowered(names[name], f"masked == {name}", Path.touch, model.run, torch.float32, lambda inputs: None)
            for name in backends
        ]
        dense_layers.append(dict(options["dense"]))
        return timed, []

    def measured(
        dense: Dense, lowered: Mapping[str, Lowered], layers: Layers
    ) -> tuple[NetworkTimes, dict[str, NetworkTimes]]:
        asked.append(list(lowered))
        before = {row.name: Timing(1.0, 0.05) for row in dense.layers.rows}
        after = {row.name: Timing(compiled.get(row.name, 1.0), 0.05) for row in layers.rows}
        return network_of(before), {name: network_of(after) for name in lowered}

    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setattr(files, "lower", lowered_to)
    monkeypatch.setattr(bench, "dense_timer", lambda model, metadata: None)
    return asked, dense_layers


def network_of(layers: dict[str, Timing]) -> NetworkTimes:
    """Return a network in which half a millisecond goes to the runtime."""
    return NetworkTimes(layers, Timing(0.5, 0.01), Timing(sum(one.ms for one in layers.values()) + 0.5, 0.1))


def compiled_blocks(**options: Any) -> Compiled:
    """Return the network with half of its blocks."""
    backends = ("onnx", "tvm")
    return smartc.compile(network(), X, target="cpu", granularity="block", backends=backends, **options)
