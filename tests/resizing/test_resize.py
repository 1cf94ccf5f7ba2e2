"""A module of the user's own class becomes as small as the compiled model and computes the same, or says where not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import smartc
from smartc.artifact.compiled import Compiled
from smartc.core.errors import UserError
from smartc.resizing.trial import copy_of
from tests.support import own_classes
from tests.support.own_classes import (
    CHANNELS,
    SIDE,
    TOKENS,
    Attention,
    Blocks,
    Keeping,
    Mean,
    Pyramid,
    SeparateAttention,
    Spelled,
    Splitting,
    Unguessable,
)

SOURCE = Path(own_classes.__file__)
IMAGES = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
TOKEN = torch.randn(2, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(2 * TOKENS).reshape(2, TOKENS)
EXPRESSIBLE: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "pyramid": (Pyramid, IMAGES),
    "attention": (Attention, TOKEN),
    "separate": (SeparateAttention, TOKEN),
    "splitting": (Splitting, TOKEN),
    "blocks": (Blocks, IDS),
    "unguessable": (Unguessable, TOKEN),
}


# The types of a model, and the batch of the example that it is captured with.
KINDS = (
    (torch.float32, 2),
    pytest.param(torch.float32, 1, marks=pytest.mark.slow),
    pytest.param(torch.float64, 2, marks=pytest.mark.slow),
    (torch.float64, 1),
)


def _made(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network of random weights with running statistics of its own."""
    torch.manual_seed(seed)
    module = make()
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return module.eval()


def _compiled(module: nn.Module, inputs: torch.Tensor, **options: Any) -> Compiled:
    """Compile a network to half of its channels."""
    return smartc.compile(module, inputs, target="npu-8x8", backends=(), **options)


@cache
def _case(name: str, dtype: torch.dtype = torch.float32, batch: int = 2) -> tuple[nn.Module, torch.Tensor, Compiled]:
    """Return a network that can be made small, its inputs, and what it was compiled to."""
    make, inputs = EXPRESSIBLE[name]
    inputs = (inputs.to(dtype) if inputs.is_floating_point() else inputs)[:batch]
    module = _made(make).to(dtype)
    return module, inputs, _compiled(module, inputs)


def _fine_tune(module: nn.Module, inputs: torch.Tensor) -> list[float]:
    """Train a module for ten steps towards zero and return the losses."""
    module.train()
    optimizer, losses = torch.optim.Adam(module.parameters(), lr=1e-3), []
    for _ in range(10):
        optimizer.zero_grad()
        loss = module(inputs).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", EXPRESSIBLE)
@pytest.mark.parametrize(("dtype", "batch"), KINDS)
def test_the_class_computes_what_the_compiled_model_does(name: str, dtype: torch.dtype, batch: int) -> None:
    module, inputs, compiled = _case(name, dtype, batch)
    before = copy.deepcopy(module.state_dict())
    smaller = compiled.apply(module)
    assert type(smaller) is type(module)
    count, less = (sum(tensor.numel() for tensor in one.parameters()) for one in (module, smaller))
    assert less < 0.9 * count
    torch.testing.assert_close(smaller(inputs), compiled(inputs))
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert smaller.state_dict().keys() == before.keys()


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_the_smaller_module_trains(name: str) -> None:
    module, inputs, compiled = _case(name)
    smaller = compiled.apply(module)
    losses = _fine_tune(smaller, inputs)
    assert losses[-1] < losses[0]


def test_layers_are_as_if_they_were_made_small() -> None:
    module, _, compiled = _case("pyramid")
    smaller = compiled.apply(module)
    layers = {name: layer for name, layer in smaller.named_modules() if not list(layer.children())}
    assert "Conv2d(32, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=32, bias=False)" in map(
        repr, layers.values()
    )
    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups), name
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm, nn.PReLU)):
            attribute = {nn.BatchNorm2d: "num_features", nn.GroupNorm: "num_channels"}.get(type(layer))
            assert getattr(layer, attribute or "num_parameters") == len(layer.weight), name


def test_heads_go_and_their_size_and_scale_stay() -> None:
    module, _, compiled = _case("attention")
    smaller: Any = compiled.apply(module)
    assert smaller.num_heads == 2
    assert (smaller.head_dim, smaller.scale) == (8, module.scale)
    other, _, compiled = _case("separate")
    separate: Any = compiled.apply(other)
    sizes = (separate.num_attention_heads, separate.attention_head_size, separate.all_head_size)
    assert sizes == (2, 8, 16)


