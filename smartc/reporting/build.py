"""Build the report: every layer of the original beside the same layer of the compiled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from smartc.analysis.analyse import analysed
from smartc.analysis.find_layers import LayerRow, Layers
from smartc.analysis.prices import price_layers
from smartc.analysis.unpriced import unpriced
from smartc.core.version import __version__
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import Remark, TracedModel, sample_count, value_of
from smartc.masks.layouts import BoolArray
from smartc.masks.units import Units
from smartc.reporting.facts import norm_text
from smartc.results.report import (
    Agreement,
    Approximation,
    BudgetResult,
    Causes,
    Change,
    Evaluation,
    Figures,
    Latency,
    Layer,
    Report,
    ReportRemark,
    Summary,
    Verification,
)
from smartc.selection.choose import Choice, KeptOptions
from smartc.targets.latency import BOUNDS, LayerCosts
from smartc.targets.target import Target, without_skipping

# A share of the time that is not worth a word.
NOTHING = 0.005

Kind = Literal["channel", "block", "n:m", "dense", "frozen"]


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known beside the two networks: proofs, agreement, evaluation, remarks, warnings, seconds per stage.

    ``approximation`` is the error of norms that lost channels.
    """

    verify: tuple[Verification, ...]
    agreement: Agreement
    evaluation: Evaluation | None
    seconds: Mapping[str, float]
    remarks: tuple[Remark, ...] = ()
    warnings: tuple[ReportRemark, ...] = ()
    approximation: Approximation | None = None


def build_report(
    job: CompileJob, decision: Decision, smaller: TracedModel, findings: Findings, budget: BudgetResult
) -> Report:
    """Return the report of a compilation."""
    original, search, choice, target = job.original, decision.options, decision.choice, job.target
    compiled = analysed(smaller)
    before = _figures(original, job.layers, target)
    after = _figures(smaller, compiled, target)
    layers = tuple(
        _layer(row, before, after, _decision(row, decision, original, smaller)) for row in search.layers.rows
    )
    layers += tuple(_added(row, after) for row in compiled.rows if row.name not in before)
    layers = tuple(_with_error(layer, findings.approximation) for layer in layers)
    samples = 1 if original.dynamic_batch else sample_count(original.examples)
    dense, reached = (_sum(layers, side, "ms") for side in ("dense", "compiled"))
    latency = Latency(target.time_kind, "ms", dense, reached, samples=samples)
    if decision.units is not None and target.sparsity.zero_tile_skip:
        whole = price_layers(smaller, compiled, without_skipping(target))
        latency = replace(latency, without_skipping=whole.total_ms)
    known = (*original.remarks, *unpriced(original, job.layers), *findings.remarks, *_idle(job, layers))
    return Report(
        schema=1,
        smartc=__version__,
        model=original.name,
        target=target.name,
        provenance=target.provenance,
        assumption=f"{target.assumption}. {_times_are_for(original, samples)}.",
        latency=latency,
        budget=budget,
        summary=_summary(job.captured, smaller, search, choice, layers),
        layers=layers,
        verify=findings.verify,
        agreement=findings.agreement,
        evaluation=findings.evaluation,
        remarks=(*findings.warnings, *_remarks(known, choice)),
        artifacts={},
        seconds=findings.seconds,
        learning=decision.learning,
        approximation=findings.approximation,
    )


def _with_error(layer: Layer, approximation: Approximation | None) -> Layer:
    """Return a layer that is said to be approximate if it is a norm that lost channels."""
    norms = () if approximation is None else approximation.norms
    texts = [norm_text(norm) for norm in norms if norm.name == layer.name]
    return replace(layer, reason=texts[0]) if texts else layer


def _times_are_for(model: TracedModel, samples: int) -> str:
    """Return the sentence that says what each time is the time of."""
    return "Times are for one sample" if model.dynamic_batch else f"Times are for the fixed batch of {samples}"


