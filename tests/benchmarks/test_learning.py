"""The benchmark of the learners: its data, its networks, its baselines, and two batches of it from end to end."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.learning import dense, outside
from benchmarks.learning.__main__ import main
from benchmarks.learning.cost import ChannelCosts, cost_of
from benchmarks.learning.dense import dense_network
from benchmarks.learning.images import DataSet, Images, read_data
from benchmarks.learning.networks import NETWORKS, build_network
from benchmarks.learning.outside import Wanted, cut
from benchmarks.learning.tasks import Protocol, tasks
from benchmarks.learning.training import Recipe, batches, normalised
from smartc import trace
from smartc.core.errors import UserError
from smartc.targets.target import load_target

pytestmark = pytest.mark.slow

PROTOCOL = Protocol("fashion-mnist", "resnet8", epochs=2, dense_epochs=5)


@pytest.fixture
def data() -> DataSet:
    """Return a few random images, 16 to train on and 8 to test."""
    generator = torch.Generator().manual_seed(0)
    train, test = (
        Images(
            torch.randint(0, 256, (count, 1, 12, 12), dtype=torch.uint8, generator=generator),
            torch.randint(0, 10, (count,), generator=generator),
        )
        for count in (16, 8)
    )
    return DataSet(train, test, mean=(0.5,), deviation=(0.25,))


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """Return a folder of the four files of Fashion-MNIST, with random images."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 16), ("t10k", 8)):
        pixels, labels = generator.integers(0, 256, count * 784), generator.integers(0, 10, count)
        for kind, header, values in (("images-idx3", 16, pixels), ("labels-idx1", 8, labels)):
            with gzip.open(tmp_path / f"{part}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.astype(np.uint8).tobytes())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "channels", "count"), [("resnet8", 1, 77754), ("resnet8", 3, 78042), ("resnet20", 3, 272474)]
)
def test_networks_are_of_the_published_size(name: str, channels: int, count: int) -> None:
    network = build_network(name, channels, 10, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert network.eval()(torch.zeros(2, channels, 28, 28)).shape == (2, 10)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in network.modules()) == 1 + 6 * NETWORKS[name] + 2


def test_fashion_mnist_is_read(fashion: Path) -> None:
    found = read_data("fashion-mnist", fashion)
    assert found.train.inputs.shape == (16, 1, 28, 28)
    assert found.test.labels.shape == (8,)
    pixels = found.train.inputs.double() / 255
    assert found.mean == pytest.approx([pixels.mean().item()])
    assert found.deviation == pytest.approx([pixels.std(correction=0).item()])
    assert normalised(found.train.inputs, found).std().item() == pytest.approx(1, abs=1e-3)


def test_both_forms_of_cifar_are_read(tmp_path: Path) -> None:
    colours = np.arange(5)[:, None, None, None] * 40 + np.arange(3) * 20 + np.zeros((5, 32, 32, 3))
    pictures, labels = colours.astype(np.uint8), np.arange(5)
    records = [bytes([label]) + picture.transpose(2, 0, 1).tobytes() for picture, label in zip(pictures, labels)]  # noqa: B905
    for number, record in enumerate(records, start=1):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(record)
    (tmp_path / "test_batch.bin").write_bytes(b"".join(records))
    files = []
    for picture in pictures:
        Image.fromarray(picture).save(file := io.BytesIO(), "JPEG", quality=95)
        files.append(file.getvalue())
    content = np.frombuffer(b"".join(files), np.uint8)
    one = {"bytes": content, "end": np.cumsum([len(file) for file in files]), "y": labels}
    arrays: dict[str, Any] = {f"{key}_{part}": value for key, value in one.items() for part in ("train", "test")}
    np.savez(tmp_path / "cifar.npz", **arrays)
    plain, jpeg = read_data("cifar10", tmp_path), read_data("cifar10", tmp_path / "cifar.npz")
    assert plain.train.inputs[3, :, 0, 0].tolist() == [120, 140, 160]
    # A JPEG of one colour is off by its rounding only.
    assert (plain.train.inputs.int() - jpeg.train.inputs.int()).abs().max() <= 2
    assert plain.test.labels.tolist() == jpeg.train.labels.tolist() == [0, 1, 2, 3, 4]


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        read_data("cifar10", tmp_path / "no.npz")
    text = (
        f"{tmp_path}/no.npz: cifar10 cannot be read: [Errno 2] No such file or directory: '{tmp_path}/no.npz'. "
        "Give --path of a folder with the six .bin files or an .npz of JPEG images."
    )
    assert str(raised.value) == text
    with pytest.raises(UserError) as raised:
        read_data("cifar10", None)
    assert str(raised.value) == "--data cifar10: has no default place. Give --path."


