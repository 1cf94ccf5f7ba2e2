"""Recurrent networks and text: LSTM, GRU, embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.blocks import conv_norm
from tests.support.zoo.registry import case


def token_ids() -> tuple[Tensor]:
    """Return token numbers below 60, shape (2, 14)."""
    return (torch.randint(0, 60, (2, 14)),)


@case("lstm", (10, 16))
class Lstm(nn.Module):
    """Two layers, of which the last step is read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.recurrent = nn.Linear(16, 32), nn.LSTM(32, 40, num_layers=2, batch_first=True)
        self.last = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.recurrent(torch.relu(self.first(x)))
        return self.last(outputs[:, -1])


@case("lstm_bidirectional", (10, 16))
class LstmBidirectional(nn.Module):
    """Both directions, hidden states read as well as outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.last = nn.LSTM(16, 24, batch_first=True, bidirectional=True), nn.Linear(96, 8)

    def forward(self, x: Tensor) -> Tensor:
        outputs, (hidden, _) = self.recurrent(x)
        return self.last(torch.cat((outputs.mean(1), hidden[0], hidden[1]), 1))


@case("gru", (10, 16))
class Gru(nn.Module):
    """A gated recurrent unit between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.recurrent = nn.Linear(16, 32), nn.GRU(32, 40, batch_first=True)
        self.middle, self.last = nn.Linear(40, 48), nn.Linear(48, 8)

    def forward(self, x: Tensor) -> Tensor:
        outputs, hidden = self.recurrent(torch.relu(self.first(x)))
        return self.last(torch.relu(self.middle(outputs[:, -1] + hidden[0])))


@case("gru_cell_unrolled", (4, 16))
class GruCell(nn.Module):
    """A cell stepped by hand from a state of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRUCell(16, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.size(0), 32)
        for step in range(4):
            state = self.cell(x[:, step], state)
        return self.last(state)


@case("lstm_cell_unrolled", (4, 16))
class HandwrittenLstm(nn.Module):
    """Gates from two linear layers and a chunk, as the literature writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.states, self.last = nn.Linear(16, 128), nn.Linear(32, 128), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        hidden, cell = x.new_zeros(x.size(0), 32), x.new_zeros(x.size(0), 32)
        for step in range(4):
            gates = self.inputs(x[:, step]) + self.states(hidden)
            enter, forget, fresh, leave = gates.chunk(4, 1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * fresh.tanh()
            hidden = leave.sigmoid() * cell.tanh()
        return self.last(hidden)


@case("convolutions_into_lstm", (1, 16, 32))
class ConvolutionsIntoLstm(nn.Module):
    """Text recognition: columns of a map become steps, its rows join the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_norm(1, 24), nn.MaxPool2d(2), conv_norm(24, 32), nn.MaxPool2d(2))
        self.recurrent, self.last = nn.LSTM(128, 32, batch_first=True), nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.features(x).permute(0, 3, 1, 2).flatten(2)
        return self.last(self.recurrent(steps)[0])


@case("text_convolutions", example=token_ids)
class TextConvolutions(nn.Module):
    """An embedding, convolutions of several widths, the maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 24)
        self.convolutions = nn.ModuleList(nn.Conv1d(24, 32, width) for width in (3, 4, 5))
        self.last = nn.Linear(96, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        pooled = [F.max_pool1d(F.relu(conv(x)), int(conv(x).size(2))).squeeze(2) for conv in self.convolutions]
        return self.last(torch.cat(pooled, 1))


@case("embedding_mean", example=token_ids)
class EmbeddingMean(nn.Module):
    """The mean of embeddings that are not padding, then linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 40, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, ids: Tensor) -> Tensor:
        present = ids.ne(0).unsqueeze(-1)
        return self.layers((self.embed(ids) * present).sum(1) / present.sum(1).clamp(min=1))


@case("temporal_convolutions", (8, 40))
class TemporalConvolutions(nn.Module):
    """Causal dilated convolutions with the surplus cut off in time, residual and gated (WaveNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(8, 32, 1)
        self.wide = nn.ModuleList(nn.Conv1d(32, 64, 2, dilation=d, padding=d) for d in (1, 2, 4))
        self.residual = nn.ModuleList(nn.Conv1d(32, 32, 1) for _ in range(3))
        self.last = nn.Conv1d(32, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.first(x), []
        for wide, residual in zip(self.wide, self.residual, strict=True):
            filtered, gate = wide(x)[..., :40].chunk(2, dim=1)
            made = residual(filtered.tanh() * gate.sigmoid())
            skips.append(made)
            x = x + made
        return self.last(torch.relu(skips[0] + skips[1] + skips[2]))
