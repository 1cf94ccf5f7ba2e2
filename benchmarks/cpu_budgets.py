"""Ask networks of torchvision for less time on this machine, and print what the table says and what is measured.

    python benchmarks/cpu_budgets.py [alexnet mobilenet_v2 resnet18 vit] [--shares 0.7 0.5] [--backends onnx tvm]

Weights are random, images 224 pixels wide, channels are removed without data. One line per network and share:
what was asked for, what the prices of the table add up to, what is measured, both as shares of the dense network,
in how many rounds, and the remark on the budget if there is one.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import smartc
from smartc.core.errors import UserError
from smartc.decision.dump import Dump
from smartc.ir.traced_model import TracedModel
from smartc.measuring.processor import installed_versions, processor_name
from tests.support.torchvision_models import declare_missing_operators

NAMES = ("alexnet", "mobilenet_v2", "resnet18", "vit")
ROW = "{:<14}{:>7}{:>10}{:>10}{:>16}{:>8}  {}"


class Stages(Dump):
    """Notes the names of the stages, and writes nothing."""

    def stage(self, name: str, model: TracedModel | None = None, *facts: str) -> None:
        """Note a stage."""
        self.written.append(name)


def main() -> None:
    """Print a line for each network and share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.7, 0.5])
    parser.add_argument("--backends", nargs="+", default=["onnx"])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    declare_missing_operators()
    versions = ", ".join(f"{name} {version}" for name, version in installed_versions().items())
    print(f"{processor_name()}, one thread, {versions}, {datetime.date.today().isoformat()}")
    print(ROW.format("network", "asked", "table", "measured", "ms", "rounds", "remark"))
    for name in arguments.networks:
        model, inputs = network(name), torch.randn(1, 3, 224, 224)
        for share in arguments.shares:
            print(line(name, model, inputs, share, arguments.backends), flush=True)


def network(name: str) -> nn.Module:
    """Return a network of torchvision, or a small vision transformer."""
    from torchvision import models

    torch.manual_seed(0)
    if name == "vit":
        return models.VisionTransformer(224, 16, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=768).eval()
    module: nn.Module = getattr(models, name)(weights=None).eval()
    return module


def line(name: str, model: nn.Module, inputs: torch.Tensor, share: float, backends: list[str]) -> str:
    """Return the line of a network that is asked for a share of its time."""
    stages = Stages(None)
    options = {"target": "cpu", "granularity": "channel", "backends": tuple(backends), "dump": stages}
    try:
        report = smartc.compile(model, inputs, latency=f"{share}x", **options).report
    except UserError as error:
        return ROW.format(name, f"{share}x", "-", "-", "-", "-", error)
    table, measured = report.latency, report.budget.reached
    by_table, by_time = measured.split(" by the table of kernels, ")
    remarks = "; ".join(remark.text for remark in report.remarks if remark.where == "budget")
    took = f"{table.compiled:.2f}/{table.dense:.2f}"
    return ROW.format(name, f"{share}x", by_table, by_time.split()[0], took, stages.written.count("decide"), remarks)


if __name__ == "__main__":
    main()