def test_batches_are_the_same_for_the_same_seed(data: DataSet) -> None:
    recipe = Recipe(0.1, batch=8, seed=3)
    first, second = (list(batches(data, recipe, 4)) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    other = next(batches(data, replace(recipe, seed=4), 1))
    assert not torch.equal(first[0][0], other[0])


def test_an_epoch_holds_every_image_once_as_it_is_or_flipped(data: DataSet) -> None:
    seen = torch.cat([inputs for inputs, _ in batches(data, Recipe(0.1, batch=8, seed=0), 2)])
    images = normalised(data.train.inputs, data)
    plain = (seen[:, None] == images[None]).flatten(2).all(2)
    flipped = (seen[:, None].flip(4) == images[None]).flatten(2).all(2)
    assert (plain | flipped).sum(0).tolist() == [1] * 16
    assert 0 < int(flipped.sum()) < 16


def test_tasks_are_those_that_can_be() -> None:
    found = [str(one) for one in tasks([PROTOCOL], ["8x8", "channel", "2:4"], [0.5, 0.7], ["tp-l1", "smart"], [0])]
    start = "fashion-mnist resnet8 seed 0:"
    assert found == [
        f"{start} 8x8 0.5 smart",
        f"{start} 8x8 0.7 smart",
        f"{start} channel 0.5 smart",
        f"{start} channel 0.5 tp-l1 at equal macs",
        f"{start} channel 0.5 tp-l1 at equal latency",
        f"{start} channel 0.7 smart",
        f"{start} channel 0.7 tp-l1 at equal macs",
        f"{start} channel 0.7 tp-l1 at equal latency",
        f"{start} 2:4 0.5 smart",
    ]


def test_dense_networks_are_trained_once(tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = replace(PROTOCOL, dense_epochs=1, batch=8)
    first = dense_network(tmp_path, protocol, data, 0, "cpu")
    monkeypatch.setattr(dense, "train", lambda *_: pytest.fail("trained again"))
    second = dense_network(tmp_path, protocol, data, 0, "cpu")
    assert first.accuracy == second.accuracy
    states = (one.network.state_dict() for one in (first, second))
    for ours, theirs in zip(*(state.values() for state in states), strict=True):
        assert torch.equal(ours, theirs)
    assert not second.network.training
    assert len(list(tmp_path.iterdir())) == 1


def test_cost_counts_weights_that_are_not_zero() -> None:
    layer = torch.nn.Conv2d(8, 16, 3, padding=1, bias=False)
    model = torch.nn.Sequential(layer, torch.nn.ReLU())
    target = load_target("npu-8x8")
    example = torch.zeros(2, 8, 6, 6)
    whole = cost_of(trace(model, example), target)
    assert whole.macs == 36 * 9 * 8 * 16
    with torch.no_grad():
        layer.weight[:, :2] = 0
    assert cost_of(trace(model, example), target).macs == whole.macs * 0.75


@pytest.mark.parametrize(("learner", "kind"), [("tp-l1-uniform", "macs"), ("tp-taylor", "latency")])
def test_torch_pruning_meets_a_cost(learner: str, kind: str, data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_pruning")
    monkeypatch.setattr(outside, "RATIOS", 20)
    network = build_network("resnet8", 1, 10, seed=0).eval()
    target = load_target("npu-8x8")
    wanted = Wanted(kind, 0.5, target)
    smaller = cut(network, learner, data, Recipe(0.1, 8, 0), wanted)
    example = torch.zeros(2, 1, 12, 12)
    traced = trace(network, example)
    cost = cost_of(trace(smaller, example), target)
    assert ChannelCosts.of_model(traced, target).of(smaller) == cost
    before, after = wanted.of(cost_of(traced, target)), wanted.of(cost)
    # Layers have few channels and the array takes whole tiles, so costs come in steps.
    assert after / before == pytest.approx(0.5, abs=0.06)
    assert smaller(example).shape == (2, 10)


def run(fashion: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run two batches of the benchmark and return the lines."""
    out = fashion / "results.jsonl"
    places = ["--path", str(fashion), "--out", str(out), "--cache", str(fashion / "cache")]
    lengths = ["--epochs", "1", "--dense-epochs", "1", "--batch", "8", "--seeds", "0", "--sparsity", "0.5"]
    assert main(["run", "--data", "fashion-mnist", *places, *lengths, *arguments]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_two_batches_from_end_to_end(fashion: Path) -> None:
    arguments = ["--granularity", "8x8", "channel", "2:4", "--learner", "smart"]
    lines = run(fashion, *arguments)
    assert [line["granularity"] for line in lines] == ["8x8", "channel", "2:4"]
    for line in lines:
        assert 0 <= line["accuracy"] <= 1
        assert 0 < line["macs"] < 0.8
        assert 0 < line["latency"] <= 1
        assert 0 <= line["fractional"] <= 1
    assert run(fashion, *arguments) == lines


def test_torch_pruning_runs_beside_smart(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_pruning")
    monkeypatch.setattr(outside, "RATIOS", 20)
    lines = run(fashion, "--granularity", "channel", "--learner", "smart", "tp-taylor")
    assert [(line["learner"], line["match"]) for line in lines] == [
        ("smart", "sparsity"),
        ("tp-taylor", "macs"),
        ("tp-taylor", "latency"),
    ]
    for line in lines[1:]:
        assert line[line["match"]] == pytest.approx(lines[0][line["match"]], abs=0.06)
