"""The benchmark of the learners: its data, its networks, what it does again and what not, and its page."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.learning import dense, outside, runner
from benchmarks.learning.__main__ import main
from benchmarks.learning.cost import ChannelCosts, cost_of
from benchmarks.learning.dense import dense_network
from benchmarks.learning.images import DataSet, Images, read_data
from benchmarks.learning.networks import NETWORKS, build_network
from benchmarks.learning.outside import Wanted, cut
from benchmarks.learning.page import write_page
from benchmarks.learning.perform import Bench
from benchmarks.learning.results import Outcome, Provenance, Result, append_result, read_results
from benchmarks.learning.runner import Place, command_text, run_tasks
from benchmarks.learning.tasks import Protocol, Task, tasks
from benchmarks.learning.training import Recipe, batches, normalised
from smartc import trace
from smartc.errors import UserError
from smartc.targets.target import load_target

PROTOCOL = Protocol("fashion-mnist", "resnet8", epochs=2, dense_epochs=5)
MADE = Provenance("0.1.0", "abc", "python -m benchmarks.learning run", "cpu")
NOTHING = Outcome(0.9, 0.8, macs=0.5, latency=0.6, fractional=0.0, removed=0.5, seconds=10.0)


def task(learner: str = "smart", seed: int = 0, match: str = "sparsity", granularity: str = "channel") -> Task:
    """Return a task at 50 %."""
    return Task(PROTOCOL, granularity, 0.5, learner, match, seed)


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


def test_a_result_survives_its_line() -> None:
    result = Result(task("tp-l1", match="macs"), replace(NOTHING, fractional=None), MADE)
    assert Result.from_line(result.line()) == result
    assert set(json.loads(result.line())) >= {"data", "network", "epochs", "rate", "seed", "accuracy", "commit"}


def test_what_a_killed_run_left_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = [Result(task(seed=seed), NOTHING, MADE) for seed in range(3)]
    append_result(path, results[0])
    with path.open("a") as file:
        file.write(results[1].line()[:40])
    assert read_results([path]) == results[:1]
    append_result(path, results[2])
    assert read_results([path]) == [results[0], results[2]]


def test_another_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"data": "x"}\n')
    with pytest.raises(UserError) as raised:
        read_results([path])
    fact = "is no result: network is missing. Remove the line, or give another file."
    assert str(raised.value) == f"{path}, line 1: {fact}"


class Performed:
    """Stands in for the work of a task, and notes what was asked for."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.references: list[Outcome | None] = []

    def __call__(self, one: Task, bench: Bench, reference: Outcome | None) -> Outcome:
        self.tasks.append(one)
        self.references.append(reference)
        return replace(NOTHING, macs=0.1 * len(self.tasks))


@pytest.fixture
def performed(monkeypatch: pytest.MonkeyPatch) -> Performed:
    """Let the runner do nothing but note what it would do."""
    stand_in = Performed()
    monkeypatch.setattr(runner, "perform", stand_in)
    monkeypatch.setattr(runner, "_bench", lambda *_: None)
    return stand_in


def test_only_what_is_not_there_is_run(tmp_path: Path, performed: Performed) -> None:
    place = Place(tmp_path / "results.jsonl", tmp_path, None)
    asked = [task(seed=seed) for seed in range(3)]
    said: list[str] = []
    assert run_tasks(asked[:2], place, "first", said.append) == 0
    assert run_tasks(asked, place, "second", said.append) == 0
    assert performed.tasks == asked
    results = read_results([place.out])
    assert [result.task for result in results] == asked
    assert [result.provenance.command for result in results] == ["first", "first", "second"]
    assert said[-2:] == [
        "3 tasks, 2 of them done",
        "1/1 fashion-mnist resnet8 seed 2: channel 0.5 smart: 90.00% to 80.00%, MACs 0.30, time 0.60, 10 CPU s",
    ]


def test_what_is_matched_gets_its_reference(tmp_path: Path, performed: Performed) -> None:
    asked = [task(), task("tp-l1", match="macs")]
    assert run_tasks(asked, Place(tmp_path / "results.jsonl", tmp_path, None), "", lambda _: None) == 0
    assert performed.references == [None, replace(NOTHING, macs=0.1)]


