"""Lower a compiled model again, where its module was trained after it was compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import fx

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.core.errors import UserError
from smartc.decision.plan import Plan
from smartc.ir.traced_model import Remark, TracedModel
from smartc.lowering.lower import lower
from smartc.passes.pack_blocks import pack_blocks
from smartc.passes.training_mode import TrainingMode
from smartc.proof.comparison import Comparison
from smartc.proof.prove import prove_files
from smartc.proof.reference import Reference
from smartc.results.report import Report, ReportRemark
from smartc.targets.target import Target

CHANGED = (
    "its weights were changed after it was compiled: each file is proved to compute what the module computed when it "
    "was saved, and that this is the masked original is proved no more"
)
BEFORE = "before its weights were changed"
_BACKENDS = {"model.onnx": "onnx", "model.so": "tvm"}


@dataclass(frozen=True, eq=False)
class TrainedFiles:
    """A model whose weights changed, the report on it, and what writes each of its files."""

    model: TracedModel
    report: Report
    lowered: Mapping[str, Callable[[Path], None]]


def trainable(model: TracedModel) -> fx.GraphModule:
    """Return a module with tensors of its own, in evaluation; ``train()`` switches its batch norms and its dropout."""
    own = model.with_tensors({name: tensor.detach().clone() for name, tensor in _read(model).items()})
    module = TrainingMode(follow=True).run(own).model.graph_module
    module.eval()
    return module


def trained(model: TracedModel, module: fx.GraphModule, plan: Plan) -> TracedModel | None:
    """Return a model with the tensors of its trainable module; None where these are as they were.

    Raises:
        UserError: A tensor is new, missing or of another shape or type, or a weight that the plan removed is back.
    """
    old, new = _read(model), _tensors(module)
    for name in (*old, *new):
        _check_alike(name, old.get(name), new.get(name))
    changed = {name: new[name].detach().cpu().clone() for name in old if not _equal(old[name], new[name])}
    if not changed:
        return None
    for name in changed:
        if any(alias in plan.masks for alias in model.names_of(name)) and (changed[name][old[name] == 0] != 0).any():
            fix = "Set them to zero after each step of the optimizer, or train with smartc.prepare"
            raise UserError("weights of it that the plan removed are no longer zero", where=name, fix=fix)
    return model.with_tensors(changed)


def lower_trained(
    model: TracedModel, plan: Plan, report: Report, files: Mapping[str, object], comparison: Comparison | None
) -> TrainedFiles:
    """Return the files of a trained model, each proved to compute what the model does.

    Args:
        model: With the new tensors.
        plan: What was removed before.
        report: On the model with the old tensors.
        files: What there was, by name: the same is written again.
        comparison: The original and what to compare with it on; None where the original is not known any more.

    Raises:
        InternalError: A file computes something else.
    """
    target = Target.from_dict(plan.target)
    dense = {layer.name: True for layer in report.layers if layer.decision == "dense"}
    packed = pack_blocks(model, target) if plan.masks else None
    metadata = {"version": plan.smartc, "target": target.name, "plan": plan.sha256}
    backends = [backend for name, backend in _BACKENDS.items() if name in files]
    lowered, remarks = lower(model, backends, metadata, packed=packed, dense=dense)
    nothing = np.ones(0, dtype=bool)
    found = prove_files(Reference(model, ChannelGroups(0, (), (), {}, {}), nothing), lowered)
    proofs = tuple(replace(proof, stage=proof.stage.replace("masked ==", "module ==")) for proof in found.verifications)
    known = {(remark.where, remark.text) for remark in report.remarks}
    fresh = [_told(remark) for remark in (*remarks, *found.remarks) if remark[:2] not in known]
    warning = ReportRemark(report.model, CHANGED, "warning")
    said = replace(report, verify=proofs, remarks=(warning, *report.remarks, *fresh))
    return TrainedFiles(model, _compared(said, model, comparison), {part.file: part.write for part in found.files})


def _compared(report: Report, model: TracedModel, comparison: Comparison | None) -> Report:
    """Return the report with the agreement and the figure of the user of a trained model, where they can be had."""
    if comparison is not None:
        agreement, evaluation = comparison.agreement(model), comparison.evaluation(model)
        return replace(report, agreement=agreement, evaluation=evaluation)
    agreement = replace(report.agreement, source=_dated(report.agreement.source))
    figure = report.evaluation
    return replace(
        report,
        agreement=agreement,
        evaluation=None if figure is None else replace(figure, source=_dated(figure.source)),
    )


def _dated(source: str) -> str:
    """Return the name of a source with the time of the figure that is from it."""
    return source if source.endswith(BEFORE) else f"{source}, {BEFORE}"


def _told(remark: Remark) -> ReportRemark:
    """Return a remark as the report has it."""
    return ReportRemark(remark.where, remark.text)


def _read(model: TracedModel) -> dict[str, torch.Tensor]:
    """Return the tensors that a model's graph reads: passes leave others behind, which a copy has no more."""
    return _tensors(model.copy().graph_module)


def _tensors(module: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers of a module, a tied one under its first name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _check_alike(name: str, old: torch.Tensor | None, new: torch.Tensor | None) -> None:
    """Raise unless a tensor is there before and after, in one shape and type.

    Raises:
        UserError: It is not.
    """
    fix = "Give it back the shape and type that it had, or compile the changed model"
    if old is None or new is None:
        fact = "it is not what was compiled" if old is None else "it is missing, and was compiled"
        raise UserError(fact, where=name, fix=fix)
    if old.shape != new.shape or old.dtype != new.dtype:
        before, after = (
            f"{str(one.dtype).removeprefix('torch.')} {'x'.join(map(str, one.shape))}" for one in (old, new)
        )
        raise UserError(f"it is {after}, and {before} was compiled", where=name, fix=fix)


def _equal(old: torch.Tensor, new: torch.Tensor) -> bool:
    """Return whether two tensors hold the same numbers; what is no number is the same as another that is none."""
    left, right = old.detach(), new.detach().to(old.device)
    return bool(((left == right) | ((left != left) & (right != right))).all())
