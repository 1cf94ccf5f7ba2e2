"""Small networks that each show one way in which layers are coupled, under one name each."""

from __future__ import annotations

from tests.support.zoo import (
    attention,
    chains,
    computed_weights,
    ends,
    gates,
    grouped,
    heads,
    joins,
    norms,
    parameters,
    recurrent,
    reshapes,
    splits,
)
from tests.support.zoo.registry import BATCH, CASES, Case, Inputs, build, case

FAMILIES = (
    attention,
    chains,
    computed_weights,
    ends,
    gates,
    grouped,
    heads,
    joins,
    norms,
    parameters,
    recurrent,
    reshapes,
    splits,
)

__all__ = ["BATCH", "CASES", "FAMILIES", "Case", "Inputs", "build", "case"]
