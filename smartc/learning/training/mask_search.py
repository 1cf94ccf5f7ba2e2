"""A search for masks on a model's graph: the masked model to train, and what its masks become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from smartc.ir.traced_model import TracedModel
from smartc.kernels.tensor_pool import MASK_POOL
from smartc.learning.learners.learner import Learner, fractional_share
from smartc.masks.layouts import BoolArray
from smartc.masks.units import Units
from smartc.passes.insert_masks import InsertMasks, RemoveMasks
from smartc.passes.share_statistics import ShareStatistics
from smartc.passes.shared.base import run_passes
from smartc.passes.training_mode import TrainingMode

# So many moments of a search are kept for its curve.
MOMENTS = 100


@dataclass(frozen=True)
class SearchState:
    """Where a search stands after a step.

    Attributes:
        step: Steps done.
        temperature: Of the soft masks; None where there is none.
        fractional: The share of the masks that is neither kept nor removed; None where it was not looked at.
        density: The mean mask of each layer, likewise.
        loss: What the step's loss was, if it is known.
    """

    step: int
    temperature: float | None
    fractional: float | None
    density: tuple[float, ...]
    loss: float | None = None


@dataclass(frozen=True, eq=False)
class _Looked:
    """What there is to see of a mask, as long as its version is this."""

    mask: torch.Tensor
    version: int
    fractional: float
    density: tuple[float, ...]


@dataclass
class MaskSearch:
    """A masked model and its learner.

    Attributes:
        original: The model as it was captured.
        units: What is masked.
        learner: Where masks come from.
        steps: All steps, of which the learner searches during its share.
        masked: The model to train; its tensors are its own.
        done: Steps done.
        keep: Which units stay, once that is decided.
        fractional: The share of the masks that was neither kept nor removed when they were made hard.
        curve: Some of the moments.
        before_hard: Called when the masks are about to become hard.
        on_hard: Called when they have.
    """

    original: TracedModel
    units: Units
    learner: Learner
    steps: int
    masked: TracedModel
    done: int = 0
    keep: BoolArray | None = None
    fractional: float = 0.0
    curve: list[SearchState] = field(default_factory=list)
    before_hard: Callable[[MaskSearch], None] | None = None
    on_hard: Callable[[MaskSearch], None] | None = None
    _looked: _Looked | None = field(default=None, repr=False)

    @classmethod
    def of(cls, original: TracedModel, units: Units, learner: Learner, steps: int, batch_norm: bool) -> MaskSearch:
        """Return a search that has not begun.

        Args:
            original: The model.
            units: What is masked.
            learner: Where masks come from.
            steps: All steps.
            batch_norm: Whether batch norms learn, statistics included.
        """
        own = _with_own_tensors(original)
        insert = InsertMasks(units.weights, learner, learner.measured)
        mode = TrainingMode(batch_norm=batch_norm, dropout=batch_norm, follow=True)
        masked = run_passes(own, (mode, insert)).model
        masked.graph_module.train()
        return cls(original, units, learner, steps, masked)

    @property
    def model(self) -> fx.GraphModule:
        """Return the masked model, an ordinary module in training: for any optimizer, autocast, DDP or torch.compile.

        ``eval()`` and ``train()`` switch its batch norms and its dropout, unless the search leaves them in evaluation.
        """
        return self.masked.graph_module

    def model_of_several(self) -> fx.GraphModule:
        """Return the same model, its tensors included, with batch norms over the samples of all processes."""
        return run_passes(self.masked, (ShareStatistics(),)).model.graph_module

    @property
    def searching(self) -> bool:
        """Return whether masks are still open."""
        return self.learner.searching

    @property
    def search_steps(self) -> int:
        """Return the number of steps before the masks are hard."""
        return self.learner.start.steps

    @property
    def met(self) -> float:
        """Return how much of the budget is met, 0 to 1."""
        return self.learner.met

    def step(self, loss: torch.Tensor | float | None = None) -> SearchState:
        """Take note of a step of the weights: the masks move, and harden at the end of the search.

        Args:
            loss: What the step's loss was, for the learning curve.

        Returns:
            Where the search stood before; the state of the masks only where it is due for the curve.

        Raises:
            UserError: The masks got no gradient.
        """
        number = None if loss is None else float(torch.as_tensor(loss).detach())
        due = self.done % max(self.steps // MOMENTS, 1) == 0 or self.done + 1 == self.steps
        if due:
            self.learner.settle()
        moment = (
            self._moment(number) if due else SearchState(self.done, self.learner.current_temperature, None, (), number)
        )
        if due:
            self.curve.append(moment)
        self.done += 1
        if self.searching:
            self.learner.advance(self.done)
            self.harden_if_due()
        return moment

    def harden_if_due(self) -> None:
        """Decide which units stay once the search has taken all of its steps."""
        if self.searching and self.done >= self.search_steps:
            self.harden()

    def harden(self) -> None:
        """Decide which units stay."""
        self.fractional = fractional_share(self._mask(self.learner))
        if self.before_hard is not None:
            self.before_hard(self)
        self.keep = self.learner.harden()
        MASK_POOL.empty()
        if self.on_hard is not None:
            self.on_hard(self)

    def _moment(self, loss: float | None) -> SearchState:
        """Return where the search stands."""
        mask = self._mask(self.learner.latest)
        looked = self._looked
        # One that serves several steps is looked at once; it is held, so that no other takes its place in memory.
        if looked is None or (looked.mask.data_ptr(), looked.version) != (mask.data_ptr(), mask._version):
            density = tuple(float(share) for share in self.units.density(mask))
            self._looked = looked = _Looked(mask, mask._version, fractional_share(mask), density)
        temperature = self.learner.current_temperature if self.searching else None
        return SearchState(self.done, temperature, looked.fractional, looked.density, loss)

    def _mask(self, of: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return what computes masks of the learner's weights as they are, on the CPU."""
        with torch.no_grad():
            return of(*(self.masked.tensor(name) for name in self.learner.measured)).detach().cpu()

    def learned(self) -> TracedModel:
        """Return the model without masks, in eval mode, its weights learned and zero where nothing stays."""
        plain = run_passes(self.masked_for_proof(), (RemoveMasks(),)).model
        assert self.keep is not None
        supports = self.units.supports(self.keep)
        state = {name: tensor.cpu() for name, tensor in _copies(plain).items()}
        for name, kept in supports.items():
            state[name] = torch.where(kept, state[name], torch.zeros((), dtype=state[name].dtype))
        return plain.with_tensors(state)

    def masked_for_proof(self) -> TracedModel:
        """Return the model in eval mode with its hard masks in the graph."""
        if self.keep is None:
            self.harden()
        return run_passes(self.masked, (TrainingMode(batch_norm=False, dropout=False),)).model

    def take(self, model: TracedModel) -> None:
        """Take over the parameters and buffers of a model without masks."""
        new = {**dict(model.graph_module.named_parameters()), **dict(model.graph_module.named_buffers())}
        with torch.no_grad():
            for name, tensor in new.items():
                self.masked.tensor(name).copy_(tensor)


def _with_own_tensors(model: TracedModel) -> TracedModel:
    """Return the model with copies of its tensors; ties stay ties."""
    return model.with_tensors(_copies(model))


def _copies(model: TracedModel) -> dict[str, torch.Tensor]:
    """Return copies of all parameters and buffers."""
    module: nn.Module = model.graph_module
    state: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in state.items()}
