"""Processor time of the same cut by smartc and by Torch-Pruning, side by side in one process.

Half of the channels go, by weight magnitude, from a captured model (smartc) and from a module
(Torch-Pruning: dependency graph, grouping and removal).  Rounds are interleaved; medians are printed.

    python benchmarks/against_torch_pruning.py [--rounds 5] [resnet50 vgg16_bn densenet121]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import smartc
from tests.support.torchvision_models import declare_missing_operators

NETWORKS = ("resnet50", "vgg16_bn", "densenet121")


def main() -> None:
    """Time every network and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    declare_missing_operators()
    print(f"{'network':<16}{'smartc':>10}{'Torch-Pruning':>16}{'ratio':>8}   CPU seconds, medians of {options.rounds}")
    for name in options.networks:
        ours, theirs = _times(name, options.rounds)
        print(f"{name:<16}{ours:>10.3f}{theirs:>16.3f}{ours / theirs:>8.3f}", flush=True)


def _times(name: str, rounds: int) -> tuple[float, float]:
    """Return the median processor seconds of both."""
    import torchvision

    module = getattr(torchvision.models, name)(weights=None).eval()
    inputs = torch.randn(2, 3, 224, 224)
    traced = smartc.trace(module, inputs)
    _smartc(traced)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_cpu_seconds(lambda: _smartc(traced)))
        fresh = copy.deepcopy(module)
        theirs.append(_cpu_seconds(lambda fresh=fresh: _torch_pruning(fresh, inputs[:1])))  # type: ignore[misc]
    return statistics.median(ours), statistics.median(theirs)


def _smartc(traced: Any) -> None:
    """Find the channel groups, choose half of them and remove the rest."""
    smartc.compile(traced, target="npu-8x8", sparsity=0.5, learner="magnitude", backends=())


def _torch_pruning(module: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Do the same by Torch-Pruning, its classifier left alone."""
    import torch_pruning

    heads = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1:]
    pruner = torch_pruning.pruner.MetaPruner(
        module,
        inputs,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=heads,
        round_to=8,
    )
    pruner.step()


def _cpu_seconds(work: Callable[[], None]) -> float:
    """Return the processor seconds of a call, all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