def test_what_lacks_its_reference_is_named_and_left_out(tmp_path: Path, performed: Performed) -> None:
    said: list[str] = []
    place = Place(tmp_path / "results.jsonl", tmp_path, None)
    assert run_tasks([task("tp-l1", match="macs"), task("pdp")], place, "", said.append) == 1
    name = "fashion-mnist resnet8 seed 0: channel 0.5 tp-l1 at equal macs"
    fact = "there is no result of smart to compare with. Run it too, with the same results file."
    assert said[1] == f"1/2 {name}: {name}: {fact}"
    assert [result.task for result in read_results([place.out])] == [task("pdp")]


def test_commands_name_no_places_of_this_machine() -> None:
    text = command_text(["run", "--path", "/somewhere/cifar.npz", "--out", "results.jsonl"])
    assert text == "python -m benchmarks.learning run --path cifar.npz --out results.jsonl"


def synthetic() -> list[Result]:
    """Return results of two learners and a baseline, two seeds each but for one."""
    found = []
    for seed in (0, 1):
        for learner, accuracy in (("smart", 0.9), ("magnitude", 0.85)):
            shares = {"macs": 0.5, "latency": 0.4, "fractional": 0.001 * seed, "removed": 0.3 if seed else 0.5}
            outcome = Outcome(0.91 + 0.01 * seed, accuracy + 0.01 * seed, **shares, seconds=10.0 + seed)
            found.append(Result(task(learner, seed), outcome, MADE))
            found.append(Result(task(learner, seed, granularity="2:4"), outcome, MADE))
    outside = Outcome(0.91, 0.8, macs=0.51, latency=0.7, fractional=None, removed=None, seconds=20.0)
    return [*found, Result(task("tp-l1", 0, match="macs"), outside, replace(MADE, commit="def"))]


def test_page_of_synthetic_results(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    plot = page.with_name("learning-fashion-mnist-resnet8.svg")
    assert write_page(synthetic(), page) == [page, plot]
    text = page.read_text()
    expected = [
        "## Fashion-MNIST, ResNet-8",
        "Dense 91.5 ± 0.7 after 5 epochs; 2 epochs of search and fine-tuning, batches of 128, learning rate at most "
        "0.05 (before: 0.1), float32, 2 seeds, target npu-8x8.",
        "![Accuracy of Fashion-MNIST, ResNet-8 over sparsity](learning-fashion-mnist-resnet8.svg)",
        "| unit | sparsity | smart | magnitude |",
        "| channels | 50% | **90.5 ± 0.7** | 85.5 ± 0.7 |",
        "| 2:4 | 50% | **90.5 ± 0.7** | 85.5 ± 0.7 |",
        "| unit | sparsity | smart | Torch-Pruning L1 at equal MACs |",
        "| channels | 50% | **90.5 ± 0.7** | 80.0 (1 seed) |",
        "| channels | 50% | 40% removed, MACs 0.50, time 0.40 | MACs 0.51, time 0.70 |",
        "| smart | 10 | 0.10% |",
        "| Torch-Pruning L1 at equal MACs | 20 | - |",
        "python -m benchmarks.learning run",
        "smartc 0.1.0, commit abc, on cpu, smartc 0.1.0, commit def, on cpu.",
    ]
    lines = text.splitlines()
    assert [line for line in expected if line not in lines] == []
    drawing = ElementTree.fromstring(plot.read_text())
    names = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"channels", "2:4", "50%", "dense", "smart", "magnitude", "Torch-Pruning L1 at equal MACs"} <= set(names)
    circles = list(drawing.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 5 + 3
    assert all(56 <= float(circle.attrib["cy"]) <= 356 for circle in circles[:2])


def test_another_protocol_is_a_section_of_its_own(tmp_path: Path) -> None:
    other = replace(task(), protocol=replace(PROTOCOL, epochs=20))
    results = [*synthetic(), Result(other, NOTHING, MADE)]
    files = [path.name for path in write_page(results, tmp_path / "page.md")]
    assert files == ["page.md", "learning-fashion-mnist-resnet8-1.svg", "learning-fashion-mnist-resnet8-2.svg"]


def test_no_results_make_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    results.touch()
    assert main(["table", str(results), "--page", str(page)]) == 2
    assert capsys.readouterr().err == f"{page}: there are no results. Run the benchmark first.\n"


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


@pytest.mark.parametrize(("learner", "kind"), [("tp-l1", "macs"), ("tp-taylor", "latency"), ("tp-l1-uniform", "macs")])
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
