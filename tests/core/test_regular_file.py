"""Only ordinary files are opened, whoever reads them: a pipe, a socket or a device is refused and never waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartc.artifact.manifest import read_manifest
from smartc.core.errors import UserError
from smartc.core.regular_file import open_regular, read_json
from smartc.data.labelled import load_labelled
from smartc.data.samples import load_samples
from smartc.decision.plan_form import read_plan
from smartc.frontend.model_file import load_model
from smartc.results.report import Report
from smartc.targets.target import load_target
from tests.support.sample_networks import images

FIX = "Give an ordinary file, and write to one what else would come from there."
READERS: dict[str, Callable[[Path], Any]] = {
    "plan.json": read_plan,
    "report.json": Report.load,
    "manifest.json": lambda path: read_manifest(path.parent),
    "model.pt2": load_model,
    "data.npz": lambda path: load_samples(str(path), images()),
    "labelled.npz": lambda path: load_labelled(str(path)),
    "images/a.png": lambda path: load_samples(str(path.parent), images(), "unit"),
    "target.toml": lambda path: load_target(str(path)),
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(UserError) as caught:
        READERS[name](path)
    assert str(caught.value) == f"{path}: it is a named pipe and no ordinary file. {FIX}"


def test_a_socket_and_a_device_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(str(path))
        for one, what in ((path, "a socket"), (Path("/dev/zero"), "a device")):
            with pytest.raises(UserError, match=f"it is {what} and no ordinary file"):
                open_regular(one)


def test_a_link_to_an_ordinary_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"x"
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 200_000, b"{", b"\xff\xfe", b"1" * 10_000, b""])
def test_what_is_no_json_of_bounded_depth_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(path, "Restore it")
    assert str(caught.value) == f"{path}: it is not JSON. Restore it."
