"""The decision: which channels and blocks stay, in which model, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from smartc.analysis.analyse import analysed
from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.analysis.channels.labels import IntArray
from smartc.analysis.find_layers import Layers
from smartc.analysis.prices import price_layers
from smartc.decision.job import CompileJob
from smartc.decision.result_cost import cost_without
from smartc.ir.traced_model import TracedModel
from smartc.masks.layouts import BoolArray
from smartc.masks.units import Units
from smartc.passes.stages import run_stage
from smartc.results.figures import Learning
from smartc.selection.choose import Choice, KeptOptions
from smartc.selection.choose_by_result import choose_by_result
from smartc.selection.importance import unit_scores
from smartc.selection.repeated import evened, repeats_told
from smartc.selection.uniform_options import UniformOptions

# Cycles are sums of floats; differences below this share are rounding.
SAME_TIME = 1e-12


@dataclass(frozen=True, eq=False)
class Decision:
    """What is kept.

    Attributes:
        model: The model with its weights as they shall be, zero where a mask removed them.
        options: What each channel group may keep, with its layers, on the target.
        choice: How many channels each group keeps.
        keep: Which channels those are.
        units: The blocks or single weights that were masked, if any.
        kept: Which of these stay.
        masked: The same model with its hard masks in the graph, to prove that taking them out changes nothing.
        learning: How it was learned, if it was.
        unrepaired: The model before its weights made up for norms that lose channels; None where they did not.
    """

    model: TracedModel
    options: KeptOptions
    choice: Choice
    keep: BoolArray
    units: Units | None = None
    kept: BoolArray | None = None
    masked: TracedModel | None = None
    learning: Learning | None = None
    unrepaired: TracedModel | None = None


def by_scores(job: CompileJob) -> Decision:
    """Return the channels to keep by scores of the weights alone."""
    scores = unit_scores(job.original, job.layers.groups, job.learner)
    options = UniformOptions if job.uniform else KeptOptions
    search = options(job.layers, job.target, scores, job.budget.measure)
    choice = choose_by_result(search, job.budget, partial(cost_without, job, search.groups))
    return Decision(job.original, search.each_group, choice, search.kept_units(choice.kept))


def unread_channels(model: TracedModel, job: CompileJob) -> Decision:
    """Return as the channels to remove those that only zero weights read.

    None of a group goes where a layer of the group would be slower for it, because its tiles would no longer lie
    as they did, and none at all where patterns of neighbours would be torn.
    """
    layers = analysed(model)
    search = KeptOptions(layers, job.target, np.ones(layers.groups.count))
    everything = np.ones(layers.groups.count, dtype=bool)
    patterns = job.granularity.holds_channels
    keep = everything if patterns else _never_slower(model, search, ~_unread(model, layers.groups), job.uniform)
    counts = np.array([int(keep[group.units].sum()) for group in layers.groups.groups], dtype=np.int64)
    whole = f"all channels keep their places in {job.granularity} patterns" if patterns else "all channels are read"
    note = repeats_told(layers.groups) if job.uniform else ""
    return Decision(model, search, Choice(counts, _reasons(layers.groups, counts, whole), note), keep)


def _unread(model: TracedModel, groups: ChannelGroups) -> BoolArray:
    """Return the units that only zero weights read; of each group one at least is not among them."""
    reads, alive = (np.zeros(groups.count, dtype=bool) for _ in range(2))
    for axis in groups.axes:
        if axis.role == "reads":
            weight = model.tensor(axis.name).detach().movedim(axis.axis, 0)
            nonzero = (weight.reshape(len(weight), -1) != 0).any(1).numpy()
            inside = axis.units >= 0
            reads[axis.units[inside]] = True
            alive[axis.units[inside & nonzero]] = True
    unread = reads & ~alive
    for group in groups.groups:
        if unread[group.units].all():
            unread[group.units[0]] = False
    return unread


def _never_slower(model: TracedModel, search: KeptOptions, keep: BoolArray, uniform: bool) -> BoolArray:
    """Return the channels to keep, with those of all groups whose absence would make a layer slower.

    Where it is to be uniform, groups that are alike keep as many as the one that keeps the most.
    """
    while not keep.all():
        keep = evened(search.groups, keep) if uniform else keep
        slower = _slower_layers(model, search, keep)
        if not slower:
            break
        keep = with_groups_of(search.layers, slower, keep)
    return keep


def with_groups_of(layers: Layers, rows: Sequence[int], keep: BoolArray) -> BoolArray:
    """Return which channels stay when those of some layers' groups do; all if that adds none."""
    touched, more = layers.touched, keep.copy()
    for group in np.unique(touched.groups[np.isin(touched.rows, rows)]):
        more[layers.groups.groups[group].units] = True
    return more if (more != keep).any() else np.ones_like(keep)


def _slower_layers(model: TracedModel, search: KeptOptions, keep: BoolArray) -> list[int]:
    """Return the places of the layers that would take longer without the channels than with them; -1 for new ones."""
    smaller = run_stage("remove", model, groups=search.groups, keep=keep).model
    after = analysed(smaller)
    times = zip(after.rows, price_layers(smaller, after, search.target).total, strict=True)
    whole = price_layers(model, search.layers, search.target).total
    places = {row.name: place for place, row in enumerate(search.layers.rows)}
    found = ((places.get(row.name, -1), float(time)) for row, time in times)
    return [place for place, time in found if time > (whole[place] if place >= 0 else 0.0) * (1 + SAME_TIME)]


def _reasons(groups: ChannelGroups, counts: IntArray, whole: str) -> tuple[str, ...]:
    """Say why each group keeps what it keeps."""
    texts = []
    for group, kept in zip(groups.groups, counts, strict=True):
        size = len(group)
        texts.append(f"keeps the {kept} of {size} channels that are read" if kept < size else whole)
    return tuple(texts)
