"""An ONNX model in its files: one, or two where protobuf cannot hold the weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from smartc.lowering.to_onnx import DATA_FILE, OnnxSession, check_onnx, take_weights

MODEL_FILE = "model.onnx"


@dataclass(frozen=True, eq=False)
class OnnxFiles:
    """What an ONNX model is written as, and what runs it.

    Attributes:
        run: Computes its outputs from flattened inputs.
        write: Writes it to a path, and its weights beside it where these are apart.
        content: The whole file, None where weights are apart.
    """

    run: Callable[[tuple[Any, ...]], Any]
    write: Callable[[Path], None]
    content: bytes | None


def onnx_files(model: Any, name: str) -> OnnxFiles:
    """Return the files of an ONNX model.

    Args:
        model: An ``onnx.ModelProto``; weights that are too large for one file are taken out of it.
        name: What errors call it.

    Raises:
        UserError: ONNX Runtime has no kernel for an operator.
    """
    weights = take_weights(model)
    if weights is None:
        content: bytes = model.SerializeToString()
        return OnnxFiles(OnnxSession(content, name).run, lambda path: _write(path, content), content)
    folder = TemporaryDirectory(prefix="smartc-")
    place = Path(folder.name)
    with (place / DATA_FILE).open("wb") as stream:
        stream.writelines(weights)
    (place / MODEL_FILE).write_bytes(model.SerializeToString())
    check_onnx(place / MODEL_FILE)
    session = OnnxSession(str(place / MODEL_FILE), name)

    def write(path: Path) -> None:
        """Copy both files; the folder that they are in lives as long as this function."""
        shutil.copyfile(Path(folder.name, DATA_FILE), path.with_name(DATA_FILE))
        shutil.copyfile(Path(folder.name, MODEL_FILE), path)

    return OnnxFiles(session.run, write, None)


def _write(path: Path, content: bytes) -> None:
    """Write a binary file."""
    path.write_bytes(content)
