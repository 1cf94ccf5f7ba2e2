"""Time the soft top-k, forward and backward, against one pass of torch.sigmoid over the same tensor.

    python benchmarks/soft_top_k.py [--threads 1 2] [--units 100000 1000000 10000000] [--temperature 0.1] [--device cpu]

Scores are normal, and move between calls as an optimizer with a learning rate of 0.01 moves them: each at random
(drift 0) or all the same way (drift 0.01).  A warm call starts from the last threshold, a cold one from none.  The
calls alternate with the sigmoid's; medians are printed, and how far the sum is from the budget.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import smartc

MOVE = 1e-2
KINDS = (("warm", 0.0, None), ("warm, drifting", MOVE, None), ("warm, costs", 0.0, 1.0), ("cold", 0.0, None))


@dataclass(frozen=True)
class Timing:
    """Medians of one line of the table.

    Attributes:
        ours: Milliseconds of soft_top_k, forward and backward.
        sigmoid: Milliseconds of torch.sigmoid.
        error: Largest relative distance of a sum from its budget.
    """

    ours: float
    sigmoid: float
    error: float


def main() -> None:
    """Print a line for each number of threads, number of units and kind of call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--units", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--temperature", type=float, default=0.1, help="in standard deviations of the scores")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"{'threads':>7}{'units':>10}  {'call':<16}{'ms':>9}{'sigmoid':>9}{'ratio':>7}{'sum off by':>12}")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for units in options.units:
            for name, drift, costs in KINDS:
                scores = torch.randn(units, device=options.device)
                cost = None if costs is None else torch.rand_like(scores) + 0.1
                start = None if name == "cold" else torch.tensor(torch.nan, dtype=torch.float64, device=options.device)
                t = _time(scores, cost, start, drift, options)
                line = f"{threads:>7}{units:>10}  {name:<16}{t.ours:>9.2f}{t.sigmoid:>9.2f}"
                print(f"{line}{t.ours / t.sigmoid:>7.1f}{t.error:>12.1e}", flush=True)


def _time(
    scores: torch.Tensor,
    cost: torch.Tensor | None,
    start: torch.Tensor | None,
    drift: float,
    options: argparse.Namespace,
) -> Timing:
    """Time one kind of call on scores that move on between calls."""
    incoming = torch.randn_like(scores)
    budget = 0.3 * (scores.numel() if cost is None else cost.double().sum().item())
    ours, sigmoid, errors = [], [], []
    for _ in range(options.rounds + 2):
        scores = (scores + MOVE * torch.randn_like(scores) + drift).requires_grad_()
        begin = _now(scores)
        soft = smartc.soft_top_k(scores, budget, options.temperature, cost, start=start)
        soft.backward(incoming)
        ours.append(_now(scores) - begin)
        scores = scores.detach()
        sigmoid.append(_seconds(lambda: torch.sigmoid(scores), scores))  # noqa: B023
        spent = soft.detach().double() if cost is None else soft.detach().double() * cost
        errors.append(abs(spent.sum().item() / budget - 1))
    return Timing(1e3 * statistics.median(ours[2:]), 1e3 * statistics.median(sigmoid[2:]), max(errors))


def _seconds(work: Callable[[], object], tensor: torch.Tensor) -> float:
    """Return the seconds of a call."""
    begin = _now(tensor)
    work()
    return _now(tensor) - begin


def _now(tensor: torch.Tensor) -> float:
    """Return the time when the tensor's device has done all its work."""
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
