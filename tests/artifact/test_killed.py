"""Killed at any moment, a write leaves the old folder or the new one, complete."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smartc.artifact.write import check_files, read_manifest, write_artifact

pytestmark = pytest.mark.slow

KILLS = 20
LONGEST = 0.05

# Writes generation after generation, each as three files of which each takes a while.
SCRIPT = """
import sys, time
from pathlib import Path
from smartc.artifact import atomic_folder
from smartc.artifact.write import write_artifact

folder, first, way = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if way == "rename":
    atomic_folder.exchange = lambda *_: False

def write(path):
    with path.open("w") as file:
        for _ in range(4):
            file.write(f"{generation} ")
            file.flush()
            time.sleep(0.0005)

print("ready", flush=True)
for generation in range(first, first + 10_000):
    write_artifact(folder, {name: write for name in ("a.txt", "b.txt", "c.txt")}, {"generation": generation})
"""


def _killed(folder: Path, first: int, way: str, delay: float) -> None:
    """Start writing and kill it after a while."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(first), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.kill()


def _generation(folder: Path) -> int:
    """Return which generation a folder is, after checking that it is one and whole."""
    check_files(folder)
    generation = int(read_manifest(folder)["generation"])
    for name in ("a.txt", "b.txt", "c.txt"):
        assert (folder / name).read_text() == f"{generation} " * 4
    return generation


@pytest.mark.parametrize("way", ["exchange", "rename"])
def test_old_or_new(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "build"
    moments = random.Random(0)
    latest = -1
    for kill in range(KILLS):
        first = (kill + 1) * 10_000
        _killed(folder, first, way, moments.uniform(0, LONGEST))
        if latest == -1 and not any(tmp_path.glob("build/*")):
            continue  # killed before the first was complete: there is no folder
        now = _generation(folder)
        assert now == latest or now >= first
        latest = now
    assert latest >= 10_000
    write_artifact(folder, {"a.txt": lambda path: path.touch()}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_a_folder_renamed_away_is_put_back(tmp_path: Path) -> None:
    """What a kill between the two renames leaves, where folders cannot be exchanged."""
    folder = tmp_path / "build"
    write_artifact(folder, {"a.txt": lambda path: path.touch()}, {"generation": 1})
    folder.rename(tmp_path / ".build.4711.0123abcd.old")
    (tmp_path / ".build.4711.0123abcd").mkdir()
    assert read_manifest(folder)["generation"] == 1
