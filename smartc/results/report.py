"""The report of a compilation: what each layer cost before and after, and the proof of the result."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartc.core.brief import brief
from smartc.core.errors import InternalError, UserError
from smartc.core.records import decode, encode
from smartc.core.regular_file import read_json
from smartc.results.csv_rows import layers_to_csv
from smartc.results.figures import (
    SIDES,
    Agreement,
    Approximation,
    BudgetResult,
    Causes,
    Change,
    Evaluation,
    Figures,
    Latency,
    Layer,
    Learning,
    LearningMoment,
    NormError,
    ReportRemark,
    Side,
    Summary,
    Verification,
)
from smartc.results.formats import TimeScale, milliseconds, time_scale, times

__all__ = [
    "Agreement",
    "Approximation",
    "BudgetResult",
    "Causes",
    "Change",
    "Evaluation",
    "Figures",
    "Latency",
    "Layer",
    "Learning",
    "LearningMoment",
    "NormError",
    "Report",
    "ReportRemark",
    "Summary",
    "Verification",
    "notebook_view",
]

SCHEMA = 1

# Totals and layers are float64 sums of the same numbers in another order.
SUM_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Report:
    """Hold everything that ``report.json`` says; layers are in the order of execution.

    A notebook shows its head and its picture.
    """

    schema: int
    smartc: str
    model: str
    target: str
    provenance: str
    assumption: str
    latency: Latency
    budget: BudgetResult
    summary: Summary
    layers: tuple[Layer, ...]
    verify: tuple[Verification, ...]
    agreement: Agreement
    evaluation: Evaluation | None
    remarks: tuple[ReportRemark, ...]
    artifacts: Mapping[str, int]
    seconds: Mapping[str, float]
    learning: Learning | None = None
    approximation: Approximation | None = None

    def __repr__(self) -> str:
        """Return the headline and the number of stages that agree with the original, or what they agree with."""
        passed = sum(stage.passed for stage in self.verify)
        norms = "" if self.approximation is None else f" for approximate norms ({len(self.approximation.norms)})"
        return f"Report({self.headline}; {passed} of {len(self.verify)} stages proved{norms})"

    def _repr_html_(self) -> str | None:
        """Return the HTML that a notebook shows; None where nothing is registered to make it."""
        return _NOTEBOOK_VIEWS[-1](self) if _NOTEBOOK_VIEWS else None

    @property
    def headline(self) -> str:
        """Return in one line the model, the target, the latency before and after, and the speed-up."""
        latency = self.latency
        change = f"{milliseconds(latency.dense)} -> {milliseconds(latency.compiled)} {latency.kind}"
        return f"{brief(self.model)} on {brief(self.target, 20)}: {change}, {times(latency.speed_up)}"

    @property
    def time_scale(self) -> TimeScale:
        """Return the scale in which the times of layers are written."""
        return time_scale(max((max(layer.dense.ms, layer.compiled.ms) for layer in self.layers), default=0.0))

    def layer(self, name: str) -> Layer:
        """Return the first layer of this name.

        Raises:
            UserError: There is none; it names the nearest.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
        raise UserError(f"no layer is called {name!r}", where=self.model, fix=f"The nearest are {', '.join(nearest)}")

    def share(self, layer: Layer, side: Side) -> float:
        """Return the layer's share of the network's time, 0 to 1."""
        total: float = getattr(self.latency, side)
        figures: Figures = getattr(layer, side)
        return figures.ms / total if total else 0.0

    def check_sums(self) -> None:
        """Fail unless time, multiply-accumulates and weight bytes of the layers add up to the totals.

        Raises:
            InternalError: They do not.
        """
        for side in SIDES:
            figures: list[Figures] = [getattr(layer, side) for layer in self.layers]
            _check_sum(f"latency.{side}", getattr(self.latency, side), (f.ms for f in figures))
            _check_sum(f"macs.{side}", getattr(self.summary.macs, side), (f.macs for f in figures))
            total = getattr(self.summary.weight_bytes, side)
            _check_sum(f"weight_bytes.{side}", total, (f.weight_bytes for f in figures))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        content: dict[str, Any] = encode(self)
        return content

    @staticmethod
    def from_dict(data: object, where: str = "report.json") -> Report:
        """Read the content of ``report.json``; ``where`` names it in errors.

        Raises:
            UserError: The schema is another one, a key is missing, a value has another type or a list
                another length.
        """
        schema = data.get("schema", SCHEMA) if isinstance(data, dict) else SCHEMA
        if schema != SCHEMA:
            raise UserError(
                f"its schema is {schema!r} and this version reads {SCHEMA}",
                where=where,
                fix="Read it with the version of smartc that wrote it, or compile again",
            )
        report = decode(Report, data, where)
        if report.learning:
            _check_densities(report.learning, where)
        return report

    def save(self, path: str | Path) -> None:
        """Write ``report.json``.

        Raises:
            UserError: The file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8", errors="replace")
        except OSError as error:
            raise UserError(
                f"it cannot be written: {error.strerror}", where=str(path), fix="Choose another place"
            ) from error

    @staticmethod
    def load(path: str | Path) -> Report:
        """Read ``report.json``.

        Raises:
            UserError: The file cannot be read or is no report.
        """
        fix = "Name the report.json of a folder that smartc compile wrote"
        try:
            data = read_json(path, fix)
        except OSError as error:
            raise UserError(f"it cannot be read: {error.strerror}", where=str(path), fix=fix) from error
        return Report.from_dict(data, str(path))

    def to_csv(self) -> str:
        """Return one row per layer under a header; there is no row of totals, so columns add up to them."""
        return layers_to_csv(self.latency, self.layers)


# What shows a report in a notebook; reporting, which imports this file, has it.
_NOTEBOOK_VIEWS: list[Callable[[Report], str]] = []


def notebook_view(render: Callable[[Report], str]) -> Callable[[Report], str]:
    """Register and return the function that makes the HTML of a report in a notebook."""
    _NOTEBOOK_VIEWS.append(render)
    return render


def _check_densities(learning: Learning, where: str) -> None:
    """Fail unless each moment has a density for each layer that learned."""
    for index, moment in enumerate(learning.curve):
        found, layers = len(moment.density), len(learning.layers)
        if found != layers:
            fact = f"learning.curve[{index}].density has {found} items and must have {layers}"
            raise UserError(fact, where=where, fix="Restore the file, or compile again")


def _check_sum(name: str, total: float, parts: Iterable[float]) -> None:
    """Fail if the parts do not add up to the total."""
    found = math.fsum(parts)
    if not math.isclose(found, total, rel_tol=SUM_TOLERANCE, abs_tol=SUM_TOLERANCE):
        raise InternalError(f"the layers add up to {found:.12g}, the total is {total:.12g}", where=name)
