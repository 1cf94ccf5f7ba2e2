"""Masks in a training loop of the user's own: prepare a model, train it, finish."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from smartc.artifact.compiled import Compiled
from smartc.compile import emit_decision, start
from smartc.core.brief import brief
from smartc.core.errors import UserError
from smartc.data.samples import load_samples
from smartc.decision.dump import Dump
from smartc.decision.job import CompileJob
from smartc.learning.begin_search import new_search
from smartc.learning.decide import settle_granularity
from smartc.learning.decided import decided
from smartc.learning.learning_facts import learning_facts
from smartc.learning.refit import refit_by_latest_inputs
from smartc.learning.training.mask_search import MaskSearch, SearchState
from smartc.masks.units import Units, find_units
from smartc.measuring.bench import bench_for
from smartc.measuring.measured_prices import with_measured_prices
from smartc.measuring.measured_target import default_backends
from smartc.proof.comparison import comparison_for
from smartc.request import Request, check_backends
from smartc.results.figures import ReportRemark
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class Preparation:
    """A masked model to train in a loop of your own, and what its masks become.

    Train ``model``, call ``step`` after each step of the optimizer, and ``finish`` at the end.  ``smartc.prepare``
    makes it.

    Attributes:
        job: The compile job: the model as it was captured, its layers, the target and the budget.
        search: The masks and their learner.
        seed: What the report says the training was seeded with.
    """

    job: CompileJob
    search: MaskSearch
    seed: int

    def __repr__(self) -> str:
        """Return in one line the model, the target, what is asked and how far the masks are."""
        job, search = self.job, self.search
        goal = f"{job.budget.kind} {brief(job.budget.asked, 12)} by {job.learner} and {job.granularity}"
        names = f"{brief(job.original.name)} on {brief(job.target.name, 20)}"
        state = "soft" if search.searching else "hard"
        return f"Preparation({names}: {goal}, step {search.done} of {search.steps}, masks {state})"

    @property
    def model(self) -> fx.GraphModule:
        """Return the masked model, in training mode, for any optimizer, autocast, DDP or torch.compile.

        Its inputs and outputs are those of the model that was given.  The optimizer may take all of its
        parameters; what it does to the masks' own is undone.
        """
        return self.search.model

    def step(self, loss: torch.Tensor | float | None = None) -> SearchState:
        """Move the masks; call it after ``loss.backward()`` and ``optimizer.step()``.

        Args:
            loss: The step's loss, for the learning curve.

        Returns:
            The state of the search before this step, with its number, the temperature of the masks, and at some of
            the steps how many masks are neither kept nor removed.

        Raises:
            UserError: The masks got no gradient.
        """
        return self.search.step(loss)

    def finish(self, *, data: Any = None, backends: Sequence[str] | None = None, evaluate: Any = None) -> Compiled:
        """Make the masks hard if they are not yet, and compile what was learned.

        Args:
            data: Inputs on which the report compares the compiled model with the original.
            backends: What to lower to, as for ``smartc.compile``.
            evaluate: Labelled inputs or a metric, as for ``smartc.compile``.

        Where steps are missing there is a warning, here and in the report.

        Returns:
            The compiled model, as ``smartc.compile`` returns it.

        Raises:
            UserError: An argument is wrong.
            InternalError: A stage computes something else than the masked original.
        """
        check_backends(backends)
        job = self.job
        samples = None if data is None else load_samples(data, job.original)
        comparison = comparison_for(job.original, samples, evaluate)
        learning = learning_facts(job, self.search, seed=self.seed)
        return emit_decision(job, decided(job, self.search, learning), comparison, backends, self._warned())

    def _warned(self) -> tuple[ReportRemark, ...]:
        """Return what the report must say of a loop that ended early, and warn of it."""
        done, steps = self.search.done, self.search.steps
        if done >= steps:
            return ()
        open_masks = "; the masks were still being searched for" if done < self.search.search_steps else ""
        text = f"finish was called after {done} of {steps} steps{open_masks}: take all of them, or prepare for fewer"
        warnings.warn(text, stacklevel=3)
        return (ReportRemark("learning", text, "warning"),)


def prepare(
    model: Any,
    example_inputs: Any = None,
    *,
    target: str | Target,
    steps: int,
    sparsity: float | None = None,
    latency: str | float | None = None,
    macs: str | None = None,
    bytes: str | None = None,
    granularity: str = "auto",
    learner: str = "smart",
    batch_norm: bool = True,
    seed: int = 0,
    dump: str | Path | Dump | None = None,
    output_names: Sequence[str] | None = None,
    outputs: int | str | Sequence[int | str] | None = None,
    keep: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    uniform: bool = False,
    approximate: bool = False,
) -> Preparation:
    """Put masks on a model, to be learned in a training loop of your own.

    Args:
        model: A module, a TracedModel or a model file; it is left as it is.
        example_inputs: A tensor, a tuple of arguments or a dict of keyword arguments; needed for a module.
        target: A target, its name, or the path of its TOML file.
        steps: How many steps the loop will take: the masks are learned in the first part of them and are
            hard in the rest.
        sparsity: Share of removable units to remove, 0 to 1; 0.5 if no budget is given.
        latency: Time to reach on the target, as a share (``"0.6x"``) or in ms (``"1.5ms"``).
        macs: Multiply-accumulates to reach, as a share or an amount (``"300M"``).
        bytes: Bytes of weights to reach, as a share or an amount (``"2MB"``).
        granularity: ``channel``; ``block``, the target's tile; ``RxC``; ``n:m``; or ``auto``: blocks where the
            target skips zero tiles, unless channels lose less for the same budget.
        learner: ``smart``, ``pdp``, ``sp-lamp``, ``magnitude``, ``taylor`` or ``ac-dc``.
        batch_norm: Whether batch norms use the batch's statistics, as in training; false for few data.
        seed: Noted in the report.
        dump: As for ``smartc.compile``.
        output_names: As for ``smartc.compile``.
        outputs: As for ``smartc.compile``.
        keep: Layers and parameters to put no masks on, by name or by patterns such as ``"head.*"``; the channels that
            they read stay, and their norms evaluate.  Your loop may train them.
        only: Likewise the layers to put masks on: all others get none.
        uniform: As for ``smartc.compile``.
        approximate: As for ``smartc.compile``.

    Returns:
        The preparation, whose ``model`` is to be trained.

    Raises:
        UserError: An argument is wrong, the model cannot be captured, nothing of it can be removed, or the budget
            cannot be met.

    Example:
        >>> import smartc, torch
        >>> layers = (torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3))
        >>> model, inputs = torch.nn.Sequential(*layers), torch.randn(8, 3, 8, 8)
        >>> search = smartc.prepare(model, inputs, target="npu-8x8", granularity="4x4", steps=4)
        >>> optimizer = torch.optim.SGD(search.model.parameters(), lr=0.01)
        >>> for _ in range(4):
        ...     optimizer.zero_grad()
        ...     loss = search.model(inputs).square().mean()
        ...     loss.backward()
        ...     optimizer.step()
        ...     state = search.step(loss)
        >>> compiled = search.finish(backends=())
        >>> compiled(inputs).shape
        torch.Size([8, 8, 4, 4])
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UserError(f"{steps} is no number of steps", where="steps", fix="Give how many steps the loop will take")
    amounts = (sparsity, latency, macs, bytes)
    chosen = (None, output_names, outputs, keep, only, uniform, approximate)
    asked = Request(target, amounts, granularity, learner, True, *chosen)
    job = start(model, example_inputs, asked, dump, folds=False)
    job = with_measured_prices(job, bench_for(job, default_backends(job.target)))
    job = settle_granularity(job, None, granularity)
    units = find_units(job.original, job.layers, job.granularity)
    if not units.weights:
        raise _nothing_to_mask(job, units)
    search = new_search(job, steps, batch_norm)
    refit_by_latest_inputs(search)
    search.harden_if_due()
    return Preparation(job, search, seed)


def _nothing_to_mask(job: CompileJob, units: Units) -> UserError:
    """Return the error for a model of which nothing can be removed."""
    reasons = [f"{remark.where}: {remark.text}" for remark in units.skipped]
    reasons = reasons or [f"{name}: {reason}" for (name, _), reason in job.layers.groups.frozen.items()]
    why = f" ({brief(reasons[0], 120)})" if reasons else ""
    fact = f"there are no {job.granularity.plural} that can be removed{why}"
    return UserError(fact, where=job.original.name, fix="Train the model without masks")
