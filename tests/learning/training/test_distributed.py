"""Several processes learn what one would on the same batches, and one of them speaks and writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smartc.core.errors import UserError
from smartc.data.batch import Batch
from smartc.learning.training.distributed import Processes, in_torchrun, is_first, joined
from tests.support.learning_networks import convolutions, images
from tests.support.small_networks import save_program

pytestmark = pytest.mark.slow

# Sums in another order, float32, over some steps of Adam.
CLOSE = 1e-3
# The launcher itself stops the other processes when one has failed.
PATIENCE_S = 240
LOSSES = """
import os
import torch

def loss(model, inputs, labels):
    if os.environ["RANK"] == "1":
        raise ValueError("only here")
    return model(*inputs).square().mean()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data, few and many."""
    place = tmp_path_factory.mktemp("several")
    np.savez(place / "few.npz", inputs=images(24).numpy())
    np.savez(place / "many.npz", inputs=images(1000).numpy(), labels=np.arange(1000) % 10)
    (place / "lonely_loss.py").write_text(LOSSES)
    save_program(place / "program.pt", convolutions())
    return place


def _run(folder: Path, processes: int, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Compile in one process or in several."""
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    fixed = ("compile", "program.pt", "--target=npu-8x8", "--granularity", "4x4", "--backend", "pt2", "--steps", "6")
    command = [sys.executable, "-m", *several, "smartc", *fixed, *map(str, options)]
    setting = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=setting, timeout=PATIENCE_S
    )


def _learned(build: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """Return a build's plan, what its report says of the learning, and its weights."""
    plan, report = (json.loads((build / name).read_text()) for name in ("plan.json", "report.json"))
    return plan, report["learning"], dict(torch.export.load(build / "model.pt2").state_dict)


@pytest.mark.parametrize(("data", "budget"), [("many.npz", "0.3"), ("few.npz", "0.5")])
def test_two_processes_learn_what_one_does(folder: Path, tmp_path: Path, data: str, budget: str) -> None:
    """With many samples batch norms learn, with few they are frozen and layers are compared."""
    options = ("--data", data, "--batch", "8", "--sparsity", budget)
    done = [_run(folder, count, *options, "-o", tmp_path / f"{count}") for count in (1, 2)]
    assert [one.returncode for one in done] == [0, 0]
    assert done[0].stderr == ""
    assert done[1].stdout.count("The build is in ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    (plan, learning, weights), (other_plan, other, other_weights) = (_learned(tmp_path / name) for name in "12")
    assert plan["masks"] == other_plan["masks"]
    assert plan == other_plan
    losses, other_losses = ([state["loss"] for state in one["curve"]] for one in (learning, other))
    # The loss of one process is that of its own samples; masks are those of all.
    assert len(losses) == len(other_losses) == 6
    for name in ("density", "fractional"):
        pairs = zip(learning["curve"], other["curve"], strict=True)
        assert all(one[name] == pytest.approx(two[name], abs=CLOSE) for one, two in pairs)
    assert weights.keys() == other_weights.keys()
    for name, tensor in weights.items():
        scale = float(tensor.abs().max()) or 1.0
        assert float((tensor - other_weights[name]).abs().max()) <= CLOSE * scale, name


def test_an_error_of_one_process_ends_all(folder: Path, tmp_path: Path) -> None:
    done = _run(folder, 2, "--data", "few.npz", "--batch", "8", "--train", "lonely_loss:loss", "-o", tmp_path / "build")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("smartc: ")]
    # The other process may get to say, too, that it has lost its partner.
    assert (
        "smartc: --train lonely_loss:loss: it fails: ValueError: only here. "
        "It is called with the model, a tuple of its inputs, and the labels or None."
    ) in told
    assert "Traceback" not in "".join(told)
    assert done.stdout == ""
    assert not (tmp_path / "build").exists()


def test_a_batch_is_cut_in_order() -> None:
    batch = Batch((images(6), 3), torch.arange(6))
    parts = [Processes(rank, 2).share(batch) for rank in (0, 1)]
    assert torch.equal(torch.cat([part.inputs[0] for part in parts]), batch.inputs[0])
    assert [part.inputs[1] for part in parts] == [3, 3]
    assert [part.labels.tolist() for part in parts if part.labels is not None] == [[0, 1, 2], [3, 4, 5]]
    assert Processes().share(batch) is batch
    with pytest.raises(UserError) as caught:
        Processes(0, 4).share(batch)
    assert str(caught.value) == (
        "data: a batch of 6 samples is no multiple of 4 processes. Give a batch size that is, and at least 4 samples."
    )


@pytest.mark.parametrize(
    ("setting", "several", "first"),
    [
        ({}, False, True),
        ({"WORLD_SIZE": "2", "RANK": "1"}, False, True),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1", "RANK": "0"}, False, True),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0"}, True, True),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"}, True, False),
    ],
)
def test_who_speaks(monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], several: bool, first: bool) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert (in_torchrun(), is_first()) == (several, first)
    if not several:
        with joined() as processes:
            assert processes == Processes(0, 1)
            assert processes.first
