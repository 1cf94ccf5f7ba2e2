"""Doing one task: prune a dense network, fine-tune it, and measure what comes out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

import smartc
from benchmarks.learning.cost import cost_of
from benchmarks.learning.dense import Dense
from benchmarks.learning.images import DataSet
from benchmarks.learning.outside import Wanted, cut, taylor_batches
from benchmarks.learning.results import Outcome
from benchmarks.learning.tasks import Task
from benchmarks.learning.training import Recipe, accuracy, normalised, train
from smartc.targets.target import load_target


@dataclass(frozen=True, eq=False)
class Bench:
    """What tasks of one network have in common: its data, its training before, and the device to train on."""

    data: DataSet
    dense: Dense
    device: str = "cpu"

    def recipe(self, task: Task) -> Recipe:
        """Return how a task trains."""
        protocol = task.protocol
        return Recipe(protocol.rate, protocol.batch, task.seed, protocol.bfloat16, self.device)


def perform(task: Task, bench: Bench, reference: Outcome | None) -> Outcome:
    """Do a task.

    Args:
        task: What to do.
        bench: What to do it with.
        reference: What came of the task whose cost this one is to meet, where it is to meet one.

    Raises:
        UserError: smartc or Torch-Pruning cannot do it.
    """
    torch.manual_seed(task.seed)
    if reference is None:
        return _by_smartc(task, bench)
    return _by_torch_pruning(task, bench, reference)


def _by_smartc(task: Task, bench: Bench) -> Outcome:
    """Search, fine-tune and compile."""
    data, recipe = bench.data, bench.recipe(task)
    steps = recipe.steps(data, task.protocol.epochs)
    example = normalised(data.train.inputs[:2], data)
    start = time.process_time()
    search = smartc.prepare(
        bench.dense.network,
        example,
        target=task.protocol.target,
        sparsity=task.sparsity,
        granularity=task.granularity,
        learner=task.learner,
        steps=steps,
        seed=task.seed,
    )
    search.model.to(recipe.device)
    train(search.model, data, recipe, steps, search.step)
    compiled = search.finish(backends=())
    module, report = compiled.module, compiled.report
    seconds = time.process_time() - start
    target = load_target(task.protocol.target)
    before, after = (cost_of(model, target) for model in (smartc.trace(bench.dense.network, example), compiled.model))
    return Outcome(
        dense_accuracy=bench.dense.accuracy,
        accuracy=accuracy(module.to(recipe.device), data, recipe.device),
        macs=after.macs / before.macs,
        latency=report.latency.compiled / report.latency.dense,
        fractional=search.search.fractional,
        removed=float(report.budget.reached),
        seconds=seconds,
    )


def _by_torch_pruning(task: Task, bench: Bench, reference: Outcome) -> Outcome:
    """Cut channels at the cost of another network, then fine-tune."""
    data, recipe = bench.data, bench.recipe(task)
    steps = recipe.steps(data, task.protocol.epochs)
    target = load_target(task.protocol.target)
    start = time.process_time()
    wanted = Wanted(task.match, getattr(reference, task.match), target)
    network = cut(bench.dense.network, task.learner, data, recipe, wanted).train().to(recipe.device)
    train(network, data, recipe, steps - taylor_batches(task.learner, steps))
    seconds = time.process_time() - start
    reached = accuracy(network.eval(), data, recipe.device)
    example = normalised(data.train.inputs[:2], data)
    before, after = (cost_of(smartc.trace(model, example), target) for model in (bench.dense.network, network.cpu()))
    return Outcome(
        dense_accuracy=bench.dense.accuracy,
        accuracy=reached,
        macs=after.macs / before.macs,
        latency=after.ms / before.ms,
        fractional=None,
        removed=None,
        seconds=seconds,
    )
