"""What a compiled model must be worth: limits of the user's, and a warning where next to nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from smartc.core.errors import Argument, UserError
from smartc.results.figures import Agreement, Evaluation, ReportRemark
from smartc.results.formats import percent, significant

# Of an accuracy so much must be left, else there is a warning: nobody cuts a model to lose a tenth of its answers.
LEAST_ACCURACY_LEFT = 0.9
# With another answer than the original's on every second input, a model is another model.
LEAST_AGREEMENT = 0.5
_ADVICE = "lower the budget, or learn from data, longer or from more"


@dataclass(frozen=True)
class Limits:
    """The least that the user takes.

    Attributes:
        accuracy: Of the accuracy of the compiled model, 0 to 1, or of the user's metric; None for any.
        agreement: Of the share of the inputs with the top-1 of the original, 0 to 1, or of the cosine where outputs
            are no scores; None for any.
    """

    accuracy: float | None = None
    agreement: float | None = None

    def checked(self, evaluated: bool) -> Limits:
        """Return the limits if some model can meet them.

        Raises:
            UserError: One is out of range, or nothing is evaluated that it could be of.
        """
        if self.accuracy is not None and not evaluated:
            fix = ("Add ", Argument("evaluate"))
            raise UserError("there is nothing to evaluate on", where=Argument("min_accuracy", self.accuracy), fix=fix)
        if self.agreement is not None and not 0 <= self.agreement <= 1:
            where = Argument("min_agreement", self.agreement)
            raise UserError("not a share of inputs", where=where, fix="Give a number from 0 to 1")
        return self

    def check(self, agreement: Agreement, evaluation: Evaluation | None) -> None:
        """Raise unless a compiled model is worth what the user takes.

        Raises:
            UserError: It is not; it says the figures.
        """
        fix = f"Take less, or {_ADVICE}"
        if self.accuracy is not None and evaluation is not None and not evaluation.compiled >= self.accuracy:
            fact = f"{evaluation.metric} is {_figure(evaluation, evaluation.compiled)} and was "
            fact += f"{_figure(evaluation, evaluation.dense)}, on {evaluation.inputs} inputs of {evaluation.source}"
            raise UserError(fact, where=Argument("min_accuracy", self.accuracy), fix=fix)
        if self.agreement is not None and not _share(agreement) >= self.agreement:
            raise UserError(_told(agreement), where=Argument("min_agreement", self.agreement), fix=fix)


NO_LIMITS = Limits()


def collapse(agreement: Agreement, evaluation: Evaluation | None) -> Iterator[ReportRemark]:
    """Yield a warning for each figure that says that the compiled model is of no use as it is."""
    if evaluation is not None and evaluation.is_share and evaluation.compiled < LEAST_ACCURACY_LEFT * evaluation.dense:
        before, after = (_figure(evaluation, value) for value in (evaluation.dense, evaluation.compiled))
        lost = f"less than {LEAST_ACCURACY_LEFT:.0%} of it is left"
        yield ReportRemark(evaluation.metric, f"fell from {before} to {after}: {lost}; {_ADVICE}", "warning")
    if not _share(agreement) >= LEAST_AGREEMENT:
        yield ReportRemark("agreement", f"{_told(agreement)}: {_ADVICE}", "warning")


def _share(agreement: Agreement) -> float:
    """Return how much outputs agree, 0 to 1."""
    return agreement.cosine if agreement.top1 is None else agreement.top1


def _told(agreement: Agreement) -> str:
    """Return how much outputs agree, and on what."""
    on = f"on {agreement.inputs} inputs ({agreement.source})"
    if agreement.top1 is None:
        return f"the cosine to the original's outputs is {agreement.cosine:.4f} {on}"
    return f"{percent(agreement.top1)} have the same top-1 as the original, {on}"


def _figure(evaluation: Evaluation, value: float) -> str:
    """Return a value of a metric: a share as per cent."""
    return percent(value) if evaluation.is_share else significant(value, 4)
