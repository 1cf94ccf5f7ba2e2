"""The texts of inputs are read, and fit the model and each other, or are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.small_networks import Refusal

SMALL = "tests.support.small_networks:small"
SHAPES = "Leave input_shapes=... out: an exported program brings its shapes."


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            ["2x3x9x9"],
            f"input_shapes=('2x3x9x9',): wrong input shape; the model takes input: float32 Nx3x8x8. {SHAPES}",
        ),
        (["2x3x8"], f"input_shapes=('2x3x8',): wrong input shape; the model takes input: float32 Nx3x8x8. {SHAPES}"),
        (
            ["int64:2x3x8x8"],
            f"input_shapes=('int64:2x3x8x8',): wrong input type; the model takes input: float32 Nx3x8x8. {SHAPES}",
        ),
        (
            ["y=2x3x8x8"],
            f"input_shapes=('y=2x3x8x8',): the model has no input y; it has input: float32 Nx3x8x8. {SHAPES}",
        ),
        (
            ["2x3x8x8"] * 2,
            f"input_shapes=...: the model takes input: float32 Nx3x8x8 and 2 inputs are given. {SHAPES}",
        ),
        (
            ["2x0"],
            "input_shapes=('2x0',): it is not a shape. Give sizes such as 1x3x224x224, "
            "with a name and a type where needed, as in ids=int64:1x128.",
        ),
        (
            ["int4:2x3"],
            "input_shapes=('int4:2x3',): int4 is not a type. The types are "
            "float32, float64, float16, bfloat16, int64, int32, int16, int8, uint8, bool.",
        ),
        (
            ["90000x90000"],
            "input_shapes=('90000x90000',): it has 8100000000 elements and the limit is 268435456. "
            "Give a smaller example.",
        ),
    ],
)
def test_shapes_that_do_not_fit_an_exported_program(refuse: Refusal, shapes: Sequence[str], message: str) -> None:
    assert refuse("program.pt", input_shapes=shapes) == message


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (["a=1x3", "1x3"], "input_shapes=('1x3',): it has no name and others have. Name all inputs or none."),
        (["a=1x3", "a=1x4"], "input_shapes=('a=1x4',): a is given twice. Give each input once."),
    ],
)
def test_names_that_do_not_fit_each_other(refuse: Refusal, shapes: Sequence[str], message: str) -> None:
    assert refuse("state.pt", factory=SMALL, input_shapes=shapes) == message
