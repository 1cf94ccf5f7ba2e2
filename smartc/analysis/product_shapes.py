"""The sizes of matrix products: batches of them, einsum, and the two products of attention."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import fx

from smartc.analysis.channels.channel_groups import FROZEN
from smartc.analysis.channels.labels import IntArray, Labels
from smartc.analysis.shape import Known, Shape, parameter_name, sizes_of, units_over
from smartc.ir.traced_model import argument_of, arguments_of, operator_name
from smartc.targets.workload import Operand, OpKind

# Those whose first argument is added to the product.
_ADDED = ("addmm", "baddbmm", "addmv")


@dataclass(frozen=True, eq=False)
class _Term:
    """One side of a product.

    Attributes:
        letters: One for each axis, as einsum has them.
        sizes: Of the axes, for a batch of one.
        labels: None where they are not known: nothing of it can go.
        node: What computes it; None for what only this call computes.
    """

    letters: str
    sizes: tuple[int, ...]
    labels: Labels | None
    node: fx.Node | None = None

    def units(self, letters: Sequence[str]) -> IntArray:
        """Return the unit of each place of some axes."""
        axes = sorted(self.letters.index(letter) for letter in letters)
        sizes = [self.sizes[axis] for axis in axes]
        if self.labels is None:
            return np.full(math.prod(sizes), FROZEN, dtype=np.int64)
        return units_over(self.labels, axes, sizes)


def product_shapes(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Return the sizes of a call that multiplies two tensors, or of each product of an einsum of several."""
    arguments = arguments_of(node)
    name = operator_name(node.target)
    if name == "einsum":
        return _einsum(known, node, arguments[0], arguments[1])
    left, right = arguments[1:3] if name in _ADDED else arguments[:2]
    batch = string.ascii_lowercase[: max(len(sizes_of(left)), len(sizes_of(right)), 2) - 2]
    ranks = len(sizes_of(left)), len(sizes_of(right))
    row, column = ("x" if ranks[0] > 1 else ""), ("y" if ranks[1] > 1 else "")
    first = batch[len(batch) - max(ranks[0] - 2, 0) :] + row + "z"
    second = batch[len(batch) - max(ranks[1] - 2, 0) :] + "z" + column
    made = _term(known, node, batch + row + column)
    shape = _product(known, _term(known, left, first), _term(known, right, second), made)
    return (replace(shape, residual=name in _ADDED and not known.is_stored(arguments[0])),)


def attention_shapes(known: Known, node: fx.Node) -> tuple[Shape, ...]:
    """Return the sizes of attention: the scores of all keys, their softmax, and the mean of the values."""
    query, key, value = arguments_of(node)[:3]
    rank = len(sizes_of(node))
    batch = string.ascii_lowercase[: rank - 2]
    made = _term(known, node, batch + "xw")
    first, second = _term(known, query, batch + "xz"), _term(known, key, batch + "yz")
    inner = replace(made, letters=batch + "xy", sizes=(*made.sizes[:-1], second.sizes[-2]))
    # Of the output's labels only those of the heads hold for the scores.
    inner = replace(inner, labels=None if made.labels is None else _of_heads(made.labels, rank))
    scores = replace(_product(known, first, second, inner), part="scores", op="matmul")
    values = replace(_product(known, inner, _term(known, value, batch + "yw"), made), part="values", op="matmul")
    mask = argument_of(node, 3, "attn_mask")
    return scores, _softmax(known, inner, mask if isinstance(mask, fx.Node) else None), values


def _of_heads(labels: Labels, rank: int) -> Labels:
    """Return labels without those of the last two axes."""
    factors = [factor for factor in labels.factors if min(factor.axes) < rank - 2]
    return replace(labels, factors=tuple(factors))


