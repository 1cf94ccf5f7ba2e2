"""A file that is no model is refused by its content, in one clear line."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.small_networks import Refusal

SMALL = "tests.support.small_networks:small"
INPUT = ("1x3x8x8",)
SAVE_AGAIN = "Save the model again, by torch.export.save(torch.export.export(model, inputs), path)."
COPY = "Copy or download it again."


def _cut(name: str, length: float) -> Callable[[Path], bytes]:
    """Return what reads the first part of a file."""

    def read(model_files: Path) -> bytes:
        content = (model_files / name).read_bytes()
        return content[: int(len(content) * length)]

    return read


def _zip(model_files: Path) -> bytes:
    """Return an archive that has nothing to do with torch."""
    with zipfile.ZipFile(model_files / "other.zip", "w") as archive:
        archive.writestr("letter.txt", "hello")
    return (model_files / "other.zip").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f"it is empty. {SAVE_AGAIN}"),
        (b"import torch\n", f"it is text, which is no model file. {SAVE_AGAIN}"),
        (b"\xde\xad\xbe\xef" * 99, f"it begins with de ad be ef, which is no model file. {SAVE_AGAIN}"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "it is a pointer of Git LFS and not the file itself. Fetch the file itself, by git lfs pull.",
        ),
        (_cut("program.pt", 0.5), f"it is truncated or damaged. {COPY}"),
        (_cut("program.pt", 0.999), f"it is truncated or damaged. {COPY}"),
        (_cut("state.pt", 0.5), f"it is truncated or damaged. {COPY}"),
        (_cut("legacy.pt", 0.5), f"it is truncated or damaged. {COPY}"),
        (_cut("state.safetensors", 0.9), f"it is truncated or damaged. {COPY}"),
        (_cut("state.safetensors", 0.02), f"it is truncated. {COPY}"),
        (_zip, f"it is a zip archive that torch did not write. {SAVE_AGAIN}"),
    ],
)
def test_what_is_no_model(refuse: Refusal, content: bytes | Callable[[Path], bytes], message: str) -> None:
    data = content if isinstance(content, bytes) else content(refuse.folder)
    (refuse.folder / "bad.pt").write_bytes(data)
    assert refuse("bad.pt", factory=SMALL, input_shapes=INPUT) == f"bad.pt: {message}"
