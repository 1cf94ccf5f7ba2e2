"""Put what was measured into a report, in place of what the cost table says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from smartc.measuring.measurement import DENSE, Measurement, NetworkTimes
from smartc.measuring.timing import Timing
from smartc.results.formats import milliseconds, times
from smartc.results.report import Causes, Figures, Latency, Layer, Report, ReportRemark

Kind = Literal["channel", "block", "n:m", "dense", "frozen"]
NOTHING = Timing(0.0, 0.0)
REST = "rest"


def with_measurement(report: Report, measured: Measurement, reasons: Mapping[str, str]) -> Report:
    """Return the report with the times of the dense network in ONNX Runtime and of one compiled file.

    Args:
        report: With figures of the cost table.
        measured: The times.
        reasons: Why layers are dense after all, by name.
    """
    before, after = measured.dense, measured.compiled
    layers = [_measured(layer, before, after, reasons.get(layer.name)) for layer in report.layers]
    layers.append(_rest(before, after))
    totals = (sum(layer.dense.ms for layer in layers), sum(layer.compiled.ms for layer in layers))
    spread, samples = (before.total.spread, after.total.spread), report.latency.samples
    latency = Latency("measured", "ms", *totals, file=measured.file, spread=spread, samples=samples)
    budget = report.budget
    if budget.kind == "latency":
        took = f"{totals[1] / totals[0]:.4f}x" if budget.asked.endswith("x") else f"{totals[1]:.4g}ms"
        reached = f"{budget.reached} by the table of kernels, {took} measured"
        budget = replace(budget, reached=reached)
    remarks = (*report.remarks, *_slower(measured), *_slower_layers(measured), *_others(measured))
    return replace(report, latency=latency, layers=tuple(layers), budget=budget, remarks=remarks)


def _measured(layer: Layer, before: NetworkTimes, after: NetworkTimes, reason: str | None) -> Layer:
    """Return one line of the report with its times."""
    dense, compiled = _figures(layer.dense, layer.name, before), _figures(layer.compiled, layer.name, after)
    if reason is None:
        return replace(layer, dense=dense, compiled=compiled)
    kind: Kind = "dense"
    return replace(layer, decision=kind, reason=reason, dense=dense, compiled=compiled)


def _figures(figures: Figures, name: str, network: NetworkTimes) -> Figures:
    """Return figures with a measured time; a layer that a runtime has no kernel for takes none of its own."""
    timing = network.layers.get(name, NOTHING)
    share = figures.ms / timing.ms if timing.ms else 0.0
    return replace(
        figures,
        ms=timing.ms,
        cycles=0.0,
        utilisation=min(figures.utilisation * share, 1.0),
        spread_ms=timing.spread,
    )


def _rest(before: NetworkTimes, after: NetworkTimes) -> Layer:
    """Return the row of the time that runtimes spend beside the layers."""
    sides = [
        Figures((), None, 0, 0, 0.0, one.rest.ms, "none", 0.0, None, Causes(0.0, 0.0, 0.0, 0.0, 0.0), one.rest.spread)
        for one in (before, after)
    ]
    return Layer(REST, "runtime", "dense", "what the runtimes do beside the layers", *sides)


def _slower(measured: Measurement) -> list[ReportRemark]:
    """Return a warning where the file of the report is slower than the dense network by more than the spread."""
    before, after = measured.dense.total, measured.compiled.total
    if not before.beats(after):
        return []
    took = f"{milliseconds(after.ms)} ± {milliseconds(after.spread)}"
    dense = f"{milliseconds(before.ms)} ± {milliseconds(before.spread)}"
    text = f"is slower than the original: it takes {took}, and {DENSE} {dense}; nothing was gained on this machine"
    return [ReportRemark(measured.file, text)]


def _slower_layers(measured: Measurement) -> list[ReportRemark]:
    """Return a remark on the layers that take longer in the file of the report than dense, by more than the spread.

    Where the whole file does, that is said of the whole.
    """
    before, after = measured.dense.layers, measured.compiled.layers
    if measured.dense.total.beats(measured.compiled.total):
        return []
    slow = [name for name in before if name in after and before[name].beats(after[name])]
    if not slow:
        return []
    count = "1 layer is" if len(slow) == 1 else f"{len(slow)} layers are"
    took = ", ".join(f"{name} {milliseconds(after[name].ms)} ({milliseconds(before[name].ms)})" for name in slow)
    return [ReportRemark(measured.file, f"{count} slower than in {DENSE}, whose times are in brackets: {took}")]


def _others(measured: Measurement) -> list[ReportRemark]:
    """Return remarks with the times of the files that the report is not on."""
    remarks = []
    for name, network in measured.files.items():
        if name != measured.file:
            ratio = times(measured.dense.total.ms / network.total.ms)
            text = f"takes {milliseconds(network.total.ms)} (measured), {ratio} as fast as {DENSE}"
            remarks.append(ReportRemark(name, text))
    return remarks
