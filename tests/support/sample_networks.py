"""Networks with inputs of every kind, for tests of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.core.errors import UserError
from smartc.data.samples import load_samples
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel


class Mean(nn.Module):
    """Average an image over its space."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return x.mean((2, 3))


class Words(nn.Module):
    """Embed token ids under a mask; the model's order is not the alphabet's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map (N, L) and (N, L) to (N, 4)."""
        return (self.table(input_ids) * attention_mask[..., None]).sum(1)


class Nested(nn.Module):
    """Take a pair in a dict, and a number that is no tensor."""

    def forward(self, pair: Mapping[str, Tensor], scale: float) -> Tensor:
        """Map two (N, 2) to (N, 2)."""
        return pair["left"] - pair["right"] * scale


def images(channels: int = 3, size: int = 4, batch: int = 2, dtype: torch.dtype = torch.float32) -> TracedModel:
    """Return a model of images."""
    return trace(Mean(), torch.zeros(batch, channels, size, size, dtype=dtype))


def fixed_batch(batch: int) -> TracedModel:
    """Return a model of 3x4x4 images that takes only so many at a time."""

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(batch, 48).sum(1)

    return trace(Fixed(), torch.zeros(batch, 3, 4, 4))


def words() -> TracedModel:
    """Return a model of token ids and a mask."""
    ids = torch.zeros(2, 5, dtype=torch.int64)
    return trace(Words(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def refused(data: Any, model: TracedModel, preprocess: str | None = None) -> str:
    """Return the message of data that must be refused."""
    with pytest.raises(UserError) as caught:
        load_samples(data, model, preprocess)
    return str(caught.value)
