"""An artifact is written whole or not at all, replaces only its own kind, and notices changed files."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smartc import __version__
from smartc.artifact import atomic_folder as swap_folder
from smartc.artifact.write import check_files, check_writable, read_manifest, write_artifact
from smartc.core.errors import UserError

AGAIN = "Compile the model again."
NAME_ONE = "Name a folder that smartc compile wrote."


def _text(text: str) -> Callable[[Path], None]:
    """Return a writer of a text."""

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    return write


def _refused(action: Callable[..., Any], *arguments: Any) -> str:
    """Return the message of the refusal."""
    with pytest.raises(UserError) as caught:
        action(*arguments)
    return str(caught.value)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """Write an artifact of two files."""
    folder = tmp_path / "build"
    write_artifact(folder, {"a.txt": _text("abc"), "b.txt": _text("")}, {"target": "npu-8x8"})
    return folder


@pytest.fixture(params=["exchange", "rename"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace folders by either of the two ways."""
    if request.param == "rename":
        monkeypatch.setattr(swap_folder, "exchange", lambda *_: False)
    return str(request.param)


def test_manifest(build: Path) -> None:
    hashes = {
        "a.txt": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "b.txt": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    assert read_manifest(build) == {
        "schema": 1,
        "smartc": __version__,
        "target": "npu-8x8",
        "files": {name: {"sha256": hashes[name], "bytes": 3 * (name == "a.txt")} for name in hashes},
    }
    check_files(build)


@pytest.mark.usefixtures("way")
def test_replacing_leaves_nothing_behind(build: Path) -> None:
    write_artifact(build, {"c.txt": _text("new")}, {})
    assert sorted(path.name for path in build.iterdir()) == ["c.txt", "manifest.json"]
    assert [path.name for path in build.parent.iterdir()] == ["build"]


def test_parents_are_made_and_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "a" / "b" / "build", tmp_path / "empty"):
        check_writable(folder)
        write_artifact(folder, {"a.txt": _text("abc")}, {})
        check_files(folder)
    assert not (tmp_path / "a" / "b" / ".build").exists()


def test_a_link_stays_a_link(build: Path) -> None:
    link = build.parent / "link"
    link.symlink_to(build)
    write_artifact(link, {"a.txt": _text("new")}, {})
    assert link.is_symlink()
    assert (build / "a.txt").read_text() == "new"


@pytest.mark.usefixtures("way")
def test_what_fails_leaves_the_old_folder(build: Path) -> None:
    def fail(_: Path) -> None:
        raise ValueError("a fault of the writer")

    with pytest.raises(ValueError, match="a fault of the writer"):
        write_artifact(build, {"a.txt": _text("new"), "b.txt": fail}, {})
    check_files(build)
    assert (build / "a.txt").read_text() == "abc"
    assert [path.name for path in build.parent.iterdir()] == ["build"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "it is missing"),
        (lambda file: file.write_text("ab"), "it is truncated: 2 of 3 bytes"),
        (lambda file: file.write_text("abd"), "it was changed after it was written"),
        (lambda file: file.write_text("abcd"), "it was changed after it was written"),
    ],
)
def test_changed_files(build: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(build / "a.txt")
    assert _refused(check_files, build) == f"{build}/a.txt: {message}. {AGAIN}"
    check_files(build, "b.txt")
    check_writable(build)


def test_a_file_that_is_not_listed(build: Path) -> None:
    message = f"{build}/c.txt: it is not part of this artifact. {AGAIN}"
    assert _refused(check_files, build, "c.txt") == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", f"it is not JSON. {AGAIN}"),
        ("[1]", f"smartc did not write it. {NAME_ONE}"),
        ('{"schema": 1}', f"smartc did not write it. {NAME_ONE}"),
        (
            '{"smartc": "9", "schema": 2}',
            "its schema is 2 and this version reads 1. Use the version of smartc that wrote it.",
        ),
        ('{"smartc": "9", "schema": 1}', f"its list of files is damaged. {AGAIN}"),
        (
            json.dumps({"smartc": "9", "schema": 1, "files": {"../../etc/passwd": {"sha256": "0", "bytes": 1}}}),
            f"its list of files is damaged. {AGAIN}",
        ),
    ],
)
def test_damaged_manifests(build: Path, content: str, message: str) -> None:
    (build / "manifest.json").write_text(content)
    assert _refused(read_manifest, build) == f"{build}/manifest.json: {message}"


