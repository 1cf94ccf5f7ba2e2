"""A compile, stage by stage: capture, analyse, decide, remove, pack, lower, measure, prove, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from smartc.analysis.analyse import analysed, described
from smartc.artifact.compiled import Compiled
from smartc.data.hold_out import hold_out
from smartc.data.samples import load_samples
from smartc.decision.carry_out import pack, remove
from smartc.decision.decision import Decision
from smartc.decision.dump import Dump
from smartc.decision.job import Clock, CompileJob
from smartc.decision.plan import make_plan
from smartc.decision.result_cost import check_met
from smartc.frontend.choose_outputs import choose_outputs
from smartc.frontend.leave_alone import leave_alone
from smartc.frontend.load_or_trace import load_or_trace
from smartc.frontend.name_outputs import name_outputs
from smartc.ir.traced_model import TracedModel
from smartc.learning.decide import decide, settle_granularity
from smartc.learning.learn import Watch
from smartc.learning.training.settings import Settings
from smartc.lowering.files import lower_to
from smartc.lowering.lower import Lowered
from smartc.measuring.bench import Bench, bench_for, measured
from smartc.measuring.candidate import Candidate
from smartc.measuring.measured_prices import with_measured_prices
from smartc.measuring.measured_target import default_backends
from smartc.measuring.meet_budget import Rounds, missed
from smartc.measuring.put_back import KernelChoice, put_back
from smartc.passes.stages import run_stage
from smartc.proof.approximation import approximation
from smartc.proof.comparison import Comparison, comparison_for
from smartc.proof.limits import Limits
from smartc.proof.prove import prove
from smartc.reporting.finish_report import finish_report, found, with_approximation
from smartc.request import Request, check
from smartc.results.report import Report, ReportRemark
from smartc.selection.budget import resolved_budget
from smartc.targets.target import Target


def compile(
    model_or_path: nn.Module | TracedModel | str | Path,
    example_inputs: Any = None,
    *,
    target: str | Target,
    sparsity: float | None = None,
    latency: str | float | None = None,
    macs: str | None = None,
    bytes: str | None = None,
    granularity: str = "auto",
    learner: str | None = None,
    data: Any = None,
    preprocess: str | None = None,
    train: str | Callable[..., Any] | None = None,
    settings: Settings | None = None,
    backends: Sequence[str] | None = None,
    evaluate: Any = None,
    watch: Watch | None = None,
    dump: str | Path | Dump | None = None,
    output_names: Sequence[str] | None = None,
    outputs: int | str | Sequence[int | str] | None = None,
    keep: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    min_accuracy: float | None = None,
    min_agreement: float | None = None,
    uniform: bool = False,
    approximate: bool = False,
) -> Compiled:
    """Make a trained model faster on a target by removing channels or blocks, and prove the result.

    At most one budget is given: ``sparsity``, ``latency``, ``macs`` or ``bytes``.  The model that is given is left
    as it is.

    Args:
        model_or_path: A module, a TracedModel, or a model file.
        example_inputs: A tensor, a tuple of arguments or a dict of keyword arguments; needed for a
            module.  Axis 0 is the batch.
        target: A target, its name, or the path of its TOML file.
        sparsity: Share of removable units to remove, 0 to 1; 0.5 if no budget is given.
        latency: Time to reach on the target, as a share (``"0.6x"``) or in ms (``"1.5ms"``).
        macs: Multiply-accumulates to reach, as a share or an amount (``"300M"``).
        bytes: Bytes of weights to reach, as a share or an amount (``"2MB"``).
        granularity: ``channel``; ``block``, the target's tile; ``RxC``; ``n:m``; or ``auto``: with data
            blocks where the target skips zero tiles, unless channels lose less for the same budget;
            without data channels.
        learner: Where masks come from: with data ``smart`` (the default), ``pdp``, ``sp-lamp``,
            ``magnitude``, ``taylor`` or ``ac-dc``; without data ``sp-lamp`` (the default) or ``magnitude``.
        data: What to learn from: a tensor, a tuple or a dict of tensors, an iterable, DataLoader or Dataset of
            these, a function that yields them, a file (.npz, .npy, .safetensors, .pt), a folder of images, or
            ``package.module:function``.  One tensor more than the model has inputs holds labels; without
            labels the model as it is teaches.  Where there are 2000 samples or more, some are left out of
            learning, to measure the agreement on.
        preprocess: How images and uint8 arrays are normalised: ``imagenet``, ``half`` (-1 to 1), ``unit``
            (0 to 1), or ``mean=0.48,0.45,0.41:std=0.23,0.22,0.22``.
        train: A loss of your own: a function or ``package.module:function``, called with the model, a
            tuple of its inputs and the labels or None; returns a tensor of one number.
        settings: Steps, batch size, seed, precision and checkpoints of learning.
        backends: What to lower to beside ``.pt2``; empty stops before lowering.  ``("onnx",)`` if none is
            given, and ``"tvm"`` too for the target ``cpu`` where TVM is installed.  Where ONNX has no form
            for an operator, the report says so and there is no ONNX file.
        evaluate: Labelled inputs (``(inputs, labels)`` or a file), or a metric (a function of the
            model or ``package.module:function``), whose value before and after the report states.
        watch: Called after each step of learning with where it stands, the number of all steps, and the
            share of the budget that is met.
        dump: A folder, not there yet, for the graph as text after every stage, and the passes that ran.
        output_names: What ONNX files and ``smartc run`` call the outputs, one name for each tensor; by default the
            keys of a dict that the model returns, and ``output_0``, ``output_1`` by position.
        outputs: The outputs to compile, by their position in what the model returns, counted from 0, or by name; the
            compiled model returns None for the others, and has nothing that they alone need.
        keep: Layers and parameters to leave alone, by name or by patterns such as ``"head.*"``: their weights are
            neither removed nor masked, refitted or trained, and so the channels that they read stay, too.
        only: Likewise the layers not to leave alone: all others are.
        min_accuracy: The least accuracy, or value of your metric, that the compiled model may have; needs ``evaluate``.
        min_agreement: The least share of the inputs, 0 to 1, on which it must have the top-1 of the original; where
            outputs are no scores, the least cosine.
        uniform: Whether layers at the same place of repeated blocks, such as every ``layers.N.mlp``, keep as many
            channels as one another, so that one number in a configuration tells their size.
        approximate: Whether norms may lose channels that they take statistics over, such as those of a transformer's
            residual stream. The statistics change, so the result is no longer the masked original: the report states
            its error, and what is proved is the masked original whose norms see only the channels that stay.

    Returns:
        The compiled model.  With no backend its proof runs when the module, the report or a saved
        folder is first asked for; otherwise before this returns.

    Raises:
        UserError: An argument is wrong, the model cannot be captured, the budget cannot be met, or the compiled
            model is worth less than ``min_accuracy`` or ``min_agreement``.
        InternalError: A stage computes something else than the masked original.

    Example:
        >>> import smartc, torch
        >>> layers = (torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3))
        >>> model = torch.nn.Sequential(*layers)
        >>> compiled = smartc.compile(model, torch.randn(1, 3, 8, 8), target="npu-8x8", sparsity=0.5)
        >>> compiled(torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 8, 4, 4])
        >>> compiled.report.latency.speed_up > 1
        True
        >>> compiled.save("build")
    """
    wanted, limits = (sparsity, latency, macs, bytes), Limits(min_accuracy, min_agreement).checked(evaluate is not None)
    chosen = (data is not None, backends, output_names, outputs, keep, only, uniform, approximate)
    job = start(model_or_path, example_inputs, Request(target, wanted, granularity, learner, *chosen), dump)
    samples, held = (None, None) if data is None else hold_out(load_samples(data, job.original, preprocess))
    comparison = comparison_for(job.original, held, evaluate, limits, samples)
    backends = default_backends(job.target) if backends is None else backends
    bench = bench_for(job, backends)
    job = settle_granularity(with_measured_prices(job, bench), samples, granularity)
    best = _best_candidate(job, (samples, train, settings or Settings(), watch), bench, backends)
    return emit(job, best, comparison, bench, backends)


def _best_candidate(job: CompileJob, learning: tuple[Any, ...], bench: Bench, backends: Sequence[str]) -> Candidate:
    """Return the candidate that comes nearest to the budget, measured where that can be, of as many as it takes.

    Args:
        job: What is compiled.
        learning: What decides beside the job: samples, a loss, settings, and what watches.
        bench: Where candidates are measured.
        backends: What each is lowered to.
    """
    rounds = Rounds.begun(job, make_candidate(job, decide(job, *learning), bench, backends))
    while learning[0] is None and (budget := rounds.next_budget(job)) is not None:
        decision = decide(replace(job, budget=budget), *learning)
        rounds = rounds.after(job, budget, make_candidate(job, decision, bench, backends))
    return rounds.best


def start(
    model: Any, example_inputs: Any, asked: Request, dump: str | Path | Dump | None = None, *, folds: bool = True
) -> CompileJob:
    """Return the job of a compile: what was asked for, checked, and the model, captured and analysed.

    Args:
        model: A module, a TracedModel or a model file.
        example_inputs: As for ``compile``.
        asked: The options.
        dump: As for ``compile``.
        folds: Whether what parameters alone compute may become a constant; a loop of the user's trains the parameters.

    Raises:
        UserError: An option is wrong or the model cannot be captured.
    """
    target, budget, granularity, learner = check(asked)
    clock = Clock(Dump.to(dump))
    with clock("capture"):
        captured = choose_outputs(load_or_trace(model, example_inputs), asked.outputs)
        captured = name_outputs(captured, asked.output_names)
        captured = leave_alone(captured, asked.keep, asked.only)
    clock.dump.stage("capture", captured, *(f"{remark.where}: {remark.text}" for remark in captured.remarks))
    with clock("analysis"):
        original = run_stage("fold", captured, parameters=folds, all_weights=not granularity.spans_weights).model
        layers = analysed(original, asked.approximate)
    clock.dump.stage("analyse", original, *described(layers))
    resolved = resolved_budget(budget, layers, target)
    widths = {"uniform": asked.uniform, "approximate": asked.approximate}
    return CompileJob(captured, original, layers, target, resolved, granularity, learner, clock, **widths)


def emit_decision(
    job: CompileJob,
    decision: Decision,
    comparison: Comparison,
    backends: Sequence[str] | None = None,
    warnings: Sequence[ReportRemark] = (),
) -> Compiled:
    """Return the compiled model of a decision that is not taken again."""
    backends = default_backends(job.target) if backends is None else backends
    bench = bench_for(job, backends)
    return emit(job, make_candidate(job, decision, bench, backends), comparison, bench, backends, warnings)


def make_candidate(job: CompileJob, decision: Decision, bench: Bench, backends: Sequence[str]) -> Candidate:
    """Return what a decision comes to: removed, packed, lowered and measured, until all that was removed pays.

    With no backend nothing is lowered or measured.
    """
    choice = KernelChoice(decision)
    while True:
        smaller = remove(job, choice.decision)
        packed = pack(job, choice.decision, smaller)
        # What measurements judge, or put back later, they know to be worth its time.
        if choice.decision is decision and not bench.judges(job.budget):
            check_met(job, packed.model)
        plan = make_plan(job, choice.decision, packed, hashed=bool(backends))
        files = lower_to(job, plan, packed, backends, choice.dense)
        times = measured(job, bench, packed, files)
        better = put_back(job, choice, times)
        if better is None:
            return Candidate(decision, choice, packed, plan, files, times)
        choice = better


def emit(
    job: CompileJob,
    candidate: Candidate,
    comparison: Comparison,
    bench: Bench,
    backends: Sequence[str],
    warnings: Sequence[ReportRemark] = (),
) -> Compiled:
    """Return the compiled model of a candidate, proved and reported; with no backend when it is first asked."""
    decision, choice, packed = candidate.decision, candidate.choice, candidate.packed

    def proved() -> tuple[Report, Sequence[Lowered]]:
        """Prove every stage, and return the report with the files that passed."""
        proofs = prove(job, decision, choice.decision, packed.model, candidate.files.lowered)
        told = (*packed.remarks, *candidate.files.remarks, *proofs.remarks, *bench.remarks)
        findings = found(job, comparison, packed.model, proofs.verifications, (*missed(job, candidate), *told))
        findings = with_approximation(findings, approximation(comparison, choice.decision))
        findings = replace(findings, warnings=(*warnings, *findings.warnings))
        times = candidate.times and candidate.times.only([part.file for part in proofs.files])
        return finish_report(job, choice, candidate.plan, packed.model, findings, times), proofs.files

    if not backends:
        again = partial(emit_decision, job, decision, comparison, ("pt2",), warnings)
        return Compiled(packed.model, candidate.plan, lambda: proved()[0], None, again, comparison)
    report, passed = proved()
    lowered = {part.file: part.write for part in passed}
    return Compiled(packed.model, candidate.plan, report, lowered, comparison=comparison)
