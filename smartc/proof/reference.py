"""Verify: what every stage computes equals what the masked original computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from smartc.analysis.channels.channel_groups import ChannelGroups
from smartc.core.errors import InternalError, UserError
from smartc.ir.cast_literals import cast_value
from smartc.ir.traced_model import TracedModel, sample_count
from smartc.passes.remove_channels import masked_axes
from smartc.proof.exact_run import run_exact
from smartc.proof.memory_plan import PROOF_BYTES, batches, fitting, live_bytes
from smartc.results.figures import Verification

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

# The relative error that a stage may show.  float64 carries 16 digits, and a hundred layers lose two or
# three of them where a wrong channel loses all; float32 carries 7 and loses as many; the shorter types
# carry 3 and 2, and lose one.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}
# A network that amplifies rounding is allowed so many times what it makes of one rounding of its weights
# (a layer rounds each of its sums), up to so many times the tolerance.
ROUNDINGS, LARGEST_EXCUSE = 20, 1e3
SEED = 20240229
SAMPLES = 3
# The masked original, in the names of stages.
MASKED = "masked"
# Numbers of an output that are compared at a time.
_PART = 2**22


def mask_readers(model: TracedModel, groups: ChannelGroups, keep: BoolArray) -> TracedModel:
    """Return the masked original: every weight that reads a removed channel is zero."""
    tensors: dict[str, torch.Tensor] = {}
    for axis, alive in masked_axes(groups, keep):
        if axis.role == "reads":
            weight = tensors.get(axis.name)
            weight = model.tensor(axis.name).detach().clone() if weight is None else weight
            tensors[axis.name] = weight.index_fill_(axis.axis, torch.from_numpy(np.flatnonzero(~alive)), 0)
    return model.with_tensors(tensors)


@dataclass(frozen=True, eq=False)
class Reference:
    """The masked original, run once in float64 on seeded inputs, as many at a time as fit the memory.

    Attributes:
        original: The model before removal.
        groups: Its channel groups.
        keep: Whether each unit stays.
        name: What stages are said to equal.
    """

    original: TracedModel
    groups: ChannelGroups
    keep: BoolArray
    name: str = MASKED

    @cached_property
    def batches(self) -> list[tuple[Any, ...]]:
        """Return flattened inputs in the original's type; not the batch that was exported with."""
        live = live_bytes(self.original, torch.float64.itemsize)
        # One sample tells as much as three, and its outputs are kept until every stage is proved.
        count = SAMPLES if live <= PROOF_BYTES else 1
        flat = seeded_inputs(self.original, batch=count)
        return batches(self.original, flat, fitting(live, count, PROOF_BYTES))

    @cached_property
    def outputs(self) -> list[Any]:
        """Return what the masked original computes of each batch."""
        return [run_exact(self.original, flat, self._mask) for flat in self._batches_as(torch.float64)]

    @cached_property
    def _removed(self) -> dict[str, list[tuple[int, torch.Tensor]]]:
        """Return, by every name of a weight, the axes in which it reads removed channels, with their indices."""
        removed: dict[str, list[tuple[int, torch.Tensor]]] = {}
        for axis, alive in masked_axes(self.groups, self.keep):
            if axis.role == "reads":
                indices = torch.from_numpy(np.flatnonzero(~alive))
                for name in {axis.name, *self.original.names_of(axis.name)}:
                    removed.setdefault(name, []).append((axis.axis, indices))
        return removed

    def _mask(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return a stored tensor with zeros where it reads a removed channel."""
        for axis, indices in self._removed.get(name, ()):
            tensor = tensor.index_fill(axis, indices, 0)
        return tensor

    def _batches_as(self, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
        """Yield the batches with floating-point tensors in another type."""
        for flat in self.batches:
            yield tuple(cast_value(value, dtype) for value in flat)

    def prove_removal(self, smaller: TracedModel) -> Verification:
        """Prove in float64 that removal computes what masking computes.

        Raises:
            InternalError: It does not.
        """
        return self.compare("masked == removed (float64)", partial(run_exact, smaller), torch.float64)

    def prove_masks(self, masked: TracedModel) -> Verification:
        """Prove in float64 that zero weights compute what masks in the graph compute.

        Raises:
            InternalError: They do not.
        """
        return self.compare("masks in the graph == masked (float64)", partial(run_exact, masked), torch.float64)

    def rounding(self, dtype: torch.dtype) -> float:
        """Return the relative error of the masked original itself when each tensor is rounded once more.

        A deep network without trained statistics can amplify rounding a millionfold; what it makes of
        a last bit cannot be told from what a stage does.
        """
        places = {name: place for place, (name, _) in enumerate(self.original.graph_module.named_parameters())}

        def nudged(name: str, tensor: torch.Tensor) -> torch.Tensor:
            masked = self._mask(name, tensor)
            return masked if name not in places else _nudged(masked, dtype, SEED + places[name])

        return self._errors(lambda flat: run_exact(self.original, flat, nudged), torch.float64)[1]

    def compare(
        self, stage: str, run: Callable[[tuple[Any, ...]], Any], dtype: torch.dtype, coarsest: torch.dtype | None = None
    ) -> Verification:
        """Return the largest error of a stage.

        Args:
            stage: What to call it.
            run: Returns its outputs for flattened inputs.
            dtype: The floating type that it takes.
            coarsest: The floating type with the fewest digits that it computes in, where that is another.

        Raises:
            InternalError: The error is above what rounding explains.
            UserError: So it is, because the user's own model leaves the range of the type.
        """
        coarsest = coarsest or dtype
        found, tolerance = self._errors(run, dtype), tolerance_of(coarsest)
        if tolerance < found[1] < tolerance * LARGEST_EXCUSE:
            tolerance = max(tolerance, min(ROUNDINGS * self.rounding(coarsest), tolerance * LARGEST_EXCUSE))
        count = sum(map(sample_count, self.batches))
        stage = stage.replace(f"{MASKED} ==", f"{self.name} ==")
        result = Verification(stage, *found, tolerance, f"{count} seeded inputs")
        if not result.passed:
            self._check_range(dtype)
            raise InternalError(
                f"its output differs from the masked original's by {result.max_rel_error:.2e} (relative), "
                f"allowed is {tolerance:.0e}",
                where=f"stage {stage}",
            )
        return result

    def _check_range(self, dtype: torch.dtype) -> None:
        """Raise if the original itself has outputs in a type that are not finite where they are in float64."""
        plain = self.original.to(dtype)
        for expected, flat in zip(self.outputs, self._batches_as(dtype), strict=True):
            for left, right in zip(_tensors(expected), _tensors(plain.run(flat)), strict=True):
                if bool(left.isfinite().all()) and not bool(right.isfinite().all()):
                    name = str(dtype).removeprefix("torch.")
                    fact = f"its outputs are not finite in {name}, as they are in float64: its weights are too large"
                    raise UserError(fact, where=self.original.name, fix="Check that it is trained and not damaged")

    def _errors(self, run: Callable[[tuple[Any, ...]], Any], dtype: torch.dtype) -> tuple[float, float]:
        """Return the largest errors of what is computed of each batch, one after the other."""
        pairs = zip(self.outputs, self._batches_as(dtype), strict=True)
        found = [errors(expected, run(flat)) for expected, flat in pairs]
        return max(one[0] for one in found), max(one[1] for one in found)


def tolerance_of(dtype: torch.dtype) -> float:
    """Return the relative error that a stage may show that computes in a floating type."""
    return TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])


def _nudged(tensor: torch.Tensor, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Return a tensor moved by one rounding step of a type, up or down at random."""
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, tensor.shape, generator=generator, dtype=torch.int8).mul_(2).sub_(1)
    return tensor * (1 + signs * torch.finfo(dtype).eps / 2)


