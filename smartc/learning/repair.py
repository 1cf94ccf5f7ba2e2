"""Let the layers behind norms that lost channels make up for the statistics that these lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from smartc.analysis.analyse import analysed
from smartc.decision.decision import Decision
from smartc.learning.reconstruction.reconstruct import reconstruct
from smartc.masks.granularity import ChannelGranularity
from smartc.masks.units import find_units
from smartc.passes.stages import run_stage


def repaired(decision: Decision, inputs: Sequence[tuple[Any, ...]]) -> Decision:
    """Return a decision whose weights, behind norms that see only what stays, compute what they did behind all.

    Args:
        decision: Of channels; its weights are zero where they read what is removed.
        inputs: Flattened inputs to reconstruct the layers from.
    """
    groups, keep, model = decision.options.groups, decision.keep, decision.model
    if not groups.changed_norms(keep):
        return decision
    narrow = partial(run_stage, "narrow", model, groups=groups, keep=keep)
    supports = find_units(model, decision.options.layers, ChannelGranularity()).supports(keep)
    found = reconstruct(narrow(whole=True).model, narrow().model, supports, inputs).model
    names = [name for name, _ in (*model.graph_module.named_parameters(), *model.graph_module.named_buffers())]
    better = model.with_tensors({name: found.tensor(name).detach() for name in names})
    # An analysis is of the nodes of one graph.
    options = replace(decision.options, layers=analysed(better, approximate=True))
    return replace(decision, model=better, options=options, unrepaired=model)
