"""The inputs that a model was called with lately, in a training loop that is not ours."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from smartc.ir.traced_model import TracedModel, sample_count


class LatestInputs:
    """Remembers a module's latest batches until they are taken; holds them, and copies nothing."""

    def __init__(self, module: nn.Module, model: TracedModel, samples: int) -> None:
        """Watch a module.

        Args:
            module: What is called.
            model: What it computes; tells how arguments become a graph's inputs.
            samples: The number to remember, of batches that can be cut; else one batch more at most.
        """
        self._model, self._most = model, samples
        self._batches: deque[tuple[Any, ...]] = deque()
        self._watch = module.register_forward_pre_hook(self._note, with_kwargs=True)

    def take(self) -> list[tuple[Any, ...]]:
        """Return the flattened inputs of the latest batches, on the CPU, and look no longer."""
        self._watch.remove()
        taken, left = [], self._most
        while self._batches and left > 0:
            batch = self._batches.pop()
            most = left if self._model.dynamic_batch else None
            taken.append(tuple(v[:most].cpu() if isinstance(v, torch.Tensor) else v for v in batch))
            left -= sample_count(batch)
        self._batches.clear()
        return taken

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the arguments of a call, but not of an evaluation, nor where that would be compiled with the model."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        flat, structure = pytree.tree_flatten((args, kwargs))
        if structure != self._model.structure:
            return
        self._batches.append(tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in flat))
        while sum(map(sample_count, self._batches)) - sample_count(self._batches[0]) >= self._most:
            self._batches.popleft()
