"""Networks with recurrent layers: what users build of them, and each option of the layers themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WORDS, EMBEDDED, HIDDEN = 40, 16, 24


def token_ids(steps: int = 7) -> Tensor:
    """Return token numbers, shape (2, steps)."""
    return torch.randint(0, WORDS, (2, steps), generator=torch.Generator().manual_seed(0))


def sequence(channels: int = EMBEDDED, steps: int = 7) -> Tensor:
    """Return random numbers, shape (2, steps, channels)."""
    return torch.randn(2, steps, channels, generator=torch.Generator().manual_seed(0))


class Tagger(nn.Module):
    """A label for each token: embedding, recurrent layers, linear."""

    def __init__(self, kind: str = "LSTM", **options: Any) -> None:
        super().__init__()
        options = {"num_layers": 2, "bidirectional": True, **options}
        self.embed = nn.Embedding(WORDS, EMBEDDED)
        self.recurrent = getattr(nn, kind)(EMBEDDED, HIDDEN, batch_first=True, **options)
        width = options.get("proj_size", 0) or HIDDEN
        self.head = nn.Linear(width * (2 if options["bidirectional"] else 1), 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embed(ids))[0])


class Classifier(nn.Module):
    """A label for each text, of the last states of both directions, steps first."""

    def __init__(self, kind: str = "LSTM", **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, EMBEDDED)
        self.recurrent = getattr(nn, kind)(EMBEDDED, HIDDEN, num_layers=2, bidirectional=True, **options)
        self.head = nn.Linear(2 * HIDDEN, 3)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.recurrent(self.embed(ids).transpose(0, 1))[1]
        hidden = states[0] if isinstance(states, tuple) else states
        return self.head(torch.cat((hidden[-2], hidden[-1]), 1))


class LearnedStates(nn.Module):
    """States to start from are parameters; all layers and directions share their columns."""

    def __init__(self, kind: str = "LSTM", **options: Any) -> None:
        super().__init__()
        width = options.get("proj_size", 0) or HIDDEN
        self.recurrent = getattr(nn, kind)(EMBEDDED, HIDDEN, num_layers=2, batch_first=True, **options)
        self.hidden, self.cell = (nn.Parameter(torch.randn(2, 1, size)) for size in (width, HIDDEN))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, cell = (state.expand(-1, x.shape[0], -1).contiguous() for state in (self.hidden, self.cell))
        states = (hidden, cell) if isinstance(self.recurrent, nn.LSTM) else hidden
        return self.head(self.recurrent(x, states)[0][:, -1])


class EncoderDecoder(nn.Module):
    """The decoder starts from the encoder's states, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, EMBEDDED)
        self.encoder = nn.LSTM(EMBEDDED, HIDDEN, num_layers=2, batch_first=True)
        self.decoder = nn.LSTM(EMBEDDED, HIDDEN, num_layers=2, batch_first=True)
        self.head = nn.Linear(HIDDEN, 5)

    def forward(self, ids: Tensor) -> Tensor:
        states = self.encoder(self.embed(ids))[1]
        return self.head(self.decoder(self.embed(ids[:, :3]), states)[0])


class TextRecognition(nn.Module):
    """CRNN: convolutions, whose columns are the steps of a bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU()
        )
        self.recurrent = nn.LSTM(24 * 4, HIDDEN, bidirectional=True)
        self.between = nn.Linear(2 * HIDDEN, 20)
        self.second = nn.LSTM(20, HIDDEN, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, 6)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.features(x).flatten(1, 2).permute(2, 0, 1)
        between = self.between(self.recurrent(steps)[0])
        return self.head(self.second(between)[0])


class Speech(nn.Module):
    """Convolutions over time, then GRUs, a sum with what goes into the second, and a label for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(10, 24, 5, 2, 2), nn.Conv1d(24, 24, 3, padding=1)
        self.norm = nn.BatchNorm1d(24)
        self.lower, self.upper = nn.GRU(24, HIDDEN, batch_first=True), nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.second(torch.relu(self.first(x))))).transpose(1, 2)
        lower = self.lower(x)[0]
        return self.head(lower + self.upper(lower)[0])


class Cells(nn.Module):
    """Two cells of a kind stepped by hand, both from the same zeros."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.lower, self.upper = (getattr(nn, kind)(size, HIDDEN, **options) for size in (EMBEDDED, HIDDEN))
        self.head = nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(x.shape[0], HIDDEN)
        lower = upper = (zeros, zeros) if isinstance(self.lower, nn.LSTMCell) else zeros
        for step in range(3):
            lower = self.lower(x[:, step], lower)
            upper = self.upper(lower[0] if isinstance(lower, tuple) else lower, upper)
        return self.head(upper[0] if isinstance(upper, tuple) else upper)


class StatesOfAllLayers(nn.Module):
    """The last states of all layers and directions in one view, which ties them."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.GRU(EMBEDDED, HIDDEN, 2, batch_first=True, bidirectional=True), nn.Linear(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.recurrent(x)[1]
        return self.head(hidden.transpose(0, 1).reshape(-1, 4 * HIDDEN))


Made = tuple[Callable[[], nn.Module], Callable[[], Tensor]]
NETWORKS: dict[str, Made] = {
    "lstm_tagger": (Tagger, token_ids),
    "gru_tagger": (lambda: Tagger("GRU"), token_ids),
    "rnn_tagger": (lambda: Tagger("RNN"), token_ids),
    "rnn_relu": (lambda: Tagger("RNN", nonlinearity="relu", bidirectional=False), token_ids),
    "lstm_projected": (lambda: Tagger(proj_size=12), token_ids),
    "lstm_without_bias": (lambda: Tagger(bias=False, num_layers=1), token_ids),
    "gru_without_bias": (lambda: Tagger("GRU", bias=False, bidirectional=False), token_ids),
    "lstm_with_dropout": (lambda: Tagger(dropout=0.5, num_layers=3), token_ids),
    "lstm_classifier": (Classifier, token_ids),
    "gru_classifier": (lambda: Classifier("GRU"), token_ids),
    "lstm_learned_states": (LearnedStates, sequence),
    "lstm_projected_learned_states": (lambda: LearnedStates(proj_size=12), sequence),
    "gru_learned_states": (lambda: LearnedStates("GRU"), sequence),
    "encoder_decoder": (EncoderDecoder, token_ids),
    "text_recognition": (TextRecognition, lambda: torch.rand(2, 1, 8, 20)),
    "speech": (Speech, lambda: torch.rand(2, 10, 24)),
    "lstm_cells": (lambda: Cells("LSTMCell"), sequence),
    "gru_cells": (lambda: Cells("GRUCell", bias=False), sequence),
    "rnn_cells": (lambda: Cells("RNNCell", nonlinearity="relu"), sequence),
    "states_of_all_layers": (StatesOfAllLayers, sequence),
}


def build(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    """Return a network of the table with random weights, and its example input, both in a type."""
    make, example = NETWORKS[name]
    torch.manual_seed(0)
    x = example()
    return make().to(dtype).eval(), x.to(dtype) if x.is_floating_point() else x