def _figures(model: TracedModel, layers: Layers, target: Target) -> dict[str, Figures]:
    """Return the cost of each layer, by name."""
    if not layers.rows:
        return {}
    cycles = price_layers(model, layers, target)
    return {row.name: _row(model, row, cycles, index) for index, row in enumerate(layers.rows)}


def _row(model: TracedModel, row: LayerRow, cycles: LayerCosts, index: int) -> Figures:
    """Return one layer's figures."""
    value = value_of(row.node)
    first = value[0] if isinstance(value, (tuple, list)) else value
    weight = row.shape.weight
    tiles = int(cycles.tiles[index])
    causes = ("compute", "output", "weights", "activations", "overhead")
    return Figures(
        shape=first.single,
        weight_shape=tuple(model.tensor(weight).shape) if weight else None,
        macs=int(cycles.done[index]),
        weight_bytes=int(cycles.weight_bytes[index]),
        cycles=float(cycles.total[index]),
        ms=float(cycles.ms[index]),
        bound=BOUNDS[int(cycles.bound[index])],
        utilisation=float(cycles.utilisation[index]),
        tiles=(int(cycles.live_tiles[index]), tiles) if tiles else None,
        causes=Causes(**{cause: float(getattr(cycles, cause)[index]) for cause in causes}),
    )


def _layer(
    row: LayerRow,
    before: Mapping[str, Figures],
    after: Mapping[str, Figures],
    decision: tuple[Kind, str],
) -> Layer:
    """Return one line of the report."""
    dense = before[row.name]
    return Layer(row.name, row.op, *decision, dense, after.get(row.name, _nothing(dense)))


def _added(row: LayerRow, after: Mapping[str, Figures]) -> Layer:
    """Return the line of a gather that removal made of a slice."""
    figures = after[row.name]
    return Layer(row.name, row.op, "channel", "gathers the channels that a slice took", _nothing(figures), figures)


def _nothing(like: Figures) -> Figures:
    """Return figures of no cost."""
    return Figures(like.shape, None, 0, 0, 0.0, 0.0, "none", 0.0, None, Causes(0.0, 0.0, 0.0, 0.0, 0.0))


def _decision(row: LayerRow, decision: Decision, original: TracedModel, smaller: TracedModel) -> tuple[Kind, str]:
    """Return the decision on a layer and its reason."""
    weight, search, choice = row.shape.weight, decision.options, decision.choice
    if weight is not None and weight in original.untouched:
        return "frozen", f"kept: {original.untouched[weight]}"
    if decision.units is not None and weight is not None and decision.kept is not None:
        return _masked(row, weight, decision.units, decision.kept)
    if weight is None:
        shrank = _counts(row, decision.keep) != (len(row.shape.reads), len(row.shape.writes))
        return ("channel", "works on the channels that are left") if shrank else ("dense", "has no weights of its own")
    decided = _groups_of(row, search)
    if original.tensor(weight).shape != smaller.tensor(weight).shape:
        return "channel", _kept_text(row, decision, decided)
    if decided:
        return "dense", "; ".join(dict.fromkeys(choice.reasons[group] for group in decided))
    return "frozen", _frozen_text(weight, search)


def _masked(row: LayerRow, weight: str, units: Units, kept: BoolArray) -> tuple[Kind, str]:
    """Return the decision of masks on a layer's weight and its reason."""
    part = next((masked.part for masked in units.weights if masked.name == weight), None)
    if part is None:
        reasons = [remark.text for remark in units.skipped if remark.where == row.name]
        return "dense", reasons[0] if reasons else "its weights have no tiles"
    count, live = part.stop - part.start, int(kept[part].sum())
    what = units.granularity.plural
    if live == count:
        return "dense", f"all of its {count} {what} are worth their place"
    return units.granularity.decision, f"keeps {live} of {count} {what}"


