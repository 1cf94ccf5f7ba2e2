"""Let exporters see a recurrent layer as one call: step by step, their time would grow with the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._decomp import decomposition_table

aten = torch.ops.aten
# The keys under which PyTorch registers its own, which runs every step.
_KEYS = (DispatchKey.Autograd, DispatchKey.CompositeImplicitAutograd)


@contextmanager
def whole_recurrences() -> Iterator[None]:
    """Give recurrent layers on fake tensors the shapes of their outputs at once, as other operators have them."""
    kernels = {operator: dict(operator.py_kernels) for operator in _SHAPES}
    steps = {operator: decomposition_table[operator] for operator in _SHAPES}
    try:
        decomposition_table.update(_SHAPES)
        for operator, shapes in _SHAPES.items():
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


def _of_lstm(x: Tensor, states: Sequence[Tensor], weights: Any, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, hidden state and cell state of an LSTM, without their values."""
    hidden, cell = states
    return _outputs(x, hidden, *options), hidden.new_empty(hidden.shape), cell.new_empty(cell.shape)


def _of_others(x: Tensor, hidden: Tensor, weights: Any, *options: Any) -> tuple[Tensor, Tensor]:
    """Return outputs and hidden state of a GRU or a plain recurrent layer, without their values."""
    return _outputs(x, hidden, *options), hidden.new_empty(hidden.shape)


def _outputs(
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
    return x.new_empty((*x.shape[:2], hidden.shape[2] * (2 if both_ways else 1)))


_SHAPES: dict[Any, Any] = {
    aten.lstm.input: _of_lstm,
    aten.gru.input: _of_others,
    aten.rnn_tanh.input: _of_others,
    aten.rnn_relu.input: _of_others,
}
