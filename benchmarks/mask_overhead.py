"""Time a training step with masks against the same step without: ``python benchmarks/mask_overhead.py``."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent))

import smartc
from smartc.passes.training_mode import TrainingMode
from tests.support.torchvision_models import build

# So many steps first: from the second time that masks move, their thresholds are near where they were.
WARM_UP = 16


def main() -> None:
    """Print the ratios of interleaved steps for several granularities.

    Of medians, and of means: in a long search most steps take the mask of an earlier one.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=48)
    parser.add_argument("--granularity", nargs="+", default=["8x8", "channel", "2:4"])
    arguments = parser.parse_args()
    x, y = torch.randn(16, 3, 64, 64), torch.randint(0, 1000, (16,))
    model = smartc.trace(build("resnet18", dtype=torch.float32)[0], x[:2])
    plain = TrainingMode().run(model).model.graph_module
    steps: dict[str, Callable[[], None]] = {"no masks": step_of(plain, x, y, None)}
    for granularity in arguments.granularity:
        search = smartc.prepare(model, target="npu-8x8", granularity=granularity, steps=10**6)
        steps[granularity] = step_of(search.model, x, y, search)
    times = interleaved(steps, arguments.repeats)
    base = times["no masks"]
    print(f"CPU seconds of a step, {torch.get_num_threads()} threads; ratios of medians and of means")
    for name, seconds in times.items():
        ratios = (of(seconds) / of(base) for of in (statistics.median, statistics.mean))
        print(f"{name:10} {statistics.median(seconds) * 1e3:8.1f} ms ", *(f"{ratio:7.3f}x" for ratio in ratios))


def step_of(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, search: smartc.Preparation | None
) -> Callable[[], None]:
    """Return a function that trains one step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        loss = functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if search is not None:
            search.step()

    return step


def interleaved(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Return the processor seconds of each, taken in turn after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + WARM_UP):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if repeat >= WARM_UP:
                times[name].append(time.process_time() - start)
    return times


if __name__ == "__main__":
    main()