def test_ties_stay() -> None:
    module, _, compiled = _case("blocks")
    smaller: Any = compiled.apply(module)
    assert smaller.output.weight is smaller.embedding.weight


def test_the_weights_can_be_the_modules_own() -> None:
    compiled, other = _case("pyramid")[2], _made(Pyramid, seed=1)
    smaller: Any = compiled.apply(other, own_weights=True)
    kept = compiled.plan.tensors["stem.0.weight"]["axes"][0]["kept"]
    assert torch.equal(smaller.stem[0].weight, other.get_submodule("stem.0").weight[kept])
    assert not torch.equal(smaller(IMAGES), compiled(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("own_weights", [False, True])
def test_blocks_that_were_removed_are_zero(own_weights: bool) -> None:
    module = _made(Splitting)
    compiled = _compiled(module, TOKEN, granularity="8x8", data=TOKEN, settings=smartc.Settings(steps=4))
    smaller = compiled.apply(module, own_weights=own_weights)
    assert compiled.plan.masks
    for name in compiled.plan.masks:
        weight, masked = smaller.get_parameter(name), compiled.model.tensor(name)
        assert (weight == 0).float().mean() > 0.2
        assert torch.equal(weight == 0, masked == 0)
    if not own_weights:
        torch.testing.assert_close(smaller(TOKEN), compiled(TOKEN))


def test_weights_that_were_trained_after_the_compile_are_taken() -> None:
    module = _made(Pyramid)
    compiled = _compiled(module, IMAGES)
    with torch.no_grad():
        compiled.module.get_parameter("head.bias").fill_(3)
    smaller: Any = compiled.apply(module)
    assert smaller.head.bias.tolist() == [3, 3, 3, 3]


def test_zero_outputs_prove_nothing_and_every_module_is_compared() -> None:
    module: Any = _made(Spelled)
    nn.init.zeros_(module.last.down.weight)
    nn.init.zeros_(module.last.down.bias)
    with pytest.raises(UserError, match=r"^last \(SpelledView\)"):
        _compiled(module, TOKEN).apply(module)


def test_the_first_place_that_spells_a_size_out_is_named() -> None:
    module = _made(Spelled)
    with pytest.raises(UserError) as caught:
        _compiled(module, TOKEN).apply(module)
    lines = SOURCE.read_text("utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "view(-1, TOKENS, 64)" in text)
    assert str(caught.value) == (
        "last (SpelledView): it cannot be made as small as the compiled model: its forward fails: shape "
        f"'[-1, 6, 64]' is invalid for input of size 576 (in forward, line {line}: "
        '"return self.down(torch.relu(self.up(x).view(-1, TOKENS, 64)))"). '
        "Take the sizes from the tensors there, as x.shape[-1] or -1 do, or use the build's own module."
    )


def test_the_first_place_that_computes_something_else_is_named() -> None:
    module = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), _made(Mean))
    with pytest.raises(UserError) as caught:
        _compiled(module, TOKEN).apply(module)
    assert str(caught.value) == (
        "1 (Mean): it cannot be made as small as the compiled model: its output differs from what the compiled model "
        "computes there. Take the sizes from the tensors there, as x.shape[-1] or -1 do, or use the build's own module."
    )


def test_another_class_is_refused() -> None:
    compiled = _case("attention")[2]
    with pytest.raises(UserError) as caught:
        compiled.apply(Attention(heads=2, channels=16))
    assert str(caught.value) == (
        "Attention: it has qkv.weight of shape 48x16, and the plan was made for one of shape 96x32. "
        "Name the class that was compiled, with the arguments that it had."
    )
    with pytest.raises(UserError, match=r"^Splitting: it has no qkv\.weight, and the plan was made for one"):
        compiled.apply(Splitting())


def test_a_copy_drops_what_a_class_keeps_of_its_weights() -> None:
    module = Keeping(CHANNELS, CHANNELS).eval()
    module(TOKEN)
    copied: Any = copy_of(module)
    assert module.kept is not None
    assert copied.kept is None
    assert not copied.training