def test_what_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "other").mkdir()
    for name, fact in (
        ("nowhere", "there is no such folder"),
        ("file", "it is not a folder"),
        ("other", "it has no manifest.json"),
    ):
        assert _refused(read_manifest, tmp_path / name) == f"{tmp_path / name}: {fact}. {NAME_ONE}"


@pytest.mark.parametrize("action", [check_writable, lambda folder: write_artifact(folder, {}, {})])
def test_what_is_not_ours_is_left_alone(build: Path, action: Callable[[Path], None]) -> None:
    other = build.parent / "thesis"
    other.mkdir()
    (other / "chapter1.tex").write_text("once")
    file = build.parent / "letter"
    file.write_text("dear")
    (build / "notes.txt").write_text("mine")
    assert _refused(action, other) == (
        f"{other}: it exists, is not empty and was not written by smartc. Choose another folder."
    )
    assert _refused(action, file) == f"{file}: it exists and is not a folder. Choose another folder."
    assert _refused(action, build) == (
        f"{build}: it would be replaced, and it holds notes.txt, which smartc did not write there. "
        "Move it away, or choose another folder."
    )
    assert (other / "chapter1.tex").read_text() == "once"
    assert (build / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in build.parent.iterdir()) == ["build", "letter", "thesis"]


def test_places_where_nothing_can_be_written(build: Path) -> None:
    for folder, reason in (
        (build / "a.txt" / "build", "Not a directory"),
        (build.parent / ("x" * 300), "File name too long"),
        (Path("/proc/build"), "No such file or directory"),
    ):
        assert _refused(check_writable, folder) == (
            f"{folder}: it cannot be written ({reason}). Choose another folder, or allow writing there."
        )


def test_a_mount_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    assert _refused(check_writable, tmp_path) == (
        f"{tmp_path}: it is a mount point, which cannot be replaced. "
        f"Choose a folder inside it, such as {tmp_path / 'build'}."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_parent(build: Path) -> None:
    build.parent.chmod(0o555)
    message = _refused(check_writable, build)
    build.parent.chmod(0o755)
    assert message == (
        f"{build}: it cannot be written (Permission denied). Choose another folder, or allow writing there."
    )


def _library(error: Exception, cause: Exception | None = None) -> Callable[[Path], None]:
    """Return a writer that fails as a library does."""

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error from cause

    return write


@pytest.mark.parametrize(
    "write",
    [
        _library(OSError(errno.ENOSPC, "No space left on device")),
        _library(RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")),
        _library(UserError("it cannot be written", where="x", fix="y"), OSError(errno.ENOSPC, "No space")),
    ],
)
def test_a_full_disk(build: Path, write: Callable[[Path], None]) -> None:
    assert _refused(write_artifact, build, {"a.txt": write}, {}) == (
        f"{build}: it cannot be written (No space left on device). Choose another folder, or free some space."
    )
    check_files(build)
    assert [path.name for path in build.parent.iterdir()] == ["build"]


def test_a_limit_on_the_size_of_files(build: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        messages = [_refused(check_writable, build)]
        messages.append(_refused(write_artifact, build, {"a.txt": _text("x" * 5000)}, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = f"{build}: it cannot be written (File too large). Choose another folder, or allow writing there."
    assert messages == [message] * 2
    check_files(build)


def test_several_at_a_time(build: Path) -> None:
    """Each thread writes two files of one text; the last one wins as a whole."""

    def write(text: str) -> None:
        write_artifact(build, {"a.txt": _text(text), "b.txt": _text(text)}, {})

    texts = [str(number) for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, texts))
    check_files(build)
    assert (build / "a.txt").read_text() == (build / "b.txt").read_text() in texts
    assert [path.name for path in build.parent.iterdir()] == ["build"]
