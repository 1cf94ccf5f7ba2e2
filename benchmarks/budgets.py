"""Compare what budgets ask for with what plans foresee and what the compiled models cost, priced again.

Run from the root of the repository: ``python -m benchmarks.budgets [network ...]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from smartc.compile import start
from smartc.core.errors import UserError
from smartc.decision.carry_out import pack, remove
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.decision.result_cost import result_cost
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.budgets.result_price import ResultPrice
from smartc.learning.decide import decide
from smartc.learning.training.settings import Settings
from smartc.request import Request
from tests.support.torchvision_models import build

NETWORKS = ("mobilenet_v2", "resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0", "regnet_x_400mf")
TARGETS = ("npu-8x8", "npu-16x16", "npu-32x32", "npu-8x8-dense", "npu-16x16-dense", "npu-32x32-dense")
BUDGETS = ("0.8x", "0.6x", "0.4x", "0.2x")
GRANULARITIES = ("channel", "block")


@dataclass(frozen=True)
class Outcome:
    """What became of one budget, each as a share of what the whole network costs.

    Attributes:
        asked: What may remain.
        foreseen: What the search priced its choice at.
        reached: What the compiled model costs.
        refused: Why there is none.
    """

    asked: float
    foreseen: float = float("nan")
    reached: float = float("nan")
    refused: str = ""

    @property
    def undershoot(self) -> float:
        """Return the share of the budget that is left over."""
        return 1 - self.reached / self.asked

    def __str__(self) -> str:
        """Return it as a line."""
        if self.refused:
            return f"{self.asked:.4f}  refused: {self.refused}"
        return f"{self.asked:.4f}  {self.foreseen:.4f}  {self.reached:.4f}  {100 * self.undershoot:5.1f} %"


def outcome(model: TracedModel, target: str, budget: str, granularity: str, kind: str = "latency") -> Outcome:
    """Return what becomes of a budget of one kind."""
    kinds = ("sparsity", "latency", "macs", "bytes")
    given = tuple(budget if kind == name else None for name in kinds)
    job = start(model, None, Request(target, given, granularity, None, with_data=False))  # type: ignore[arg-type]
    asked = job.budget.limit / job.budget.dense
    try:
        decision = decide(job, None, None, Settings(), None)
    except UserError as error:
        return Outcome(asked, refused=str(error))
    compiled = pack(job, decision, remove(job, decision)).model
    return Outcome(asked, foreseen(job, decision) / job.budget.dense, result_cost(job, compiled) / job.budget.dense)


def foreseen(job: CompileJob, decision: Decision) -> float:
    """Return the price that the search had for what it decided."""
    if decision.units is not None and decision.kept is not None:
        return ResultPrice(job, decision.units).exact(decision.kept)
    return float(decision.options.cost(decision.choice.kept))


def captured(network: str) -> TracedModel:
    """Return a torchvision network with random weights, for small images."""
    module, inputs = build(network, dtype=torch.float32)
    return trace(module, *inputs)


def lines(networks: Sequence[str], kind: str) -> Iterator[str]:
    """Yield a line for each budget, then the mean of what was left over for each network."""
    for network in networks:
        model = captured(network)
        for granularity in GRANULARITIES:
            found = []
            for target in TARGETS:
                for budget in BUDGETS:
                    found.append(outcome(model, target, budget, granularity, kind))
                    yield f"{network:20} {target:16} {granularity:8} {found[-1]}"
            left = [one.undershoot for one in found if not one.refused]
            yield f"{network:20} {'mean':16} {granularity:8} {100 * float(np.mean(left or [0])):.1f} % left over"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--kind", choices=("latency", "macs", "bytes"), default="latency")
    arguments = parser.parse_args()
    print(f"{'network':20} {'target':16} {'unit':8} asked   foreseen reached left over")
    for line in lines(arguments.networks or list(NETWORKS), arguments.kind):
        print(line, flush=True)
