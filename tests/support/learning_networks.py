"""Small networks to learn masks on, their samples, and loops that train them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from smartc.compile import start
from smartc.decision.job import CompileJob
from smartc.frontend.capture import trace
from smartc.ir.traced_model import TracedModel
from smartc.learning.masking import new_search
from smartc.learning.training.mask_search import MaskSearch
from smartc.request import Request

SHAPE = (3, 8, 8)
WIDTH, TOKENS, WORDS = 16, 6, 13


def convolutions() -> nn.Module:
    """Return a classifier of 10 classes with two convolutions of 16 channels behind its first."""
    torch.manual_seed(0)
    first = (nn.Conv2d(3, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
    middle = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
    last = (nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*first, *middle, *last, nn.Linear(WIDTH, 10)).eval()


class Sentences(nn.Module):
    """A transformer of one layer over token ids and their attention mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WORDS, WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map (N, L) and (N, L) to (N, 16)."""
        x = self.table(input_ids)
        heads = (part(x).view(x.shape[0], TOKENS, 2, 8).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = attention_mask[:, None, None, :].bool()
        mixed = nn.functional.scaled_dot_product_attention(*heads, attn_mask=seen)
        x = self.norm(x + self.out(mixed.transpose(1, 2).reshape(x.shape[0], TOKENS, WIDTH)))
        return (x + self.narrow(nn.functional.gelu(self.wide(x)))).mean(1)


def sentences(count: int) -> dict[str, Tensor]:
    """Return random sentences of random lengths."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, WORDS, (count, TOKENS), generator=generator)
    lengths = torch.randint(1, TOKENS + 1, (count, 1), generator=generator)
    return {"input_ids": ids, "attention_mask": (torch.arange(TOKENS) < lengths).long()}


def images(count: int, seed: int = 1) -> Tensor:
    """Return random images."""
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@cache
def traced() -> TracedModel:
    """Return the convolutions, captured once: passes leave a model as it is."""
    return trace(convolutions(), torch.zeros(2, *SHAPE))


def job(granularity: str = "4x4", learner: str = "smart", **budget: Any) -> CompileJob:
    """Return what is to be learned on the convolutions."""
    budgets = tuple(budget.get(kind) for kind in ("sparsity", "latency", "macs", "bytes"))
    asked = Request("npu-8x8", budgets, granularity, learner, with_data=True)  # type: ignore[arg-type]
    return start(traced(), None, asked)


def search(granularity: str = "4x4", learner: str = "smart", steps: int = 12, **budget: Any) -> MaskSearch:
    """Return a search on the convolutions that has not begun."""
    return new_search(job(granularity, learner, **budget), steps, batch_norm=True)


def distance(model: Any, place: int) -> Tensor:
    """Return the mean squared error of a model's outputs to those of the convolutions, on the batch of a step."""
    batch = images(8, seed=place)
    with torch.no_grad():
        expected = traced().graph_module(batch)
    return nn.functional.mse_loss(model(batch), expected)


def train(found: MaskSearch, optimizer: torch.optim.Optimizer, watch: Callable[[], None] = lambda: None) -> None:
    """Train a search to its end, as a user would."""
    while found.done < found.steps:
        optimizer.zero_grad()
        distance(found.model, found.done).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.step()
        watch()
