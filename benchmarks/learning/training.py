"""Training a network, always the same way, and testing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.learning.images import DataSet, Images

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
# The rate rises over this share of the steps, then falls as a cosine.
WARM_UP = 0.1
_TESTED_AT_ONCE = 500


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        rate: The highest learning rate.
        batch: Images in a step.
        seed: Tells the order of the images, and which are flipped.
        bfloat16: Whether convolutions and products are done in bfloat16.
        device: On what.
    """

    rate: float
    batch: int
    seed: int
    bfloat16: bool = False
    device: str = "cpu"

    def steps(self, data: DataSet, epochs: int) -> int:
        """Return the steps of so many epochs; an incomplete last batch is left out."""
        return epochs * (len(data.train.labels) // self.batch)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16)

    def loss(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the cross-entropy of a batch."""
        inputs, labels = batch
        with self.autocast():
            outputs = model(inputs)
        return cross_entropy(outputs.float(), labels)


def batches(data: DataSet, recipe: Recipe, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches in an order that the seed tells, half of the images flipped.

    Raises:
        ValueError: There are fewer images than a batch takes.
    """
    images, each = data.train, len(data.train.labels) // recipe.batch
    if not each:
        raise ValueError(f"{len(images.labels)} images make no batch of {recipe.batch}")
    generator = torch.Generator().manual_seed(recipe.seed)
    for step in range(steps):
        if step % each == 0:
            order = torch.randperm(len(images.labels), generator=generator)
        chosen = order[step % each * recipe.batch :][: recipe.batch]
        flipped = torch.rand(recipe.batch, 1, 1, 1, generator=generator) < 0.5
        inputs = normalised(images.inputs[chosen], data)
        inputs = torch.where(flipped, inputs.flip(3), inputs).contiguous(memory_format=torch.channels_last)
        yield inputs.to(recipe.device), images.labels[chosen].to(recipe.device)


def normalised(pixels: torch.Tensor, data: DataSet) -> torch.Tensor:
    """Return uint8 images (N, C, H, W) as floats of mean 0 and deviation 1 over the data to train on."""
    mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.deviation))
    return (pixels / 255.0 - mean) / deviation


def train(
    model: nn.Module,
    data: DataSet,
    recipe: Recipe,
    steps: int,
    after_step: Callable[[torch.Tensor], object] | None = None,
) -> None:
    """Train in place; ``after_step`` is called with the loss when the weights have moved."""
    # A quarter faster on processors.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.rate, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=max(steps, 1), pct_start=WARM_UP, cycle_momentum=False
    )
    for batch in batches(data, recipe, steps):
        loss = recipe.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if after_step is not None:
            after_step(loss)


def accuracy(model: nn.Module, data: DataSet, device: str = "cpu") -> float:
    """Return the share of the test images whose class a model tells; it must be in eval mode."""
    images: Images = data.test
    right = 0
    with torch.no_grad():
        for inputs, labels in zip(
            images.inputs.split(_TESTED_AT_ONCE), images.labels.split(_TESTED_AT_ONCE), strict=True
        ):
            outputs = model(normalised(inputs, data).to(device))
            right += int((outputs.argmax(1).cpu() == labels).sum())
    return right / max(len(images.labels), 1)
