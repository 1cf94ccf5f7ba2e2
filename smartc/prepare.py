"""Masks in a training loop of the user's own: prepare a model, train it, finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from smartc.artifact.compiled import Compiled
from smartc.compile import emit, start
from smartc.core.errors import UserError
from smartc.data.samples import load_samples
from smartc.decision.dump import Dump
from smartc.decision.job import CompileJob
from smartc.learning.decide import settle_granularity
from smartc.learning.masking import decided, learning_facts, new_search
from smartc.learning.refit import refit_by_latest_inputs
from smartc.learning.training.mask_search import MaskSearch, SearchState
from smartc.proof.comparison import comparison_for
from smartc.request import Request, check_backends
from smartc.targets.target import Target


@dataclass(frozen=True, eq=False)
class Preparation:
    """A masked model to train, and what its masks become.

    Attributes:
        job: What is compiled, for what.
        search: The masks and their learner.
        seed: What the report says the training was seeded with.
    """

    job: CompileJob
    search: MaskSearch
    seed: int

    @property
    def model(self) -> fx.GraphModule:
        """Return the masked model, in training mode: for any optimizer, autocast, DDP or torch.compile.

        Its inputs and outputs are those of the model that was given.  The optimizer may take all of its
        parameters; what it does to the masks' own is undone.
        """
        return self.search.model

    def step(self, loss: torch.Tensor | float | None = None) -> SearchState:
        """Move the masks; call it after ``loss.backward()`` and ``optimizer.step()``.

        Args:
            loss: The step's loss, for the learning curve.

        Returns:
            Where the search stood.

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

        Raises:
            UserError: An argument is wrong.
            InternalError: A stage computes something else than the masked original.
        """
        check_backends(backends)
        job = self.job
        samples = None if data is None else load_samples(data, job.original)
        comparison = comparison_for(job.original, samples, evaluate)
        learning = learning_facts(job, self.search, seed=self.seed)
        return emit(job, decided(job, self.search, learning), comparison, backends)


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
) -> Preparation:
    """Put masks on a model, to be learned in a training loop of your own.

    Args:
        model: A module, a TracedModel or a model file; it is left as it is.
        example_inputs: As for ``smartc.compile``.
        target: A target, its name, or the path of its TOML file.
        steps: How many steps the loop will take: the masks are learned in the first part of them and are
            hard in the rest.
        sparsity: As for ``smartc.compile``, like the other budgets.
        latency: See there.
        macs: See there.
        bytes: See there.
        granularity: See there.
        learner: ``smart``, ``pdp``, ``sp-lamp``, ``magnitude``, ``taylor`` or ``ac-dc``.
        batch_norm: Whether batch norms use the batch's statistics, as in training; false for few data.
        seed: Noted in the report.
        dump: As for ``smartc.compile``.

    Raises:
        UserError: An argument is wrong, the model cannot be captured, or the budget cannot be met.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UserError(f"{steps} is no number of steps", where="steps", fix="Give how many steps the loop will take")
    asked = Request(target, (sparsity, latency, macs, bytes), granularity, learner, with_data=True)
    job = settle_granularity(start(model, example_inputs, asked, dump), None, granularity)
    search = new_search(job, steps, batch_norm)
    refit_by_latest_inputs(search)
    search.harden_if_due()
    return Preparation(job, search, seed)
