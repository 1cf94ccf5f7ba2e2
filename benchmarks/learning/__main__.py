"""Compare the learners: run what is asked for, or write the page of what has been run."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.learning.networks import NETWORKS
from benchmarks.learning.page import write_page
from benchmarks.learning.results import read_results
from benchmarks.learning.runner import Place, command_text, run_tasks
from benchmarks.learning.tasks import LEARNERS, OUTSIDE, Protocol, tasks
from smartc.core.errors import UserError

CACHE = Path("build/learning")
PAGE = Path("docs/learning-results.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return 0 if all was done, 1 if tasks failed, 2 if an argument is wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    try:
        if options.action == "table":
            return _table(options)
        return _run(options, command_text(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, command: str) -> int:
    """Run what is not done yet."""
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    protocols = [
        Protocol(
            options.data,
            network,
            options.epochs,
            options.dense_epochs,
            target=options.target,
            bfloat16=options.bfloat16,
            batch=options.batch,
            images=options.images,
        )
        for network in options.network
    ]
    asked = tasks(protocols, options.granularity, options.sparsity, options.learner, options.seeds)
    place = Place(options.out, options.cache, options.path, options.device)
    return int(run_tasks(list(asked), place, command, lambda line: print(line, flush=True)) > 0)


def _table(options: argparse.Namespace) -> int:
    """Write the page."""
    for path in write_page(read_results(options.results), options.page):
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the two commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    table = actions.add_parser("table", help="write tables and plots of results files")
    table.add_argument("results", nargs="+", type=Path, metavar="RESULTS")
    table.add_argument("--page", type=Path, default=PAGE, help=f"the Markdown page, plots beside it ({PAGE})")
    run = actions.add_parser("run", help="train, a line of the results file per combination; what is there is left out")
    run.add_argument("--data", required=True, choices=("fashion-mnist", "cifar10"))
    run.add_argument("--path", type=Path, help="where the images are; only Fashion-MNIST has a usual place")
    run.add_argument("--network", nargs="+", default=["resnet8"], choices=tuple(NETWORKS))
    run.add_argument("--granularity", nargs="+", default=["8x8", "channel", "2:4"])
    run.add_argument("--sparsity", nargs="+", type=float, default=[0.5, 0.7, 0.8, 0.9])
    run.add_argument("--learner", nargs="+", default=[*LEARNERS, *OUTSIDE[:2]], choices=LEARNERS + OUTSIDE)
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--epochs", type=int, default=2, help="of search and fine-tuning together")
    run.add_argument("--dense-epochs", type=int, default=5, help="of the training before")
    run.add_argument("--out", type=Path, default=Path("results.jsonl"), help="the results file")
    run.add_argument("--cache", type=Path, default=CACHE, help=f"folder of dense networks ({CACHE})")
    run.add_argument("--target", default="npu-8x8")
    run.add_argument("--batch", type=int, default=128)
    run.add_argument("--bfloat16", action="store_true", help="train in bfloat16")
    run.add_argument("--device", default="cpu", help="on what to train (cpu)")
    run.add_argument("--threads", type=int, default=1)
    run.add_argument("--images", type=int, default=0, help="use no more than so many, for a trial")
    return parser


if __name__ == "__main__":
    sys.exit(main())
