"""The pipeline: from a model to a proved, smaller one, on one screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from smartc.analysis.analyse import analysed
from smartc.artifact.compiled import Compiled
from smartc.data.samples import load_samples
from smartc.decision.decision import by_scores
from smartc.decision.job import Clock, CompileJob, captured, check_choice
from smartc.finish import finish
from smartc.ir.traced_model import TracedModel
from smartc.learning.choose_granularity import with_better_granularity
from smartc.learning.decide import mask_once
from smartc.learning.learn import Watch, learn
from smartc.learning.learners.registry import chosen_learner
from smartc.learning.training.settings import Settings
from smartc.lowering.lower import BACKENDS
from smartc.masks.granularity import parse_granularity
from smartc.measuring.measured_target import with_costs
from smartc.proof.comparison import comparison_for
from smartc.selection.choose import parse_budget
from smartc.targets.target import Target, load_target

__all__ = ["Options", "check_backends", "compile", "finish", "start_job"]


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
) -> Compiled:
    """Make a trained model faster on a target by removing channels or blocks, and prove the result.

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
        data: What to learn from, with labels or without: anything that ``load_samples`` takes.  Without
            labels the model as it is teaches.
        preprocess: How images are normalised, see ``load_samples``.
        train: A loss of your own: a function or ``package.module:function``, called with the model, a
            tuple of its inputs and the labels or None.
        settings: Steps, batch size, seed, precision and checkpoints of learning.
        backends: What to lower to beside ``.pt2``; empty stops before lowering.  ``("onnx",)`` if none is
            given, and ``"tvm"`` too for the target ``cpu`` where TVM is installed.  Where ONNX has no form
            for an operator, the report says so and there is no ONNX file.
        evaluate: Labelled inputs (``(inputs, labels)`` or a file), or a metric (a function of the
            model or ``package.module:function``), whose value before and after the report states.
        watch: Called after each step of learning with where it stands, the number of all steps, and the
            share of the budget that is met.

    Returns:
        The compiled model.  With no backend its proof runs when the module, the report or a saved
        folder is first asked for; otherwise before this returns.

    Raises:
        UserError: An argument is wrong, the model cannot be captured, or the budget cannot be met.
        InternalError: A stage computes something else than the masked original.
    """
    budget = (sparsity, latency, macs, bytes)
    options = Options(target, budget, granularity, learner, data is not None, backends)
    job = start_job(model_or_path, example_inputs, options)
    samples = None if data is None else load_samples(data, job.original, preprocess)
    outcome = comparison_for(job.original, samples, evaluate)
    if granularity == "auto":
        with job.clock("planning"):
            job = with_better_granularity(job, samples)
    if samples is not None:
        decision = learn(job, samples, train, settings or Settings(), watch)
    elif job.granularity.spans_weights:
        with job.clock("planning"):
            decision = by_scores(job)
    else:
        with job.clock("planning"):
            decision = mask_once(job)
    return finish(job, decision, outcome, backends)


@dataclass(frozen=True, eq=False)
class Options:
    """What was asked for, not yet checked."""

    target: str | Target
    budget: tuple[float | None, str | float | None, str | None, str | None]
    granularity: str
    learner: str | None
    with_data: bool
    backends: Sequence[str] | None = None


def check_backends(backends: Sequence[str] | None) -> None:
    """Fail unless there is a lowering to each backend."""
    for backend in backends or ():
        check_choice(backend, BACKENDS, "--backend")


def start_job(model: Any, example_inputs: Any, options: Options) -> CompileJob:
    """Check what was asked for, capture the model and analyse it.

    Raises:
        UserError: An option is wrong or the model cannot be captured.
    """
    check_backends(options.backends)
    learner = chosen_learner(options.learner, options.with_data)
    device = load_target(options.target) if isinstance(options.target, str) else options.target
    device = with_costs(device, options.backends)
    asked = "channel" if options.granularity == "auto" and not options.with_data else options.granularity
    granularity = parse_granularity(asked, device)
    budget = granularity.budget(parse_budget(*options.budget), given=any(part is not None for part in options.budget))
    clock = Clock()
    with clock("capture"):
        original = captured(model, example_inputs)
    with clock("analysis"):
        layers = analysed(original)
    return CompileJob(original, layers, device, budget, granularity, learner, clock)
