"""Let exporters see a recurrent layer as one call: step by step, their time would grow with the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._decomp import decomposition_table

aten = torch.ops.aten
_OPERATORS: tuple[Any, ...] = (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)
# The keys under which PyTorch registers its own, which runs every step.
_KEYS = (DispatchKey.Autograd, DispatchKey.CompositeImplicitAutograd)


@contextmanager
def whole_recurrences(*, fixed_steps: bool = False) -> Iterator[None]:
    """Give recurrent layers on fake tensors the shapes of their outputs at once, as other operators have them.

    Args:
        fixed_steps: Whether the number of steps must be a number: what is free would be taken for the batch.
    """
    of_lstm, of_others = (partial(shapes, fixed_steps) for shapes in (_of_lstm, _of_others))
    shapes_of = {operator: of_lstm if operator is aten.lstm.input else of_others for operator in _OPERATORS}
    kernels = {operator: dict(operator.py_kernels) for operator in _OPERATORS}
    steps = {operator: decomposition_table[operator] for operator in _OPERATORS}
    try:
        decomposition_table.update(shapes_of)
        for operator, shapes in shapes_of.items():
            _set_kernels(operator, {**kernels[operator], **dict.fromkeys(_KEYS, shapes)})
        yield
    finally:
        decomposition_table.update(steps)
        for operator, own in kernels.items():
            _set_kernels(operator, own)


def _set_kernels(operator: Any, kernels: dict[Any, Any]) -> None:
    """Put other kernels in the place of those that an operator has in Python."""
    operator.py_kernels.clear()
    operator.py_kernels.update(kernels)
    operator._dispatch_cache.clear()


def _of_lstm(fixed: bool, x: Tensor, states: Sequence[Tensor], *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, hidden state and cell state of an LSTM, without their values."""
    hidden, cell = states
    return _outputs(fixed, x, hidden, *options[1:]), hidden.new_empty(hidden.shape), cell.new_empty(cell.shape)


def _of_others(fixed: bool, x: Tensor, hidden: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    """Return outputs and hidden state of a GRU or a plain recurrent layer, without their values."""
    return _outputs(fixed, x, hidden, *options[1:]), hidden.new_empty(hidden.shape)


def _outputs(
    fixed: bool,
    x: Tensor,
    hidden: Tensor,
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    both_ways: bool,
    batch_first: bool,
) -> Tensor:
    """Return an empty tensor for the outputs of the last layer, both directions side by side."""
    sizes = [*x.shape[:2], hidden.shape[2] * (2 if both_ways else 1)]
    steps = 1 if batch_first else 0
    sizes[steps] = int(sizes[steps]) if fixed else sizes[steps]
    return x.new_empty(sizes)