def seeded_inputs(model: TracedModel, batch: int, seed: int = SEED) -> tuple[Any, ...]:
    """Return flattened inputs: normal numbers where they are floating, the examples' values elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(_seeded(value, batch, model.dynamic_batch, generator) for value in model.examples)


def _seeded(value: Any, batch: int, dynamic: bool, generator: torch.Generator) -> Any:
    """Return one input like an example, with the given batch where it is free."""
    if not isinstance(value, torch.Tensor):
        return value
    shape = list(value.shape)
    if dynamic and shape:
        shape[0] = batch
    if value.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(value.dtype)
    repeats = -(-shape[0] // max(len(value), 1)) if shape else 1
    return torch.cat([value] * repeats)[: shape[0]] if shape else value


def errors(expected: Any, actual: Any) -> tuple[float, float]:
    """Return the largest absolute error and the largest relative to the output's largest value."""
    pairs = list(zip(_tensors(expected), _tensors(actual), strict=True))
    found = [_error(*pair) for pair in pairs]
    return max((error[0] for error in found), default=0.0), max((error[1] for error in found), default=0.0)


def _error(expected: torch.Tensor, actual: torch.Tensor) -> tuple[float, float]:
    """Return the errors of one output; for whole numbers the share that differs."""
    if expected.shape != actual.shape:
        return math.inf, math.inf
    if not expected.numel():
        return 0.0, 0.0
    if not expected.is_floating_point():
        share = float((expected != actual).double().mean())
        return share, share
    largest = scale = 0.0
    # In parts: what is computed of both takes several times what they take.
    for left, right in zip(expected.flatten().split(_PART), actual.flatten().split(_PART), strict=True):
        left, right = left.double(), right.double()
        same = (left == right) | (left.isnan() & right.isnan())
        difference = torch.where(same, 0.0, (left - right).abs())
        largest = max(largest, float(difference.nan_to_num(nan=math.inf).max()))
        finite = left[left.isfinite()].abs()
        scale = max(scale, float(finite.max()) if finite.numel() else 0.0)
    return largest, largest / scale if scale and largest else (0.0 if not largest else math.inf)


def _tensors(outputs: Any) -> list[torch.Tensor]:
    """Return the tensors of any structure of outputs."""
    leaves = [
        torch.from_numpy(np.asarray(leaf)) if isinstance(leaf, np.ndarray) else leaf
        for leaf in pytree.tree_leaves(outputs)
    ]
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
