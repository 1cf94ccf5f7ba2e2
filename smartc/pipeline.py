"""The pipeline: from a model to a proved, smaller one, on one screen."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from smartc.build_report import Findings, build_report
from smartc.capture import trace
from smartc.choose import Budget, Choice, Search, choose, parse_budget
from smartc.compiled import Compiled
from smartc.errors import UserError
from smartc.lowering import BACKENDS, Lowered, lower
from smartc.model import Remark, TracedModel
from smartc.outcome import Outcome, outcome_for
from smartc.passes.base import run_passes
from smartc.passes.find_channel_groups import find_channel_groups
from smartc.passes.find_layers import find_layers
from smartc.passes.remove_channels import BoolArray, RemoveChannels
from smartc.plan import GroupDecision, Plan, kept_indices, model_hash
from smartc.report import Budget as ReachedBudget
from smartc.report import Report
from smartc.scores import LEARNERS, unit_scores
from smartc.targets.target import Target, load_target
from smartc.verify import Reference

GRANULARITIES = ("auto", "channel")


def compile(
    model_or_path: nn.Module | TracedModel | str | Path,
    example_inputs: Any = None,
    *,
    target: str | Target,
    sparsity: float | None = None,
    latency: str | float | None = None,
    granularity: str = "auto",
    learner: str | None = None,
    data: Any = None,
    backends: Sequence[str] = ("onnx",),
    evaluate: Any = None,
) -> Compiled:
    """Make a trained model faster on a target by removing channels, and prove the result.

    Args:
        model_or_path: A module, a TracedModel, or a model file.
        example_inputs: A tensor, a tuple of arguments or a dict of keyword arguments; needed for a
            module.  Axis 0 is the batch.
        target: A target, its name, or the path of its TOML file.
        sparsity: Share of removable channels to remove, 0 to 1; 0.5 if no budget is given.
        latency: Time to reach on the target, as a share (``"0.6x"``) or in ms (``"1.5ms"``).
        granularity: ``channel``, or ``auto`` for what pays on the target.
        learner: Where scores come from: ``sp-lamp`` (the default) or ``magnitude``.
        data: Inputs (a tensor, a tuple of arguments, or an iterable of these) on which the report
            compares the compiled model with the original; seeded ones if not given.
        backends: What to lower to beside ``.pt2``; empty stops before lowering.  Where ONNX has no form
            for an operator, the report says so and there is no ONNX file.
        evaluate: Labelled inputs (``(inputs, labels)`` or a file), or a metric (a function of the
            model or ``package.module:function``), whose value before and after the report states.

    Returns:
        The compiled model.  With no backend its proof runs when the module, the report or a saved
        folder is first asked for; otherwise before this returns.

    Raises:
        UserError: An argument is wrong, the model cannot be captured, or the budget cannot be met.
        InternalError: A stage computes something else than the masked original.
    """
    budget = parse_budget(sparsity, latency)
    _check(granularity, GRANULARITIES, "--granularity")
    learner = learner or "sp-lamp"
    _check(learner, LEARNERS, "--learner")
    for backend in backends:
        _check(backend, BACKENDS, "--backend")
    device = load_target(target) if isinstance(target, str) else target
    clock = Clock()
    with clock("capture"):
        original = _captured(model_or_path, example_inputs)
    outcome = outcome_for(original, data, evaluate)
    with clock("analysis"):
        groups = find_channel_groups(original)
        layers = find_layers(original, groups)
    with clock("planning"):
        search = Search(layers, device, unit_scores(original, groups, learner))
        choice = choose(search, budget)
        keep = search.kept_units(choice.kept)
        about = {"learner": learner, "model": {"name": original.name, "sha256": None}}
        plan = _plan(original, search, choice, keep, budget, about)
    with clock("removal"):
        smaller = run_passes(original, (RemoveChannels(groups, keep),)).model
    job = Job(outcome, smaller, search, choice, keep, plan, clock)
    compiled = job.compiled(backends)
    if backends:
        _ = compiled.report
    return compiled


@dataclass(frozen=True, eq=False)
class Clock:
    """Processor seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the processor time of a block to a stage."""
        start = time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start


@dataclass(frozen=True, eq=False)
class Job:
    """A compilation after removal, with what its proof and its lowering need."""

    outcome: Outcome
    smaller: TracedModel
    search: Search
    choice: Choice
    keep: BoolArray
    plan: Plan
    clock: Clock

    def compiled(self, backends: Sequence[str]) -> Compiled:
        """Lower to the backends, if any, and return the result; its report proves every stage."""
        plan, lowered = self.plan, None
        remarks: list[Remark] = []
        if backends:
            with self.clock("lowering"):
                about = {"name": self.outcome.original.name, "sha256": model_hash(self.outcome.original)}
                plan = replace(plan, model=about)
                metadata = {"version": plan.smartc, "target": self.search.target.name, "plan": plan.sha256}
                lowered, remarks = lower(self.smaller, backends, metadata)
        return Compiled(
            model=self.smaller,
            plan=plan,
            prove=lambda: self.report(lowered or (), remarks),
            lowered=None if lowered is None else {part.file: part.write for part in lowered},
            lower=lambda: self.compiled(("pt2",)),
        )

    def report(self, lowered: Sequence[Lowered], remarks: Sequence[Remark]) -> Report:
        """Prove every stage and build the report."""
        original = self.outcome.original
        with self.clock("proof"):
            reference = Reference(original, self.search.groups, self.keep)
            proofs = [reference.prove_removal(self.smaller), *(part.prove(reference) for part in lowered)]
        with self.clock("evaluation"):
            agreement = self.outcome.agreement(self.smaller)
            evaluation = self.outcome.evaluation(self.smaller)
        findings = Findings(tuple(proofs), agreement, evaluation, dict(self.clock.seconds), tuple(remarks))
        reached = ReachedBudget(**self.plan.budget)
        report = build_report(original, self.smaller, self.search, self.choice, findings, reached)
        report.check_sums()
        return report


def _captured(model: Any, example_inputs: Any) -> TracedModel:
    """Return the TracedModel of whatever the user gave."""
    if isinstance(model, TracedModel):
        return model
    if isinstance(model, (str, Path)):
        from smartc.model_file import load_model

        return load_model(model)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"a {type(model).__name__} is no model",
            where="smartc.compile",
            fix="Give an nn.Module or a file's path",
        )
    if example_inputs is None:
        raise UserError(
            "example inputs are missing",
            where=type(model).__name__,
            fix="Give example_inputs, a batch of at least one",
        )
    return trace(model, example_inputs)


def _plan(
    original: TracedModel,
    search: Search,
    choice: Choice,
    keep: BoolArray,
    budget: Budget,
    about: dict[str, Any],
) -> Plan:
    """Write down what was decided."""
    decisions = tuple(
        GroupDecision(group.name, len(group), int(kept), group.weight, reason)
        for group, kept, reason in zip(search.groups.groups, choice.kept, choice.reasons, strict=True)
    )
    return Plan(
        target=search.target.to_dict(),
        budget={"kind": budget.kind, "asked": budget.asked, "reached": _reached(search, choice, budget)},
        groups=decisions,
        tensors=kept_indices(original, search.groups, keep),
        **about,
    )


def _reached(search: Search, choice: Choice, budget: Budget) -> str:
    """Return what a budget came to, in its own unit."""
    if budget.kind == "sparsity":
        total = int(search.weights @ search.full) if len(search.full) else 0
        return f"{1 - int(search.weights @ choice.kept) / total:.3f}" if total else "0"
    cycles = float(search.cycles(choice.kept))
    if budget.asked.endswith("x"):
        return f"{cycles / float(search.cycles(search.full)):.4f}x"
    return f"{cycles / search.target.array.frequency_hz * 1e3:.4g}ms"


def _check(given: str, known: Collection[str], option: str) -> None:
    """Fail unless a word is one of the known."""
    if given not in known:
        raise UserError("not known", where=f"{option} {given}", fix=f"Choose one of {', '.join(known)}")
