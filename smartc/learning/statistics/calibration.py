"""What a few samples tell of a model before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from smartc.masks.units import FloatArray, Units


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a few samples tell of a model.

    Attributes:
        variances: By a weight's name, the variance of what each of its input channels sees, shape (in,).
        sensitivity_of: Returns the sensitivity of the outputs to each of some units; None where that was not
            measured.
    """

    variances: Mapping[str, torch.Tensor]
    sensitivity_of: Callable[[Units], FloatArray] | None = None


NO_CALIBRATION = Calibration({})
