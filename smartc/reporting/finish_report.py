"""The report stage: what every layer cost before and after, with what was proved and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smartc.decision.job import CompileJob
from smartc.decision.plan import Plan
from smartc.ir.traced_model import Remark, TracedModel
from smartc.measuring.measurement import Measurement
from smartc.measuring.put_back import KernelChoice
from smartc.proof.comparison import Comparison
from smartc.proof.limits import collapse
from smartc.reporting.build import Findings, build_report
from smartc.reporting.facts import approximation_text
from smartc.reporting.measured import with_measurement
from smartc.results.report import Approximation, BudgetResult, Report, ReportRemark, Verification


def finish_report(
    job: CompileJob,
    choice: KernelChoice,
    plan: Plan,
    smaller: TracedModel,
    findings: Findings,
    times: Measurement | None,
) -> Report:
    """Return the report of a compilation, its sums checked.

    Args:
        job: What was compiled.
        choice: What was kept, and in which form.
        plan: What the budget came to.
        smaller: The compiled model.
        findings: What was proved and evaluated.
        times: What was measured, where the target is this machine.
    """
    report = build_report(job, choice.decision, smaller, findings, BudgetResult(**plan.budget))
    if times is not None:
        report = with_measurement(report, times, choice.reasons)
    report.check_sums()
    job.dump.stage("report", None, *(f"{layer.name}: {layer.decision}, {layer.reason}" for layer in report.layers))
    return report


def found(
    job: CompileJob,
    comparison: Comparison,
    smaller: TracedModel,
    proofs: Sequence[Verification],
    remarks: Sequence[Remark],
) -> Findings:
    """Return the findings beside the two networks: proofs, agreement, the user's figure, seconds, remarks, warnings.

    Raises:
        UserError: The compiled model is worth less than the user takes.
    """
    with job.clock("evaluation"):
        agreement, evaluation = comparison.agreement(smaller), comparison.evaluation(smaller)
    comparison.limits.check(agreement, evaluation)
    told = (*remarks, *comparison.remarks)
    warnings = tuple(collapse(agreement, evaluation))
    return Findings(tuple(proofs), agreement, evaluation, dict(job.clock.seconds), told, warnings)


def with_approximation(findings: Findings, approximation: Approximation | None) -> Findings:
    """Return findings with the error of norms that lost channels, and the warning that the result is approximate."""
    if approximation is None:
        return findings
    warning = ReportRemark("approximate", approximation_text(approximation), "warning")
    return replace(findings, approximation=approximation, warnings=(warning, *findings.warnings))