def _softmax(known: Known, scores: _Term, mask: fx.Node | None) -> Shape:
    """Size the softmax over the keys, a channel for each head."""
    heads = scores.units(scores.letters[:-2])
    each = scores.sizes[-2] * scores.sizes[-1]
    masked = 0 if mask is None or known.is_stored(mask) else -(-math.prod(sizes_of(mask)) // max(len(heads), 1))
    return Shape(
        kind=OpKind.VECTOR,
        reads=heads,
        writes=heads,
        pixels=each,
        input_elements=each + masked,
        output_elements=each,
        vector_elements=each,
        part="softmax",
        op="softmax",
    )


def _einsum(known: Known, node: fx.Node, equation: str, operands: Sequence[fx.Node]) -> tuple[Shape, ...]:
    """Size an einsum: operands are multiplied from the left to the right, as torch does."""
    letters, output = _letters(equation, [len(sizes_of(operand)) for operand in operands])
    terms = [_term(known, operand, text) for operand, text in zip(operands, letters, strict=True)]
    made = _term(known, node, output)
    shapes = list(_in_turn(known, terms, made))
    if len(shapes) == 1:
        return tuple(shapes)
    return tuple(replace(shape, part=f"product{place + 1}") for place, shape in enumerate(shapes))


def _in_turn(known: Known, terms: Sequence[_Term], made: _Term) -> Iterator[Shape]:
    """Yield the sizes of each product."""
    left = terms[0]
    for place, right in enumerate(terms[1:], 1):
        later = {letter for term in (*terms[place + 1 :], made) for letter in term.letters}
        kept = "".join(letter for letter in dict.fromkeys(left.letters + right.letters) if letter in later)
        sizes = dict(zip(left.letters + right.letters, left.sizes + right.sizes, strict=True))
        last = place == len(terms) - 1
        result = made if last else _Term(kept, tuple(sizes[letter] for letter in kept), None)
        yield _product(known, left, right, result)
        left = result


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of the operands and of the output, an ellipsis spelled out."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    texts = inputs.split(",")
    spare = "".join(letter for letter in reversed(string.ascii_letters) if letter not in equation)
    most = max((rank - len(text) + 3 for rank, text in zip(ranks, texts, strict=True) if "..." in text), default=0)
    dots = spare[:most]
    full = [text.replace("...", dots[most - (rank - len(text) + 3) :]) for rank, text in zip(ranks, texts, strict=True)]
    if arrow:
        return full, output.replace("...", dots)
    every = "".join(full)
    return full, dots + "".join(sorted(letter for letter in set(every) - set(dots) if every.count(letter) == 1))


def _term(known: Known, node: fx.Node, letters: str) -> _Term:
    """Return one side of a product, or what it makes."""
    labels = known.labels.get(node)
    return _Term(letters, sizes_of(node), labels if isinstance(labels, Labels) else None, node)


def _product(known: Known, left: _Term, right: _Term, made: _Term) -> Shape:
    """Size one product per place of the axes that both sides and the result have; heads that go take theirs along.

    A side that is stored is the weight, whichever it is.
    """
    if left.node is not None and known.is_stored(left.node) and right.node is not None:
        left, right = (right, left) if not known.is_stored(right.node) else (left, right)
    both = set(left.letters) & set(right.letters)
    batch = [letter for letter in made.letters if letter in both]
    inner = [letter for letter in left.letters if letter in both and letter not in made.letters]
    rows = [letter for letter in left.letters if letter in made.letters and letter not in both]
    columns = [letter for letter in made.letters if letter in right.letters and letter not in both]
    sizes = dict(zip(made.letters, made.sizes, strict=True)) | {
        letter: max(left.sizes[left.letters.index(letter)], right.sizes[right.letters.index(letter)])
        for letter in inner
    }
    deep, pixels = (math.prod(sizes[letter] for letter in some) for some in (inner, rows))
    heads, wide = made.units(batch), made.units(columns)
    scales = bool((heads != FROZEN).any())
    stored = known.constants(right.node)
    return Shape(
        kind=OpKind.MATRIX,
        reads=np.repeat(heads, deep) if scales else np.tile(left.units(inner), len(heads)),
        writes=np.repeat(heads, len(wide)) if scales else np.tile(wide, len(heads)),
        pixels=pixels,
        groups=len(heads),
        scales=scales,
        per_group=deep,
        input_elements=pixels,
        output_elements=pixels,
        operand=Operand.WEIGHT if stored else Operand.ACTIVATION,
        constants=stored,
        weight=parameter_name(right.node),
    )
