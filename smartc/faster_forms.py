"""Give each layer the form that was measured to be fastest: blocks that do not pay are put back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from smartc.decision import Decision, unread_channels
from smartc.measurement import Measurement
from smartc.model import layer_name
from smartc.project import Project
from smartc.report_format import milliseconds
from smartc.timing import Timing


@dataclass(frozen=True, eq=False)
class Forms:
    """A decision, and the layers that measurements took back.

    Attributes:
        decision: What is kept.
        dense: Layers, by the user's name, whose zeros are computed like other weights.
        reasons: Why layers are dense, by the names of the report's rows.
    """

    decision: Decision
    dense: Mapping[str, bool] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def put_back(project: Project, forms: Forms, measured: Measurement) -> Forms | None:
    """Return the forms in which every layer whose blocks do not pay is dense; None where all pay.

    Blocks pay where they take less time than dense ONNX Runtime by more than the spread.  Weights that
    nobody trained get back what was removed; trained ones keep their zeros, which are computed.
    """
    found = dict(_that_do_not_pay(project, forms, measured))
    if not found:
        return None
    rows = {name: _rows(project, name) for name in found}
    reasons = {row: reason for name, reason in found.items() for row in rows[name]}
    forms = replace(forms, reasons={**forms.reasons, **reasons})
    if forms.decision.learning is None:
        return replace(forms, decision=with_blocks(project, forms.decision, found))
    layers = [layer_name(row.node) for row in project.layers.rows if row.name in reasons]
    return replace(forms, dense={**forms.dense, **dict.fromkeys(layers, True)})


def with_blocks(project: Project, decision: Decision, weights: Collection[str]) -> Decision:
    """Return a decision in which some weights keep all of their blocks, as the original has them."""
    assert decision.units is not None
    assert decision.kept is not None
    kept = decision.kept.copy()
    for weight in decision.units.weights:
        if weight.name in weights:
            kept[weight.part] = True
    model = decision.model.with_tensors({name: project.original.tensor(name) for name in weights})
    return replace(unread_channels(model, project), units=decision.units, kept=kept)


def _that_do_not_pay(project: Project, forms: Forms, measured: Measurement) -> Iterator[tuple[str, str]]:
    """Yield the weights whose blocks save no time, and why they are put back."""
    decision = forms.decision
    if decision.units is None or decision.kept is None:
        return
    for weight in decision.units.weights:
        part, rows = decision.kept[weight.part], _rows(project, weight.name)
        if part.all() or any(row in forms.reasons for row in rows):
            continue
        dense, packed = measured.dense.of(rows), measured.compiled.of(rows)
        if dense is not None and packed is not None and not packed.beats(dense):
            kept = f"{int(part.sum())} of {len(part)} blocks"
            yield weight.name, f"with {kept} it takes {_text(packed)}, and dense in ONNX Runtime {_text(dense)}"


def _rows(project: Project, weight: str) -> list[str]:
    """Return the rows of the report that multiply by a weight."""
    return [row.name for row in project.layers.rows if row.shape.weight == weight]


def _text(timing: Timing) -> str:
    """Return a time with its spread."""
    return f"{milliseconds(timing.ms)} ± {milliseconds(timing.spread)}"
