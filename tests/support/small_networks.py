"""Small networks for tests of files and commands, and what builds them by name."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from smartc.core.errors import UserError
from smartc.frontend.model_file import load_model

SHAPE = (3, 8, 8)


def small() -> nn.Module:
    """Return a small convolutional classifier of 10 classes."""
    torch.manual_seed(0)
    first = (nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
    return nn.Sequential(*first, nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), *last).eval()


def wider() -> nn.Module:
    """Return a network whose first weight has another shape."""
    return nn.Sequential(nn.Conv2d(3, 17, 3, padding=1), nn.BatchNorm2d(17))


def deeper() -> nn.Module:
    """Return the classifier with two more layers."""
    return nn.Sequential(*small().children(), nn.Linear(10, 10), nn.Linear(10, 10))


class Tied(nn.Module):
    """Use one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Conv2d(3, 3, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to the same shape."""
        return self.second(self.first(x).relu())


class Lookup(nn.Module):
    """Add a scaled embedding of indices to a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Map (N, L) and (N, 1, 4) to (N, L, 4)."""
        return self.table(ids) * scale


def broken() -> nn.Module:
    """Fail."""
    raise ValueError("no such width")


def number() -> int:
    """Return no module."""
    return 3


def save_program(path: Path, module: nn.Module | None = None, batch: int | None = None) -> Path:
    """Save the small classifier, or another module, as an exported program; the batch is free if None."""
    free = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    example = torch.zeros(batch or 2, *SHAPE)
    program = torch.export.export(module or small(), (example,), dynamic_shapes=free)
    torch.export.save(program, path)
    return path


def save_every_form(folder: Path) -> None:
    """Save the small classifier in every form that a model file can have."""
    module = small()
    save_program(folder / "program.pt")
    save_program(folder / "fixed.pt2", batch=4)
    torch.save(module.state_dict(), folder / "state.pt")
    torch.save(module.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, folder / "checkpoint.pt")
    save_file(module.state_dict(), folder / "state.safetensors")
    torch.save(module, folder / "module.pt")
    torch.save(module, folder / "module4.pt", pickle_protocol=4)
    torch.jit.trace(module, torch.zeros(2, *SHAPE)).save(folder / "script.pt")
    (folder / "pickle.pt").write_bytes(pickle.dumps(module))


@dataclass(frozen=True)
class Refusal:
    """Load a file of a folder, which must be refused, and return the message."""

    folder: Path

    def __call__(self, name: str, **options: Any) -> str:
        """Return the message without the folder's name."""
        with pytest.raises(UserError) as caught:
            load_model(self.folder / name, **options)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{self.folder}/", "")
