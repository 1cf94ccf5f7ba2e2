"""Running tasks one after another, those that are done left out."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import smartc
from benchmarks.learning.dense import dense_network
from benchmarks.learning.images import read_data
from benchmarks.learning.perform import Bench, perform
from benchmarks.learning.results import Outcome, Provenance, Result, append_result, read_results
from benchmarks.learning.tasks import Protocol, Task
from smartc.core.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where things are.

    Attributes:
        out: The results file.
        cache: The folder of dense networks.
        data: Where the images are, or None for where they usually are.
        device: On what to train.
    """

    out: Path
    cache: Path
    data: Path | None
    device: str = "cpu"


def run_tasks(asked: Sequence[Task], place: Place, command: str, say: Callable[[str], object]) -> int:
    """Do what is not done yet, a line of the results file for each.

    Args:
        asked: The tasks, all on the same images; what others are matched to comes first.
        place: Where things are.
        command: What to note in each line.
        say: Takes a line of progress.

    Returns:
        How many could not be done.

    Raises:
        UserError: Data or results cannot be read.
    """
    found = read_results([place.out]) if place.out.exists() else []
    done: dict[Task, Outcome] = {result.task: result.outcome for result in found}
    left = [task for task in asked if task not in done]
    say(f"{len(asked)} tasks, {len(asked) - len(left)} of them done")
    bench: Bench | None = None
    provenance = Provenance(smartc.__version__, commit(), command, _device_name(place.device))
    failed = 0
    for number, task in enumerate(left, start=1):
        if bench is None or number == 1 or _network(task) != _network(left[number - 2]):
            bench = _bench(task, place, bench)
        try:
            outcome = perform(task, bench, _reference(task, done))
        except UserError as error:
            failed += 1
            say(f"{number}/{len(left)} {task}: {error}")
            continue
        append_result(place.out, Result(task, outcome, provenance))
        done[task] = outcome
        say(f"{number}/{len(left)} {task}: {_figures(outcome)}")
    return failed


def _figures(outcome: Outcome) -> str:
    """Return an outcome in a few words."""
    accuracies = f"{outcome.dense_accuracy:.2%} to {outcome.accuracy:.2%}"
    return f"{accuracies}, MACs {outcome.macs:.2f}, time {outcome.latency:.2f}, {outcome.seconds:.0f} CPU s"


def _network(task: Task) -> tuple[Protocol, int]:
    """Return what tells the dense network of a task."""
    return task.protocol, task.seed


def _bench(task: Task, place: Place, last: Bench | None) -> Bench:
    """Return the data, which may be those of the last network, and the dense network."""
    protocol = task.protocol
    data = read_data(protocol.data, place.data).first(protocol.images or None) if last is None else last.data
    return Bench(data, dense_network(place.cache, protocol, data, task.seed, place.device), place.device)


def _reference(task: Task, done: dict[Task, Outcome]) -> Outcome | None:
    """Return what came of the task whose cost this one is to meet.

    Raises:
        UserError: It is not done.
    """
    if task.match == "sparsity":
        return None
    if task.reference not in done:
        fix = "Run it too, with the same results file"
        raise UserError("there is no result of smart to compare with", where=str(task), fix=fix)
    return done[task.reference]


def commit() -> str:
    """Return the commit of the source and whether files of it were changed; ``unknown`` outside a repository."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
    except OSError:
        return "unknown"
    if head.returncode:
        return "unknown"
    return head.stdout.strip() + (" with changes" if changes.stdout.strip() else "")


def command_text(arguments: Sequence[str]) -> str:
    """Return the command of these arguments; of places only the names, since those of another machine say nothing."""
    shown = [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]
    return shlex.join(["python", "-m", "benchmarks.learning", *shown])


def _device_name(device: str) -> str:
    """Return what trains."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
