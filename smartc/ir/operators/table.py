"""The table of ATen operators, by short name."""

from __future__ import annotations

from collections.abc import Iterable

from smartc.ir.operators.elementwise import ACTIVATIONS, ARITHMETIC, COPIES, FUNCTIONS
from smartc.ir.operators.layers import NORMALIZATIONS, PRODUCTS, REDUCTIONS, SPATIAL, WEIGHTED
from smartc.ir.operators.movement import ASSERTIONS, CREATIONS, JOINING_AND_SPLITTING, REORDERINGS, VIEWS
from smartc.ir.operators.operator import Operator

_LAYERS = (WEIGHTED, PRODUCTS, NORMALIZATIONS, REDUCTIONS, SPATIAL)
_ELEMENTWISE = (ACTIVATIONS, ARITHMETIC, FUNCTIONS, COPIES)
_MOVEMENT = (VIEWS, REORDERINGS, JOINING_AND_SPLITTING, CREATIONS, ASSERTIONS)


def _by_name(rows: Iterable[Operator]) -> dict[str, Operator]:
    """Return rows by name.

    Raises:
        ValueError: Two have one name.
    """
    table: dict[str, Operator] = {}
    for row in rows:
        if row.name in table:
            raise ValueError(f"{row.name} stands in the table twice")
        table[row.name] = row
    return table


OPERATORS = _by_name(row for groups in (_LAYERS, _ELEMENTWISE, _MOVEMENT) for rows in groups for row in rows)


def operator_named(name: str) -> Operator:
    """Return the facts of an operator; one that the table lacks has no rule and works element by element."""
    return OPERATORS.get(name) or Operator(name, "unknown")


def families() -> tuple[str, ...]:
    """Return the families that the table has, in its order."""
    return tuple(dict.fromkeys(row.family for row in OPERATORS.values()))


def names_of_onnx(word: str) -> tuple[str, ...]:
    """Return the short names of what an operator of ONNX may have been, such as ``conv2d`` for ``Conv``."""
    return tuple(row.name for row in OPERATORS.values() if word in row.onnx) or (word.lower(),)
