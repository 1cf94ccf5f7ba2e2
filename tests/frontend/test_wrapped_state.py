"""State dicts of wrapped models and of trainers' checkpoints load as those of the model itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smartc.frontend.model_file import load_model
from smartc.frontend.wrapped_state import unwrapped
from tests.support.small_networks import Tied

NAMES = ("first.weight", "model.bias")


@pytest.mark.parametrize(
    ("names", "kept", "prefix", "others"),
    [
        (("module.first.weight", "module.model.bias"), NAMES, "module.", 0),
        (("module._orig_mod.first.weight", "module._orig_mod.model.bias"), NAMES, "module._orig_mod.", 0),
        (("model.first.weight", "model.model.bias", "criterion.weight"), NAMES, "model.", 1),
    ],
)
def test_prefixes_are_taken_off(names: tuple[str, ...], kept: tuple[str, ...], prefix: str, others: int) -> None:
    bare, told = unwrapped(dict.fromkeys(names, 0), NAMES)
    assert tuple(bare) == kept
    assert told.startswith(f"the names of its weights began with {prefix} and are taken without it")
    assert (f"{others} entries beside them were left out" in told) == bool(others)


@pytest.mark.parametrize("names", [NAMES, ("model.bias",), ("other.weight",), ("module.other",), (), ("module.",) * 9])
def test_others_stay_as_they_are(names: tuple[str, ...]) -> None:
    state = dict.fromkeys(names, 0)
    assert unwrapped(state, NAMES) == (state, "")


@pytest.mark.parametrize("nested", [False, True])
def test_a_checkpoint_of_a_trainer_loads(tmp_path: Path, nested: bool) -> None:
    module = Tied()
    state = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "last.ckpt")
    factory = "tests.support.small_networks:Tied"
    model = load_model(tmp_path / "last.ckpt", factory=factory, input_shapes=("2x3x4x4",))
    assert torch.equal(model.tensor("first.weight"), module.state_dict()["first.weight"])
    assert [remark.text for remark in model.remarks][:1] == [
        "the names of its weights began with model. and are taken without it"
    ]
