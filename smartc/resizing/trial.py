"""Run a smaller module beside the compiled graph, on the same inputs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from smartc.core.errors import OWN_CODE_FAILURES, UserError, first_line
from smartc.ir.cast_literals import cast_value
from smartc.ir.traced_model import TracedModel
from smartc.proof.reference import TOLERANCE, errors, seeded_inputs
from smartc.resizing.locate import Failure, ModuleValues, first_failure, tensors_in
from smartc.resizing.replay import Replayed, with_tensors

# By module and attribute.
Sizes = Mapping[str, Mapping[str, Any]]
SAMPLES = 3
# The relative error in float64, in which some classes and graphs still compute a part in float32.
_EXACT = 1e-6


def set_sizes(module: nn.Module, sizes: Sizes) -> None:
    """Set attributes of a module's layers."""
    for path, attributes in sizes.items():
        for name, value in attributes.items():
            setattr(module.get_submodule(path), name, value)


@dataclass(frozen=True, eq=False)
class Trial:
    """A smaller module whose attributes are still to be found, and what it has to compute.

    Attributes:
        module: With the tensors that it is to have.
        reference: The compiled model with the same.
        flat: Inputs of both, flattened.
        tolerance: The relative error that rounding explains.
    """

    module: nn.Module
    reference: TracedModel
    flat: tuple[Any, ...]
    tolerance: float

    @classmethod
    def of(cls, module: nn.Module, after: Replayed) -> Trial:
        """Return the trial of a module, in float64 where its class and the graph run in that.

        Raises:
            UserError: The module does not run on inputs of the build.
        """
        original, reference = copy_of(module).eval(), after.reference
        flat = seeded_inputs(reference, SAMPLES)
        try:
            _run(original, reference, flat)
        except OWN_CODE_FAILURES as error:
            takes = ", ".join(map(str, reference.inputs))
            fact = f"it does not run on what the build takes ({takes}): {first_line(error)}"
            raise UserError(fact, where=type(module).__name__, fix="Name the class that was compiled") from error
        smaller = copy_of(module).eval()
        with_tensors(smaller, after.tensors)
        exact = tuple(cast_value(value, torch.float64) for value in flat)
        try:
            reference = reference.to(torch.float64)
            _run(original.double(), reference, exact)
            return cls(smaller.double(), reference, exact, _EXACT)
        except OWN_CODE_FAILURES:
            return cls(smaller, after.reference, flat, TOLERANCE[after.reference.dtype])

    @cached_property
    def expected(self) -> Any:
        """Return what the compiled model computes."""
        return self.reference.run(self.flat)

    @cached_property
    def values(self) -> ModuleValues:
        """Return what the compiled model computes in each module."""
        return ModuleValues(self.reference, self.flat)

    def error(self, sizes: Sizes) -> float | None:
        """Return the relative error with some attributes; None where the module does not run or the outputs are zero.

        Outputs that are zero, as those of a head that is not trained yet, tell nothing.
        """
        if not any(bool(one.any()) for one in tensors_in(self.expected)):
            return None
        set_sizes(self.module, sizes)
        try:
            return _difference(self.expected, _run(self.module, self.reference, self.flat))
        except OWN_CODE_FAILURES:
            return None

    def outcome(self, sizes: Sizes) -> Failure | float:
        """Return the same, or where the module first goes wrong."""
        set_sizes(self.module, sizes)
        found = first_failure(self.module, self.reference.arguments(self.flat), self.values, self._same)
        if isinstance(found, Failure):
            return found
        error = _difference(self.expected, found)
        if error <= self.tolerance:
            return error
        return Failure("", "its output differs from what the compiled model computes", sys.maxsize)

    def _same(self, expected: torch.Tensor, actual: torch.Tensor) -> bool:
        """Return whether two tensors are equal but for rounding."""
        return expected.dtype == actual.dtype and errors(expected, actual)[1] <= self.tolerance


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy of a module with tensors of its own.

    Raises:
        UserError: It cannot be fresh.
    """
    try:
        fresh = copy.deepcopy(module)
        # Classes that keep what they computed in evaluation, such as biases of attention, drop it in training.
        fresh.train()
    except OWN_CODE_FAILURES as error:
        fact = f"it cannot be copied: {first_line(error)}"
        raise UserError(fact, where=type(module).__name__, fix="Give a module that copy.deepcopy takes") from error
    for own, other in zip(module.modules(), fresh.modules(), strict=True):
        other.training = own.training
    return fresh


def _run(module: nn.Module, reference: TracedModel, flat: tuple[Any, ...]) -> Any:
    """Return what a module computes of the inputs of a graph."""
    args, kwargs = reference.arguments(tuple(map(_cloned, flat)))
    with torch.no_grad():
        return module(*args, **kwargs)


def _cloned(value: Any) -> Any:
    """Return a copy of a tensor, which a module may overwrite."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _difference(expected: Any, actual: Any) -> float:
    """Return the relative error of outputs; infinite where there are others."""
    if len(tensors_in(expected)) != len(tensors_in(actual)):
        return float("inf")
    return errors(expected, actual)[1]
