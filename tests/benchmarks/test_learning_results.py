"""The results of the learners' benchmark: what is run again and what not, and the page made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.learning import runner
from benchmarks.learning.__main__ import main
from benchmarks.learning.page import write_page
from benchmarks.learning.perform import Bench
from benchmarks.learning.results import Outcome, Provenance, Result, append_result, read_results
from benchmarks.learning.runner import Place, command_text, run_tasks
from benchmarks.learning.tasks import Protocol, Task
from smartc.core.errors import UserError

PROTOCOL = Protocol("fashion-mnist", "resnet8", epochs=2, dense_epochs=5)
MADE = Provenance("0.1.0", "abc", "python -m benchmarks.learning run", "cpu")
NOTHING = Outcome(0.9, 0.8, macs=0.5, latency=0.6, fractional=0.0, removed=0.5, seconds=10.0)


def task(learner: str = "smart", seed: int = 0, match: str = "sparsity", granularity: str = "channel") -> Task:
    """Return a task at 50 %."""
    return Task(PROTOCOL, granularity, 0.5, learner, match, seed)


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


def test_other_dense_networks_of_a_seed_are_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other = Result(task("pdp"), replace(NOTHING, dense_accuracy=0.904), MADE)
    write_page([Result(task(), NOTHING, MADE), other], page)
    assert "Dense 90.2 ± 0.3 after 5 epochs, of one seed up to 0.4 apart on different machines; " in page.read_text()


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
