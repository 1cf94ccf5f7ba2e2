"""The dense networks that every learner begins with, trained once and kept in files."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.learning.images import CLASSES, DataSet
from benchmarks.learning.networks import ResNet, build_network
from benchmarks.learning.tasks import Protocol
from benchmarks.learning.training import Recipe, accuracy, train


@dataclass(frozen=True, eq=False)
class Dense:
    """A trained network in eval mode, and its accuracy, 0 to 1."""

    network: ResNet
    accuracy: float


def dense_path(cache: Path, protocol: Protocol, seed: int) -> Path:
    """Return the file of a dense network: its name tells all that its training depends on."""
    rest = [protocol.batch, protocol.dense_rate, protocol.bfloat16, protocol.images]
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()[:8]
    return cache / f"{protocol.data}-{protocol.network}-{protocol.dense_epochs}-epochs-seed-{seed}-{digest}.safetensors"


def dense_network(cache: Path, protocol: Protocol, data: DataSet, seed: int, device: str) -> Dense:
    """Return the dense network, trained if there is no file of it yet."""
    path = dense_path(cache, protocol, seed)
    network = build_network(protocol.network, data.channels, CLASSES, seed)
    if path.exists():
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return Dense(network.eval(), float(file.metadata()["accuracy"]))
    recipe = Recipe(protocol.dense_rate, protocol.batch, seed, protocol.bfloat16, device)
    train(network.to(device), data, recipe, recipe.steps(data, protocol.dense_epochs))
    reached = accuracy(network.eval(), data, device)
    network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _save(path, network, reached)
    return Dense(network, reached)


def _save(path: Path, network: torch.nn.Module, reached: float) -> None:
    """Write a network beside its place and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    save_file(network.state_dict(), beside, metadata={"accuracy": repr(reached)})
    os.replace(beside, path)
