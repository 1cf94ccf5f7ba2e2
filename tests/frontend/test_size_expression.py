"""Sizes that torch writes are taken; what could run, or grow without end, is not, and nothing is evaluated."""

from __future__ import annotations

import pytest
import sympy
import torch

from smartc.frontend.size_expression import LONGEST_TEXT, is_size_expression

TAKEN = [
    "Symbol('s34', positive=True, integer=True)",
    "Add(Mul(Integer(2), Symbol('s0', positive=True, integer=True)), Integer(-1))",
    "FloorDiv(Symbol('s0', integer=True), Integer(3))",
    "Pow(Symbol('s0'), Integer(2))",
    "Pow(Symbol('s0'), Rational(1, 2))",
    "Float('0.5', precision=53)",
    "s0 + 1",
    "2*s0//3 - u1",
    "Max(1, s0)",
    "int_oo",
]
REFUSED = [
    "9**9**9**9",
    "Pow(Integer(9), Integer(99999999))",
    "Pow(Pow(Pow(Integer(9), Integer(9)), Integer(9)), Integer(99))",
    "LShift(Integer(1), Integer(10000000))",
    "PowByNatural(Integer(2), Symbol('s0'))",
    "s0**s0",
    "Integer(10)**400",
    "1e999**9",
    "factorial(s0)",
    "exec('import os')",
    "open",
    "().__class__",
    "s0.real",
    "lambda: 1",
    "[1 for x in y]",
    "f'{s0}'",
    "Symbol('s0', cls=str)",
    "Symbol('a b')",
    "Symbol(*names)",
    "Symbol('s0', **options)",
    "",
    "s0 +",
    "1" * (LONGEST_TEXT + 1),
    "(" * 500 + "1" + ")" * 500,
    "-" * 500 + "1",
]


@pytest.mark.parametrize("text", TAKEN)
def test_takes_what_torch_writes(text: str) -> None:
    assert is_size_expression(text)


@pytest.mark.parametrize("text", REFUSED)
def test_refuses_the_rest(text: str) -> None:
    assert not is_size_expression(text)


def test_takes_every_size_of_a_model_with_free_axes() -> None:
    class Sizes(torch.nn.Module):
        """Sizes that are sums, products and quotients of those of the input."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Map (N, H, W) to another shape."""
            wide = torch.nn.functional.interpolate(x[:, None], scale_factor=1.5)
            return torch.cat([wide, wide], 2)[:, :, ::2].flatten(1)[:, : x.shape[1] * 3 // 2 + 1]

    free = dict.fromkeys(range(3), torch.export.Dim.AUTO)
    program = torch.export.export(Sizes(), (torch.zeros(3, 8, 10),), dynamic_shapes=({**free},))
    sizes = {
        size.node.expr
        for node in program.graph.nodes
        for size in getattr(node.meta.get("val"), "shape", ())
        if isinstance(size, torch.SymInt)
    }
    assert len(sizes) > 5
    assert all(is_size_expression(sympy.srepr(size)) for size in sizes)
