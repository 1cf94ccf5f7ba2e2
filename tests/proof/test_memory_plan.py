"""What a proof takes is bounded by a plan: weights cast one by one, values freed, samples and rows in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smartc.analysis.find_channel_groups import find_channel_groups
from smartc.frontend.capture import trace
from smartc.proof import convolve_in_parts, reference
from smartc.proof.exact_run import last_readers, run_exact
from smartc.proof.memory_plan import batches, live_bytes, samples_at_once
from smartc.proof.reference import Reference, mask_readers, seeded_inputs
from tests.support.small_networks import SHAPE, small


def _chain(length: int) -> nn.Module:
    """Return a chain of layers of equal maps."""
    return nn.Sequential(*[layer for _ in range(length) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())])


@pytest.mark.parametrize("length", [2, 5])
def test_what_is_alive_does_not_grow_with_the_depth(length: int) -> None:
    model = trace(_chain(length), torch.zeros(2, 4, 8, 8))
    assert live_bytes(model, 8) == 2 * 4 * 8 * 8 * 8
    assert live_bytes(model, 4) == 4 * 4 * 8 * 8 * 2
    assert samples_at_once(model, 3, 4096, 8) == 1
    assert samples_at_once(model, 3, 2 * 4096, 8) == 2
    assert samples_at_once(model, 3, 1, 8) == 1
    assert samples_at_once(model, 3, 2**30, 8) == 3


def test_every_value_is_freed_once() -> None:
    graph = trace(small(), torch.zeros(2, *SHAPE)).graph
    freed = [used for values in last_readers(graph).values() for used in values]
    assert len(freed) == len(set(freed)) == len(graph.nodes)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_batches_are_the_samples_in_order(size: int) -> None:
    model = trace(small(), torch.zeros(2, *SHAPE))
    (whole,) = flat = seeded_inputs(model, 5)
    parts = batches(model, flat, size)
    assert torch.equal(torch.cat([part for (part,) in parts]), whole)
    assert max(len(part) for (part,) in parts) == size


def test_an_exact_run_is_the_model_in_float64() -> None:
    model = trace(small(), torch.zeros(2, *SHAPE))
    (flat,) = seeded_inputs(model, 3)
    assert torch.equal(run_exact(model, (flat.double(),)), model.to(torch.float64).run((flat.double(),)))


def test_a_proof_in_parts_is_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trace(small(), torch.zeros(2, *SHAPE))
    groups = find_channel_groups(model)
    keep = np.arange(groups.count) % 3 > 0
    whole = Reference(model, groups, keep)
    masked = mask_readers(model, groups, keep)
    assert whole.prove_removal(masked).max_abs_error == 0.0
    assert [len(part[0]) for part in whole.batches] == [3]
    live = live_bytes(model, 8)
    for allowed, sizes in ((live, [1, 1, 1]), (2 * live, [2, 1]), (live - 1, [1])):
        monkeypatch.setattr(reference, "PROOF_BYTES", allowed)
        parts = Reference(model, groups, keep)
        assert [len(part[0]) for part in parts.batches] == sizes
        assert parts.prove_removal(masked).inputs == f"{sum(sizes)} seeded inputs"


CASES: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 17, 9)),
    (nn.Conv2d(4, 6, (5, 3), stride=(2, 1), padding=(4, 1), dilation=(2, 1)), (2, 4, 17, 9)),
    (nn.Conv2d(4, 8, 3, groups=4, stride=3), (1, 4, 16, 9)),
    (nn.Conv1d(4, 6, 7, padding=6, stride=2), (2, 4, 31)),
    (nn.Conv3d(2, 3, 3, padding=(2, 1, 1)), (1, 2, 9, 5, 5)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (2, 4, 9, 7)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (2, 4, 9, 7)),
    (nn.Conv2d(4, 6, 3, padding="same", bias=False), (2, 4, 11, 9)),
]


@pytest.mark.parametrize(("layer", "shape"), CASES)
@pytest.mark.parametrize("allowed", [1, 2000])
def test_a_convolution_in_parts_is_the_convolution(
    layer: nn.Module, shape: tuple[int, ...], allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64)
    sizes: list[int] = []
    plain = torch.convolution

    def noted(part: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(part.shape[2])
        return plain(part, *rest)

    with torch.no_grad():
        whole = layer(x)
        monkeypatch.setattr(convolve_in_parts, "PART_BYTES", allowed)
        monkeypatch.setattr(torch, "convolution", noted)
        with convolve_in_parts.ConvolveInParts():
            found = layer(x)
    assert torch.allclose(found, whole, rtol=1e-13, atol=1e-13)
    assert len(sizes) > 1 or getattr(layer, "transposed", False)
