"""The results file: a line of JSON per task, appended whole, so that a run that was stopped can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.learning.tasks import Protocol, Task
from smartc.core.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Attributes:
        dense_accuracy: Of the network before, 0 to 1.
        accuracy: Of the compiled network.
        macs: Multiplications by weights that are not zero, as a share of the network's before.
        latency: Simulated time on the target, as a share of the network's before.
        fractional: The largest share of masks that was neither kept nor removed when the search ended; None
            where masks are never soft.
        removed: The share of the units that is gone, which whole tiles may keep from what was asked; None for
            Torch-Pruning, whose ratio means nothing beside it.
        seconds: Processor seconds of search, fine-tuning and compilation.
    """

    dense_accuracy: float
    accuracy: float
    macs: float
    latency: float
    fractional: float | None
    removed: float | None
    seconds: float


@dataclass(frozen=True)
class Provenance:
    """What made a line: the version of smartc, the commit, the command, the processor."""

    smartc: str
    commit: str
    command: str
    device: str


@dataclass(frozen=True)
class Result:
    """One line of the file."""

    task: Task
    outcome: Outcome
    provenance: Provenance

    def line(self) -> str:
        """Return the line."""
        content = {**self.task.settings, **asdict(self.outcome), **asdict(self.provenance)}
        return json.dumps(content, allow_nan=False) + "\n"

    @staticmethod
    def from_line(line: str) -> Result:
        """Read a line.

        Raises:
            ValueError: It is none of ours.
        """
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        parts = {kind: _part(kind, content) for kind in (Protocol, Outcome, Provenance)}
        task = Task(parts[Protocol], **{key: _value(content, key) for key in _TASK_KEYS})
        return Result(task, parts[Outcome], parts[Provenance])


_TASK_KEYS = tuple(field.name for field in fields(Task) if field.name != "protocol")


def _part(kind: type[Any], content: dict[str, Any]) -> Any:
    """Return the part of a line that a dataclass holds."""
    return kind(**{field.name: _value(content, field.name) for field in fields(kind)})


def _value(content: dict[str, Any], key: str) -> Any:
    """Return the value of a key."""
    if key not in content:
        raise ValueError(f"{key} is missing")
    return content[key]


def read_results(paths: Iterable[Path]) -> list[Result]:
    """Return all results of some files; a last line without its end was cut off and does not count.

    Raises:
        UserError: A file cannot be read, or holds another line.
    """
    results: list[Result] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"it cannot be read: {error}", where=str(path), fix="Give a results file") from error
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            try:
                results.append(Result.from_line(line))
            except ValueError as error:
                if line.endswith("\n"):
                    fix = "Remove the line, or give another file"
                    raise UserError(f"is no result: {error}", where=f"{path}, line {number}", fix=fix) from error
    return results


def append_result(path: Path, result: Result) -> None:
    """Append a line in one write, after removing what a killed run left of its last one.

    Several processes may append to one file, unless it ends in such a rest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_rest(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, result.line().encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_rest(path: Path) -> None:
    """Cut off a last line that has no end."""
    if path.exists():
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
