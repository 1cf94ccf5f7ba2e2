"""The sizes that PyTorch's own layers keep as attributes, told by the tensors that they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# Rows of weights for each hidden unit of a recurrent layer.
_GATES = {"LSTM": 4, "GRU": 3}


def layer_sizes(layer: nn.Module, smaller: nn.Module) -> dict[str, Any] | None:
    """Return by name the attributes that one of PyTorch's own layers, or a class made of one, has once it is smaller.

    Args:
        layer: With its old attributes.
        smaller: The same layer with its new tensors.

    Returns:
        None where the layer is none of these, or has no tensors that tell.
    """
    found = next((sizes for kinds, sizes in _SIZES if isinstance(layer, kinds)), None)
    return None if found is None or _weight(smaller) is None else found(layer, smaller)


def _weight(layer: Any) -> torch.Tensor | None:
    """Return the tensor that tells the sizes of a layer, None where it has none."""
    # weight_v is what the older weight norm makes the weight of.
    names = ("weight_v", "weight", "running_mean", "weight_ih_l0", "weight_ih")
    return next((one for name in names if (one := getattr(layer, name, None)) is not None), None)


def _shape(layer: nn.Module) -> tuple[int, ...]:
    """Return the shape of a layer's weight."""
    weight = _weight(layer)
    assert weight is not None
    return tuple(weight.shape)


def _linear(layer: nn.Module, smaller: nn.Module) -> dict[str, Any]:
    """Return the sizes of a product: weight (out, in)."""
    out, into = _shape(smaller)
    return {"in_features": into, "out_features": out}


def _bilinear(layer: nn.Module, smaller: nn.Module) -> dict[str, Any]:
    """Return the sizes of a bilinear product: weight (out, in1, in2)."""
    out, first, second = _shape(smaller)
    return {"in1_features": first, "in2_features": second, "out_features": out}


def _convolution(layer: Any, smaller: nn.Module) -> dict[str, Any]:
    """Return the channels of a convolution: weight (out, in // groups, ...), or (in, out // groups, ...)."""
    first, second = _shape(smaller)[:2]
    old = layer.in_channels if layer.transposed else layer.out_channels
    # Where each group reads one channel, channels are removed with their groups; else each group loses as many.
    groups = layer.groups * first // old if layer.groups == layer.in_channels else layer.groups
    into, out = (first, second * groups) if layer.transposed else (second * groups, first)
    return {"in_channels": into, "out_channels": out, "groups": groups}


def _batch_norm(layer: nn.Module, smaller: nn.Module) -> dict[str, Any]:
    """Return the channels of a norm with an entry for each."""
    return {"num_features": _shape(smaller)[0]}


def _group_norm(layer: Any, smaller: nn.Module) -> dict[str, Any]:
    """Return the channels and groups of a group norm: whole groups are removed."""
    channels = _shape(smaller)[0]
    return {"num_channels": channels, "num_groups": layer.num_groups * channels // layer.num_channels}


def _layer_norm(layer: nn.Module, smaller: nn.Module) -> dict[str, Any]:
    """Return the shape that a layer norm normalises over."""
    return {"normalized_shape": _shape(smaller)}


def _embedding(layer: nn.Module, smaller: nn.Module) -> dict[str, Any]:
    """Return the rows and columns of a table."""
    rows, columns = _shape(smaller)
    return {"num_embeddings": rows, "embedding_dim": columns}


def _recurrent(layer: Any, smaller: Any) -> dict[str, Any]:
    """Return the sizes of a recurrent layer: weight_ih (gates x hidden, in), weight_hr (projected, hidden)."""
    rows, into = _shape(smaller)
    projected = smaller.weight_hr_l0.shape[0] if layer.proj_size else 0
    return {"input_size": into, "hidden_size": rows // _GATES.get(layer.mode, 1), "proj_size": projected}


def _cell(layer: nn.Module, smaller: Any) -> dict[str, Any]:
    """Return the sizes of one step of a recurrent layer: weight_hh (gates x hidden, hidden)."""
    return {"input_size": _shape(smaller)[1], "hidden_size": smaller.weight_hh.shape[1]}


def _slopes(layer: nn.Module, smaller: nn.Module) -> dict[str, Any]:
    """Return the number of slopes of a PReLU."""
    return {"num_parameters": _shape(smaller)[0]}


_SIZES: tuple[tuple[Any, Callable[[Any, Any], dict[str, Any]]], ...] = (
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (nn.modules.conv._ConvNd, _convolution),
    (nn.modules.batchnorm._NormBase, _batch_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
    (nn.PReLU, _slopes),
)
