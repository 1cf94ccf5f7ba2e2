"""From a decision to a compiled model: remove, lower, prove every stage, and measure where the target is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from smartc.analysis.analyse import analysed
from smartc.artifact.compiled import Compiled
from smartc.core.errors import UserError
from smartc.core.version import __version__
from smartc.decision.decision import Decision
from smartc.decision.job import CompileJob
from smartc.decision.plan import Plan, make_plan, model_hash
from smartc.ir.traced_model import Remark, TracedModel
from smartc.lowering.lower import Lowered, dense_timer, lower
from smartc.measuring.measured_target import default_backends
from smartc.measuring.measurement import Dense, Measurement, measure, timing_inputs
from smartc.measuring.processor import has_tvm
from smartc.measuring.put_back import KernelChoice, put_back
from smartc.passes.remove_channels import RemoveChannels
from smartc.passes.shared.base import run_passes
from smartc.proof.comparison import Comparison
from smartc.proof.reference import Reference
from smartc.reordering.channel_order import Ordered, in_fewest_tiles
from smartc.reporting.build import Findings, build_report
from smartc.reporting.measured import with_measurement
from smartc.results.report import Budget as ReachedBudget
from smartc.results.report import Report
from smartc.targets.measured import MeasuredTarget
from smartc.targets.target import Target

TVM_FILE = "model.so"
NO_TVM = "TVM is not installed, and without it nothing skips zero tiles: pip install 'smartc[tvm]'"


def finish(project: CompileJob, decision: Decision, outcome: Comparison, backends: Sequence[str] | None) -> Compiled:
    """Remove what was decided, lower, and prove every stage."""
    backends = default_backends(project.target) if backends is None else backends
    job = _Job(project, KernelChoice(decision), decision, outcome)
    if not backends:
        return job.compiled(_Files((), (), None))
    job, files = _measured(job, backends) if isinstance(project.target, MeasuredTarget) else (job, job.files(backends))
    compiled = job.compiled(files)
    _ = compiled.report
    return compiled


@dataclass(frozen=True, eq=False)
class _Files:
    """What a model was lowered to, what there is to say about it, and what it takes, if that was measured."""

    lowered: Sequence[Lowered]
    remarks: Sequence[Remark]
    measured: Measurement | None


def _measured(job: _Job, backends: Sequence[str]) -> tuple[_Job, _Files]:
    """Lower and measure until every layer has the form that is fastest."""
    project = job.project
    try:
        with project.clock("measuring"):
            original = project.original
            timer = dense_timer(original, {"version": __version__})
    except UserError as error:
        files = job.files(backends)
        remark = Remark("measuring", f"nothing was measured, because there is no dense ONNX model: {error.fact}")
        return job, replace(files, remarks=(*files.remarks, remark))
    dense = Dense(timer, project.layers, timing_inputs(original))
    while True:
        files = job.files(backends)
        if not has_tvm():
            files = replace(files, remarks=(*files.remarks, Remark(project.target.name, NO_TVM)))
        with project.clock("measuring"):
            measured = job.measure(dense, files.lowered)
        forms = None if measured is None else put_back(project, job.forms, measured)
        if forms is None:
            return job, replace(files, measured=measured)
        job = replace(job, forms=forms)


@dataclass(frozen=True, eq=False)
class _Job:
    """A decision and what its proof and its lowering need.

    Attributes:
        project: What is compiled, for what.
        forms: What is kept, and in which form.
        learned: The decision before measurements changed it.
        outcome: What to compare the result with, and on what.
    """

    project: CompileJob
    forms: KernelChoice
    learned: Decision
    outcome: Comparison

    @property
    def decision(self) -> Decision:
        """Return what is kept."""
        return self.forms.decision

    @property
    def smaller(self) -> TracedModel:
        """Return the model without what was removed."""
        return self.ordered.model

    @cached_property
    def ordered(self) -> Ordered:
        """Return the model without what was removed, and how its channels were reordered.

        Only where blocks were removed is there anything to gain; patterns of neighbours would be torn.
        """
        project, decision = self.project, self.decision
        with project.clock("removal"):
            left = run_passes(decision.model, (RemoveChannels(decision.search.groups, decision.keep),)).model
            gains = project.granularity.gains_from_order and self._packing() is not None
            return in_fewest_tiles(left, project.target) if gains else Ordered(left)

    @cached_property
    def plan(self) -> Plan:
        """Return the plan, without the hash of the model."""
        return make_plan(self.project, self.decision, self.ordered)

    @cached_property
    def hashed_plan(self) -> Plan:
        """Return the plan."""
        original = self.project.original
        return replace(self.plan, model={"name": original.name, "sha256": model_hash(original)})

    def files(self, backends: Sequence[str]) -> _Files:
        """Lower to the backends."""
        smaller = self.smaller
        with self.project.clock("lowering"):
            plan = self.hashed_plan
            metadata = {"version": plan.smartc, "target": self.project.target.name, "plan": plan.sha256}
            dense = self.forms.dense
            lowered, remarks = lower(smaller, backends, metadata, target=self._packing(), dense=dense)
        return _Files(lowered, remarks, None)

    def measure(self, dense: Dense, lowered: Sequence[Lowered]) -> Measurement | None:
        """Return what the dense network and the files take; None where no file can be timed.

        The report is on the file that skips blocks where there are any, else on the fastest.
        """
        timed = {part.file: part for part in lowered if part.timer is not None}
        if self._packing() is not None and TVM_FILE in timed:
            timed = {TVM_FILE: timed[TVM_FILE]}
        if not timed:
            return None
        before, files = measure(dense, timed, analysed(self.smaller))
        return Measurement(before, files, min(files, key=lambda name: files[name].total.ms))

    def compiled(self, files: _Files) -> Compiled:
        """Return the result of a lowering; its report proves every stage."""
        plan = self.hashed_plan if files.lowered else self.plan
        return Compiled(
            model=self.smaller,
            plan=plan,
            prove=lambda: self.report(files, ReachedBudget(**plan.budget)),
            lowered={part.file: part.write for part in files.lowered} if files.lowered else None,
            lower=lambda: self.compiled(self.files(("pt2",))),
        )

    def _packing(self) -> Target | None:
        """Return the target whose tiles are packed, if blocks were removed."""
        return self.project.target if self.decision.units is not None else None

    def report(self, files: _Files, reached: ReachedBudget) -> Report:
        """Prove every stage and build the report."""
        project, decision, learned = self.project, self.decision, self.learned
        with project.clock("proof"):
            reference = _reference(decision)
            proofs = [reference.prove_removal(self.smaller), *(part.prove(reference) for part in files.lowered)]
            if learned.masked is not None:
                searched = reference if decision is learned else _reference(learned)
                proofs.insert(0, searched.prove_masks(learned.masked))
        with project.clock("evaluation"):
            agreement = self.outcome.agreement(self.smaller)
            evaluation = self.outcome.evaluation(self.smaller)
        remarks = (*self.ordered.remarks, *files.remarks)
        findings = Findings(tuple(proofs), agreement, evaluation, dict(project.clock.seconds), remarks)
        report = build_report(project, decision, self.smaller, findings, reached)
        if files.measured is not None:
            report = with_measurement(report, files.measured, self.forms.reasons)
        report.check_sums()
        return report


def _reference(decision: Decision) -> Reference:
    """Return the masked original of a decision."""
    return Reference(decision.model, decision.search.groups, decision.keep)
