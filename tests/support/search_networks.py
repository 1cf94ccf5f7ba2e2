"""Searches over networks of the zoo, and every choice that they have."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.analysis.find_layers import find_layers
from smartc.frontend.capture import trace
from smartc.selection.budget import Budget, parse_budget, resolved_budget
from smartc.selection.importance import unit_scores
from smartc.selection.kept_options import FloatArray, KeptOptions
from smartc.targets.target import Target, load_target
from tests.support.zoo import build

NETWORKS = (
    "residual_bottlenecks",
    "dense_concat",
    "inverted_residual",
    "shufflenet_unit_view",
    "unet_transposed",
    "c2f_chunk",
    "grouped_resnext",
)


@cache
def search_of(name: str, target: str = "npu-8x8") -> KeptOptions:
    """Return the search of one network of the zoo, with uneven scores."""
    module, inputs = build(name, dtype=torch.float32)
    return search(module, inputs, load_target(target))


def search(module: nn.Module, inputs: Any, target: Target) -> KeptOptions:
    """Return the search of a module on a target, with uneven scores."""
    model = trace(module.eval(), inputs)
    groups = find_channel_groups(model)
    scores = unit_scores(model, groups, "sp-lamp") * np.random.default_rng(0).uniform(0.5, 1, groups.count)
    return KeptOptions(find_layers(model, groups), target, scores)


def budget_for(search: KeptOptions, *given: Any, **named: Any) -> Budget:
    """Return the budget of options, as ``parse_budget`` takes them, for the network of a search."""
    return resolved_budget(parse_budget(*given, **named), search.layers, search.target)


def chain(*widths: int, groups: tuple[int, ...] = ()) -> nn.Sequential:
    """Return convolutions from 3 channels through the widths to 5, the first ones in so many groups."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    ends = (3, *widths, 5)
    for index, (into, out) in enumerate(itertools.pairwise(ends)):
        layers += [nn.Conv2d(into, out, 1, groups=groups[index] if index < len(groups) else 1), nn.ReLU()]
    return nn.Sequential(*layers)


def wide_array(target: Target) -> Target:
    """Return a target with one tile of more channels than any network here has, so that cuts save no time."""
    return replace(target, array=replace(target.array, rows=1024, cols=1024))


def removed(search: KeptOptions, kept: Any) -> float:
    """Return the share of the channels that is gone."""
    return 1 - float(search.weights @ kept) / float(search.weights @ search.full)


def score(search: KeptOptions, kept: Any) -> float:
    """Return the score of what is kept."""
    return float(sum(value[place] for value, place in zip(search.values, search.places(kept), strict=True)))


def every_choice(search: KeptOptions) -> tuple[Any, FloatArray, FloatArray]:
    """Return all choices with their costs and scores."""
    lengths = [len(options) for options in search.options]
    places = np.indices(lengths).reshape(len(lengths), -1).T
    kept = search.counts(places)
    scores = np.sum([value[places[:, group]] for group, value in enumerate(search.values)], axis=0)
    return kept, search.cost(kept), scores


def shares(search: KeptOptions, count: int) -> list[float]:
    """Return budgets from what the whole network costs to the least."""
    least = float(search.cost(search.fewest)) / float(search.cost(search.full))
    return [float(share) for share in np.linspace(1, min(least * 1.000001, 1), count)]
