"""Size expressions of an exported program: those that can be evaluated at no more than a bounded cost."""

from __future__ import annotations

import ast
import math
import re

# torch writes sizes as sympy's srepr; a size of one axis seldom takes a hundred characters.
LONGEST_TEXT = 4000
# No number on the way to a size may have more bits; sizes are 64-bit integers.
MOST_BITS = 1024
# What stands for a symbol when numbers are put in.
_SYMBOL_BITS = 64
_DEEPEST = 60
_FUNCTIONS = frozenset(
    """Symbol Dummy Integer Float Rational Add Mul Pow Abs Max Min Mod PythonMod FloorDiv CleanDiv CeilDiv
    ModularIndexing Where IntTrueDiv FloatTrueDiv ToFloat TruncToInt TruncToFloat CeilToInt FloorToInt RoundToInt
    RoundDecimal PowByNatural FloatPow LShift RShift Identity IsNonOverlappingAndDenseIndicator Piecewise
    ExprCondPair Equality Unequality StrictGreaterThan StrictLessThan GreaterThan LessThan Eq Ne Gt Ge Lt Le And
    Or Not floor ceiling""".split()
)
# Whose last argument says how many times as many bits the first may take.
_POWERS = frozenset("Pow PowByNatural FloatPow".split())
_SHIFTS = frozenset("LShift RShift".split())
_NAMES = re.compile(r"[a-z]{1,4}\d{1,9}|int_oo|oo|true|false|True|False|nan|zoo", re.ASCII)
_LABEL = re.compile(r"\w{1,64}|-?\d{1,40}(?:\.\d{1,40})?(?:e[-+]?\d{1,4})?", re.ASCII)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Div, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def is_size_expression(text: str) -> bool:
    """Return whether a text is a size as torch writes it, whose evaluation is bounded; it is not evaluated.

    Symbols, numbers, sums, products, quotients, comparisons and torch's own functions of them are; powers
    and shifts are where their results stay below ``MOST_BITS`` bits.
    """
    if len(text) > LONGEST_TEXT or "__" in text:
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _bits(tree.body, 0) <= MOST_BITS
    except (SyntaxError, ValueError, RecursionError, MemoryError, _OtherError):
        return False


class _OtherError(Exception):
    """The expression holds something else."""


def _bits(node: ast.expr, depth: int) -> float:
    """Return a bound on the bits of every number on the way to a value."""
    if depth > _DEEPEST:
        raise _OtherError
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.Name) and _NAMES.fullmatch(node.id):
        return _SYMBOL_BITS
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd, ast.Invert)):
        return _bits(node.operand, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATORS):
        pair = [node.left, node.right]
        return _power(pair, depth) if isinstance(node.op, ast.Pow) else _sum(pair, depth)
    if isinstance(node, ast.Compare) and all(isinstance(op, _COMPARISONS) for op in node.ops):
        return _sum([node.left, *node.comparators], depth)
    if isinstance(node, ast.Tuple):
        return _sum(node.elts, depth)
    if isinstance(node, ast.Call):
        return _call(node, depth)
    raise _OtherError


def _constant(value: object) -> float:
    """Return the bits of a number; a text is the name of a symbol, or a number's digits."""
    if isinstance(value, float) and math.isfinite(value):
        return _SYMBOL_BITS
    if isinstance(value, int):
        return value.bit_length()
    if isinstance(value, str) and _LABEL.fullmatch(value):
        return 4 * len(value)
    raise _OtherError


def _call(node: ast.Call, depth: int) -> float:
    """Return the bits of a function of torch's or sympy's."""
    if not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
        raise _OtherError
    for option in node.keywords:
        if option.arg is None or not isinstance(option.value, ast.Constant):
            raise _OtherError
    name, values = node.func.id, node.args
    if name in _POWERS:
        return _power(values, depth)
    if name in _SHIFTS and len(values) == 2:
        return _bits(values[0], depth + 1) + _number(values[1])
    return max(_sum(values, depth), _SYMBOL_BITS)


def _sum(values: list[ast.expr], depth: int) -> float:
    """Return the bits of a product, which no sum or quotient of the same values exceeds."""
    return sum(_bits(value, depth + 1) for value in values) + 1


def _power(values: list[ast.expr], depth: int) -> float:
    """Return the bits of a power whose exponent is a number."""
    if len(values) != 2:
        raise _OtherError
    return max(_bits(values[0], depth + 1), 1) * max(_number(values[1]), 1)


def _number(node: ast.expr) -> float:
    """Return the size of a number that is written out, whatever its sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _number(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer" and node.args:
        return _number(node.args[0])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rational" and node.args:
        return _number(node.args[0])
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and math.isfinite(node.value):
        return abs(node.value)
    raise _OtherError
