"""Why each channel group keeps what it keeps, in words for the report."""

from __future__ import annotations

import numpy as np

from smartc.analysis.channels.labels import IntArray
from smartc.selection.budget import Budget
from smartc.selection.kept_options import SAME_COST, FloatArray, KeptOptions

# What a cut that is not worth making would not save.
NO_GAIN = {"latency": "no time", "macs": "no MACs", "bytes": "no bytes"}
# What importance is weighed against.
PER = {"latency": "time", "macs": "MAC", "bytes": "byte"}
# A group that keeps less than this share of its channels is told why.
FEW = 0.1
LEARNED = "learning found the others worth more"


def reasons(search: KeptOptions, budget: Budget, kept: IntArray, learned: bool) -> tuple[str, ...]:
    """Return for each group why it keeps what it keeps.

    Args:
        search: What the groups may keep.
        budget: What may remain.
        kept: What they keep.
        learned: Whether masks decided that, and not the scores of the search.
    """
    groups, places = np.arange(len(kept)), search.places(kept)
    fewer = [options[max(place - 1, 0)] for options, place in zip(search.options, places, strict=True)]
    before, after = search.marginal_costs(kept, groups, kept, fewer)
    free = after >= before * (1 - SAME_COST)
    texts = [_reason(search, group, int(kept[group]), bool(free[group])) for group in range(len(kept))]
    few = np.flatnonzero(kept < FEW * search.full)
    whys = [LEARNED] * len(few) if learned else _why_few(search, budget, kept, few)
    for group, why in zip(few, whys, strict=True):
        texts[group] += f"; {why}"
    return tuple(texts)


def _why_few(search: KeptOptions, budget: Budget, kept: IntArray, few: IntArray) -> list[str]:
    """Return for groups that keep few channels what more of them would bring beside the last ones kept elsewhere."""
    places = search.places(kept)
    others = np.setdiff1d(np.flatnonzero((places > 0) & (search.weights > 0)), few)
    if not len(few) or not len(others):
        return ["no other group keeps more than it must"] * len(few)
    # Where a share of the channels goes, both their number and their cost are short.
    first = 0 if budget.kind == "sparsity" else 1
    names = ("channel", PER[search.measure])
    rates, usual = _rates(search, kept, few, 1)[first:], _rates(search, kept, others, -1)[first:]
    shares = np.array([rate / max(float(np.median(one)), 1e-300) for rate, one in zip(rates, usual, strict=True)])
    lowest = zip(shares.min(axis=0), shares.argmin(axis=0) + first, strict=True)
    return [_beside(float(share), names[at], names[1]) for share, at in lowest]


def _beside(share: float, name: str, cost: str) -> str:
    """Return what more channels bring, as a share of what the last ones kept elsewhere do."""
    if share >= 1:
        return f"with them the whole choice has the most importance for its {cost}"
    percent = int(share * 100) + 1
    return f"more of them bring less than {percent}% of the importance per {name} of the last ones kept elsewhere"


def _rates(search: KeptOptions, kept: IntArray, groups: IntArray, step: int) -> tuple[FloatArray, FloatArray]:
    """Return the importance per channel, and per cost, of a step up or down from what groups keep."""
    here = search.places(kept)[groups]
    there = [min(place + step, len(search.options[group]) - 1) for group, place in zip(groups, here, strict=True)]
    counts = np.array([search.options[group][place] for group, place in zip(groups, there, strict=True)])
    pairs = zip(groups, there, here, strict=True)
    gain = np.abs([search.values[group][place] - search.values[group][now] for group, place, now in pairs])
    channels = np.abs(counts - kept[groups]) * np.maximum(search.weights[groups], 1)
    before, after = search.marginal_costs(kept, groups, kept[groups], counts)
    return gain / np.maximum(channels, 1), gain / np.maximum(np.abs(after - before), 1e-300)


def _reason(search: KeptOptions, group: int, kept: int, free: bool) -> str:
    """Say why a group keeps what it keeps, given whether the last step that it keeps costs nothing."""
    size, tile = int(search.full[group]), search.steps[group].tile
    if size == 1:
        return "its channels are tied together, so that all of them stay"
    if len(search.options[group]) == 1:
        return f"its {size} channels fill no more than one tile"
    if kept == size:
        no_gain = f"removing some would save {NO_GAIN[search.measure]}"
        return no_gain if free else "the budget is met without removing any"
    text = f"keeps {kept} of {size} channels"
    if tile == 1:
        return f"{text}; they share their tiles with others"
    return text if kept % tile == 0 else f"{text}; {size} are too few for whole tiles of {tile}"
