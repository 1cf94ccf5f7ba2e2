"""Random numbers for a user's code that do not depend on what else draws them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from smartc.data.batch import epoch_seed


class OwnRandomness:
    """The state of the global generators as one piece of code sees them, from a seed and an epoch.

    What a user's function shuffles or augments by is then the same in every process and after a resume,
    however often the rest of the program draws.
    """

    def __init__(self, seed: int, epoch: int) -> None:
        number = epoch_seed(seed, epoch)
        outside = _states()
        random.seed(number)
        np.random.seed(number % 2**32)
        # Not torch.manual_seed, which would seed GPUs too.
        torch.default_generator.manual_seed(number)
        self._inside = _states()
        _restore(outside)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run a block on these generators and put the program's own back after it."""
        outside = _states()
        _restore(self._inside)
        try:
            yield
        finally:
            self._inside = _states()
            _restore(outside)


def _states() -> tuple[Any, Any, torch.Tensor]:
    """Return the states of Python's, NumPy's and torch's generators."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(states: tuple[Any, Any, torch.Tensor]) -> None:
    """Put the states back."""
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