def _kept_text(row: LayerRow, decision: Decision, decided: Sequence[int]) -> str:
    """Return a text with the channels that a layer keeps, and the reason where these are no multiple of the tile."""
    counts = zip(_counts(row, decision.keep), (row.shape.reads, row.shape.writes), ("input", "output"), strict=True)
    text = "keeps " + " and ".join(
        f"{kept} of {len(units)} {side}" for kept, units, side in counts if kept < len(units)
    )
    text += " channels"
    reasons = [decision.choice.reasons[group] for group in decided]
    uneven = [reason for reason in reasons if ";" in reason]
    return "; ".join([text, *dict.fromkeys(reason.partition("; ")[2] for reason in uneven)])


def _frozen_text(weight: str, search: KeptOptions) -> str:
    """Say why nothing of a layer can be removed."""
    reasons = {axis: reason for (name, axis), reason in search.groups.frozen.items() if name == weight}
    sides = [f"axis {axis} of the weight stays, because it {reason}" for axis, reason in sorted(reasons.items())]
    return "; ".join(sides) if sides else "has a single channel"


def _groups_of(row: LayerRow, search: KeptOptions) -> list[int]:
    """Return the channel groups that a layer reads or writes."""
    units = np.concatenate([row.shape.reads, row.shape.writes])
    found: list[int] = np.unique(search.groups.group_of[units[units >= 0]]).tolist()
    return found


def _counts(row: LayerRow, keep: BoolArray) -> tuple[int, int]:
    """Return the input and output channels that a layer keeps."""
    stays = np.append(keep, True)  # what has no unit, -1, stays
    return int(stays[row.shape.reads].sum()), int(stays[row.shape.writes].sum())


def _summary(
    original: TracedModel, smaller: TracedModel, search: KeptOptions, choice: Choice, layers: Sequence[Layer]
) -> Summary:
    """Return the counts of the whole network."""
    array = search.target.array
    total = int(search.weights @ search.full) if len(search.full) else 0
    kept = int(search.weights @ choice.kept) if len(search.full) else 0
    return Summary(
        parameters=Change(_parameters(original), _parameters(smaller)),
        macs=Change(*(int(_sum(layers, side, "macs")) for side in ("dense", "compiled"))),
        weight_bytes=Change(*(int(_sum(layers, side, "weight_bytes")) for side in ("dense", "compiled"))),
        prunable_channels=total,
        removed_channels=total - kept,
        target_macs_peak=int(array.rows * array.cols * array.tiles_per_cycle),
    )


def _parameters(model: TracedModel) -> int:
    """Return the number of parameters that the graph uses, tied ones once."""
    return sum({id(tensor): tensor.numel() for tensor in model.graph_module.parameters()}.values())


def _sum(layers: Sequence[Layer], side: str, figure: str) -> float:
    """Return the sum of a figure over all layers."""
    return sum(getattr(getattr(layer, side), figure) for layer in layers)


def _remarks(remarks: Sequence[Remark], choice: Choice) -> tuple[ReportRemark, ...]:
    """Return the remarks on the model and the budget."""
    notes = [ReportRemark("budget", choice.note)] if choice.note else []
    return tuple(notes + [ReportRemark(remark.where, remark.text) for remark in remarks])


def _idle(job: CompileJob, layers: Sequence[Layer]) -> tuple[Remark, ...]:
    """Say why masks save no time, where that is the target's way with zeros."""
    before, after = (_sum(layers, side, "ms") for side in ("dense", "compiled"))
    kinds, target = {layer.decision for layer in layers}, job.target
    if after < before * (1 - NOTHING):
        return ()
    if "n:m" in kinds:
        return (Remark(target.name, f"no time is saved: it has no faster way with {job.granularity} patterns"),)
    if "block" in kinds and not target.sparsity.zero_tile_skip:
        return (Remark(target.name, "no time is saved: it computes zero tiles as it does others"),)
    return ()
