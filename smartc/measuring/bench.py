"""The measure stage: what the dense network and the lowered files take on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smartc.analysis.analyse import analysed
from smartc.core.errors import UserError
from smartc.core.version import __version__
from smartc.decision.job import CompileJob
from smartc.ir.traced_model import Remark
from smartc.lowering.files import Files
from smartc.lowering.lower import dense_timer
from smartc.measuring.cost_table_file import noise_text
from smartc.measuring.measurement import TVM_FILE, Dense, Measurement, NetworkTimes, measure, timing_inputs
from smartc.measuring.processor import has_tvm
from smartc.packing.pack import PackedModel
from smartc.selection.budget import Budget
from smartc.targets.cost_table import NOISY
from smartc.targets.measured import MeasuredTarget

NO_TVM = "TVM is not installed, and without it nothing skips zero tiles: pip install 'smartc[tvm]'"


@dataclass(frozen=True, eq=False)
class Bench:
    """The dense network that files are timed against.

    Attributes:
        dense: The network; None where nothing is measured.
        remarks: Why nothing, or not all, is measured.
    """

    dense: Dense | None = None
    remarks: tuple[Remark, ...] = ()

    def judges(self, budget: Budget) -> bool:
        """Return whether a budget is held against measured time, and not against prices."""
        return self.dense is not None and budget.kind == "latency"


def bench_for(job: CompileJob, backends: Sequence[str]) -> Bench:
    """Return the bench of a job; an empty one where its target is not this machine, or nothing is lowered."""
    if not backends or not job.target.is_this_machine:
        return Bench()
    try:
        with job.clock("measuring"):
            timer = dense_timer(job.original, {"version": __version__})
    except UserError as error:
        text = f"nothing was measured, because there is no dense ONNX model: {error.fact}"
        return Bench(remarks=(Remark("measuring", text),))
    texts = [] if has_tvm() else [NO_TVM]
    if isinstance(job.target, MeasuredTarget) and job.target.costs.noise >= NOISY:
        texts.append(noise_text(job.target.costs))
    remarks = tuple(Remark(job.target.name, text) for text in texts)
    return Bench(Dense(timer, job.layers, timing_inputs(job.original)), remarks)


def dense_times(job: CompileJob, bench: Bench) -> NetworkTimes | None:
    """Return what the dense network takes by itself; None where nothing is measured."""
    if bench.dense is None:
        return None
    with job.clock("measuring"):
        return measure(bench.dense, {}, job.layers)[0]


def measured(job: CompileJob, bench: Bench, packed: PackedModel, files: Files) -> Measurement | None:
    """Return what the dense network and the files take; None where no file can be timed.

    The report is on the fastest, of two alike on the one that skips blocks where there are any.
    """
    timed = {part.file: part for part in files.lowered if part.timer is not None}
    if packed.blocks is not None and TVM_FILE in timed:
        timed = {TVM_FILE: timed[TVM_FILE], **timed}
    if bench.dense is None or not timed:
        return None
    with job.clock("measuring"):
        before, after = measure(bench.dense, timed, analysed(packed.model))
    job.dump.stage("measure", None, *(f"{name}: {times.total.ms:.4g} ms" for name, times in after.items()))
    return Measurement(before, after, min(after, key=lambda name: after[name].total.ms))
