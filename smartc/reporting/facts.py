"""What a report says about the whole network, in the words of every rendering of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smartc.reporting.learning_facts import learning_texts
from smartc.results.formats import count, milliseconds, percent, scientific, significant, size, times
from smartc.results.report import (
    Agreement,
    Approximation,
    Change,
    Evaluation,
    Layer,
    NormError,
    Report,
    Verification,
)

# Stages that took less are not told.
LEAST_SECONDS = 1e-3


@dataclass(frozen=True)
class Fact:
    """Hold a name and the text beside it."""

    label: str
    text: str


def facts(report: Report) -> tuple[Fact, ...]:
    """Return the totals of the network, those that it has."""
    summary, latency = report.summary, report.latency
    speed = "as fast as before" if abs(latency.speed_up - 1) < 0.005 else f"{times(latency.speed_up)} as fast"
    change = f"{milliseconds(latency.dense)} → {milliseconds(latency.compiled)}"
    found = [Fact("latency", f"{change}, {speed} ({latency.kind})")]
    if latency.file is not None and latency.spread is not None:
        before, after = (milliseconds(spread) for spread in latency.spread)
        text = f"{latency.file} against the original in ONNX Runtime, medians on one thread, ± {before} and ± {after}"
        found.append(Fact("", text))
    if latency.without_skipping is not None:
        found.append(Fact("", f"{milliseconds(latency.without_skipping)} if no zero tile were skipped"))
    found += [
        Fact("budget", f"{report.budget.kind} {report.budget.asked}, reached {report.budget.reached}"),
        Fact("channels", f"{summary.removed_channels} of {summary.prunable_channels} prunable channels removed"),
        Fact(
            "parameters",
            _change(summary.parameters, count(summary.parameters.dense), count(summary.parameters.compiled)),
        ),
        Fact("MACs", _change(summary.macs, count(summary.macs.dense), count(summary.macs.compiled))),
        Fact(
            "weights",
            _change(summary.weight_bytes, size(summary.weight_bytes.dense), size(summary.weight_bytes.compiled)),
        ),
    ]
    if report.learning is not None:
        first, *rest = learning_texts(report.learning)
        found += [Fact("learning", first), *(Fact("", text) for text in rest)]
    if report.approximation is not None:
        found.append(Fact("approximate", approximation_text(report.approximation)))
    if report.evaluation:
        found.append(Fact(report.evaluation.metric, evaluation_text(report.evaluation)))
    return (*found, Fact("agreement", agreement_text(report.agreement)))


def spent(report: Report) -> dict[str, str]:
    """Return the CPU seconds of each stage, those left out that took next to none."""
    return {stage: f"{significant(time, 2)} s" for stage, time in report.seconds.items() if time >= LEAST_SECONDS}


def device(report: Report) -> str:
    """Return the target, where its figures come from and its peak."""
    if report.provenance == "measured":
        return f"{report.target} ({report.provenance})"
    peak = f"at most {count(report.summary.target_macs_peak)} MACs per cycle"
    return f"{report.target} ({report.provenance}), {peak}"


def evaluation_text(evaluation: Evaluation) -> str:
    """Return a text with the user's metric before and after, and the inputs of both."""
    before, after = metric_texts(evaluation)
    points = f" ({100 * (evaluation.compiled - evaluation.dense):+.1f} points)" if evaluation.is_share else ""
    return f"{before} → {after}{points} on {evaluation.inputs} inputs of {evaluation.source}"


def metric_texts(evaluation: Evaluation) -> tuple[str, str]:
    """Return the metric before and after: a share as per cent, anything else as a number."""
    if evaluation.is_share:
        return percent(evaluation.dense), percent(evaluation.compiled)
    return significant(evaluation.dense, 4), significant(evaluation.compiled, 4)


def agreement_text(agreement: Agreement) -> str:
    """Return a text on the agreement of the outputs with the original's, and on the inputs."""
    top1 = "" if agreement.top1 is None else f"{percent(agreement.top1)} the same top-1, "
    closeness = f"cosine {agreement.cosine:.4f}, largest difference {significant(agreement.max_abs)}"
    return f"{top1}{closeness}, on {agreement.inputs} inputs ({agreement.source})"


def approximation_text(approximation: Approximation) -> str:
    """Return a text on the norms that lost channels, the error that this makes, and the inputs."""
    norms = f"{len(approximation.norms)} norm{'s' if len(approximation.norms) > 1 else ''}"
    error = f"relative error {significant(approximation.error, 2)} against the masked original"
    return f"{norms} lost channels; {error}, on {approximation.inputs} inputs ({approximation.source})"


def norm_text(norm: NormError) -> str:
    """Return a text on one norm that lost channels."""
    error = f"relative error {significant(norm.error, 2)} against the masked original"
    return f"approximate: normalises by {norm.kept} of {norm.channels} channels; {error}"


def verification_text(verification: Verification) -> str:
    """Return the largest errors of a stage and the tolerance."""
    relative = f"{scientific(verification.max_rel_error)} (tolerance {scientific(verification.tolerance)})"
    absolute = scientific(verification.max_abs_error)
    return f"relative error {relative}, absolute {absolute}, on {verification.inputs}"


def grouped_reasons(layers: Iterable[Layer]) -> dict[str, list[str]]:
    """Return the layers' names under each reason, in the order of first mention."""
    groups: dict[str, list[str]] = {}
    for layer in layers:
        if layer.reason:
            groups.setdefault(layer.reason, []).append(layer.name)
    return groups


def warnings(report: Report) -> list[str]:
    """Return what must not be missed, a line each."""
    return [f"{remark.where}: {remark.text}" for remark in report.remarks if remark.level == "warning"]


def grouped_remarks(report: Report) -> dict[str, list[str]]:
    """Return the places under the text of each remark that is no warning."""
    groups: dict[str, list[str]] = {}
    for remark in report.remarks:
        if remark.level == "warning":
            continue
        groups.setdefault(remark.text, []).append(remark.where)
    return groups


def _change(change: Change, before: str, after: str) -> str:
    """Return both counts and the share that is gone."""
    if change.dense == change.compiled:
        return f"{before}, unchanged"
    return f"{before} → {after} ({-100 * change.saved:+.1f} %)"
