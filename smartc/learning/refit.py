"""Refit what masks leave of a model to the dense model's activations, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from torch import distributed

from smartc.data.batch import Samples
from smartc.ir.traced_model import TracedModel, Value, value_of
from smartc.learning.reconstruction.elimination import elimination_order
from smartc.learning.reconstruction.reconstruct import RIDGE, reconstruct
from smartc.learning.statistics.latest_inputs import LatestInputs
from smartc.learning.training.mask_search import MaskSearch

# The most samples of a refit, and the most numbers of its largest activation: 200 MB.
MOST_SAMPLES, MOST_NUMBERS = 2048, 50_000_000


def refit(search: MaskSearch, inputs: Sequence[tuple[Any, ...]], ridge: float = RIDGE) -> None:
    """Refit the weights that hard masks leave, by flattened inputs.

    Args:
        search: The search, its masks hard.
        inputs: Flattened inputs.
        ridge: Cost of a change of a weight, relative to the mean variance of the layer's inputs.
    """
    assert search.keep is not None
    supports = search.units.supports(search.keep)
    search.take(reconstruct(search.original, search.learned(), supports, inputs, ridge=ridge).model)


def refit_by_samples(search: MaskSearch, samples: Samples, batch: int, seed: int) -> None:
    """Let a search that asks for it be refitted by samples."""
    # In their own order they may lie by class.
    count = max(samples_to_fit(search.original) // batch, 1)
    _refit_by(search, lambda: [part.inputs for part in islice(samples.shuffled(batch, seed), count)])


def refit_by_latest_inputs(search: MaskSearch) -> None:
    """Let a search that asks for it be refitted by what its model was called with last.

    Not where several processes train together, since each has other inputs, nor by what ``torch.compile`` runs.
    """
    if not search.learner.refits:
        return
    latest = LatestInputs(search.model, search.original, samples_to_fit(search.original))

    def known() -> list[tuple[Any, ...]]:
        inputs = latest.take()
        return [] if _among_several() else inputs

    _refit_by(search, known)


def _refit_by(search: MaskSearch, known: Callable[[], list[tuple[Any, ...]]]) -> None:
    """Let a search that asks for it keep the channels that can stand in for the others, and make them do so.

    Args:
        search: The search.
        known: Returns flattened inputs once the masks are about to become hard; none to leave it all.
    """
    if not search.learner.refits:
        return
    inputs: list[tuple[Any, ...]] = []

    def before_hard(found: MaskSearch) -> None:
        inputs.extend(known())
        if inputs:
            found.learner.rank(elimination_order(found.original, found.units, inputs))

    def on_hard(found: MaskSearch) -> None:
        if inputs:
            refit(found, inputs, found.learner.inputs.schedule.ridge)
        inputs.clear()

    search.before_hard, search.on_hard = before_hard, on_hard


def samples_to_fit(model: TracedModel) -> int:
    """Return the most samples whose activations a refit may hold."""
    values = (value_of(node) for node in model.graph.nodes)
    largest = max((math.prod(value.single) for value in values if isinstance(value, Value)), default=1)
    return max(min(MOST_SAMPLES, MOST_NUMBERS // max(largest, 1)), 1)


def _among_several() -> bool:
    """Return whether this process is one of a group."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
