"""Give each layer the form that was measured to be fastest: blocks and channels that do not pay are put back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from smartc.analysis.analyse import analysed
from smartc.decision.decision import Decision, unread_channels
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import layer_name
from smartc.measuring.measurement import Measurement, NetworkTimes
from smartc.measuring.timing import Timing
from smartc.proof.reference import mask_readers
from smartc.results.formats import milliseconds
from smartc.selection.choose import Choice
from smartc.selection.repeated import with_alike


@dataclass(frozen=True, eq=False)
class KernelChoice:
    """A decision, and the layers that measurements took back.

    Attributes:
        decision: What is kept.
        dense: Layers, by the user's name, whose zeros are computed like other weights.
        reasons: Why layers are dense, by the names of the report's rows.
    """

    decision: Decision
    dense: Mapping[str, bool] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def put_back(job: CompileJob, choice: KernelChoice, measured: Measurement | None) -> KernelChoice | None:
    """Return the choice in which what was removed and does not pay is back; None where all pays or nothing is measured.

    Blocks pay where they take less time than dense ONNX Runtime by more than the spread.  Channels do unless
    the layers of their group take more, by more than the spread, in every file: one that is slow with them
    would not be faster without.  Weights that nobody trained get back what was removed; trained ones keep
    their zeros, which are computed.
    """
    if measured is None:
        return None
    if choice.decision.units is None:
        slow = dict(_slow_groups(choice.decision, measured))
        slow = _with_blocks_alike(choice.decision, slow) if job.uniform else slow
        return replace(choice, decision=with_groups(choice.decision, slow)) if slow else None
    found = dict(_that_do_not_pay(job, choice, measured))
    if not found:
        return None
    rows = {name: _rows(job, name) for name in found}
    reasons = {row: reason for name, reason in found.items() for row in rows[name]}
    choice = replace(choice, reasons={**choice.reasons, **reasons})
    if choice.decision.learning is None:
        return replace(choice, decision=with_blocks(job, choice.decision, found))
    layers = [layer_name(row.node) for row in job.layers.rows if row.name in reasons]
    return replace(choice, dense={**choice.dense, **dict.fromkeys(layers, True)})


def with_blocks(job: CompileJob, decision: Decision, weights: Collection[str]) -> Decision:
    """Return a decision in which some weights keep all of their blocks, as the original has them."""
    assert decision.units is not None
    assert decision.kept is not None
    kept = decision.kept.copy()
    for weight in decision.units.weights:
        if weight.name in weights:
            kept[weight.part] = True
    model = decision.model.with_tensors({name: job.original.tensor(name) for name in weights})
    return replace(unread_channels(model, job), units=decision.units, kept=kept)


def with_groups(decision: Decision, reasons: Mapping[int, str]) -> Decision:
    """Return a decision in which some channel groups, by their numbers, keep everything for a reason."""
    keep, absent, choice = decision.keep.copy(), np.ones_like(decision.keep), decision.choice
    counts, texts = choice.kept.copy(), list(choice.reasons)
    for number, reason in reasons.items():
        units = decision.options.groups.groups[number].units
        absent[units] = keep[units]
        keep[units] = True
        counts[number], texts[number] = len(units), reason
    decision = replace(decision, keep=keep, choice=Choice(counts, tuple(texts), choice.note))
    if decision.learning is None:
        return decision
    groups, before = decision.options.groups, decision.unrepaired
    model = mask_readers(decision.model, groups, absent)
    before = None if before is None else mask_readers(before, groups, absent)
    # An analysis is of the nodes of one graph.
    options = replace(decision.options, layers=analysed(model, approximate=bool(groups.norms)))
    return replace(decision, model=model, options=options, unrepaired=before)


def _slow_groups(decision: Decision, measured: Measurement) -> Iterator[tuple[int, str]]:
    """Yield the channel groups whose layers are slower with fewer channels, and why they are put back."""
    layers, touched = decision.options.layers, decision.options.layers.touched
    for number, group in enumerate(layers.groups.groups):
        kept = int(decision.keep[group.units].sum())
        if kept == len(group):
            continue
        names = [layers.rows[row].name for row in touched.rows[touched.entries(np.array([number]))]]
        dense, fewer = _sum(names, measured.dense), _fastest(names, measured.files.values())
        if dense.beats(fewer):
            text = f"with {kept} of {len(group)} channels its layers take {_text(fewer)}"
            yield number, f"{text}, and dense in ONNX Runtime {_text(dense)}"


def _with_blocks_alike(decision: Decision, reasons: Mapping[int, str]) -> dict[int, str]:
    """Return groups and the reasons to put them back, with those of the blocks that have to be as wide."""
    groups, keep = decision.options.groups, decision.keep
    wider = (number for number in with_alike(groups, reasons) if not keep[groups.groups[number].units].all())
    text = "is as wide as the blocks like it, of which one does not pay with fewer channels"
    return {**dict.fromkeys(wider, text), **reasons}


def _sum(names: Sequence[str], network: NetworkTimes) -> Timing:
    """Return what those of some layers take together that have kernels of their own."""
    found = [network.layers[name] for name in names if name in network.layers]
    return Timing(sum(one.ms for one in found), sum(one.spread for one in found))


def _fastest(names: Sequence[str], networks: Iterable[NetworkTimes]) -> Timing:
    """Return what some layers take in the network in which they take the least."""
    return min((_sum(names, network) for network in networks), key=lambda timing: timing.ms)


def _that_do_not_pay(job: CompileJob, choice: KernelChoice, measured: Measurement) -> Iterator[tuple[str, str]]:
    """Yield the weights whose blocks save no time, and why they are put back."""
    decision = choice.decision
    if decision.units is None or decision.kept is None:
        return
    for weight in decision.units.weights:
        part, rows = decision.kept[weight.part], _rows(job, weight.name)
        if part.all() or any(row in choice.reasons for row in rows):
            continue
        dense, packed = measured.dense.of(rows), measured.packed.of(rows)
        if dense is not None and packed is not None and not packed.beats(dense):
            kept = f"{int(part.sum())} of {len(part)} blocks"
            yield weight.name, f"with {kept} it takes {_text(packed)}, and dense in ONNX Runtime {_text(dense)}"


def _rows(job: CompileJob, weight: str) -> list[str]:
    """Return the rows of the report that multiply by a weight."""
    return [row.name for row in job.layers.rows if row.shape.weight == weight]


def _text(timing: Timing) -> str:
    """Return a time with its spread."""
    return f"{milliseconds(timing.ms)} ± {milliseconds(timing.spread)}"
