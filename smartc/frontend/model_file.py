"""Model files: recognised by their content, loaded without running code unless the user allows it."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from smartc.core.brief import readable
from smartc.core.errors import OWN_CODE_FAILURES, Argument, UserError, first_line
from smartc.core.quiet import quiet
from smartc.core.regular_file import open_regular
from smartc.frontend.capture import from_program, trace
from smartc.frontend.exported_archive import find_code, find_unbacked
from smartc.frontend.file_kind import SAVE_AGAIN, Kind, recognise
from smartc.frontend.input_option import check_agrees, example_inputs, parse_input
from smartc.frontend.model_state import build_module, refuse_factory
from smartc.frontend.stored_sizes import without_bytes
from smartc.ir.traced_model import TracedModel

_HASH_BLOCK = 1 << 20
_REFUSED = re.compile(r"(?:[Uu]nsupported (?:global: )?GLOBAL|Unsupported class) ([\w.]+)")


def load_model(
    path: str | Path,
    *,
    factory: str | None = None,
    input_shapes: Sequence[str] = (),
    allow_pickle: bool = False,
) -> TracedModel:
    """Load a model file and capture it.

    Args:
        path: An exported program, a ``state_dict`` (of torch or safetensors), or a pickled module.
        factory: For a ``state_dict``: ``package.module:name`` of what builds the module, without arguments.
        input_shapes: For each input a text such as ``1x3x224x224`` or ``ids=int64:1x128``; an exported
            program needs none.
        allow_pickle: Whether the file may run code when it is loaded.

    Raises:
        UserError: The file cannot be read or is none of these, or it does not fit the other arguments.
    """
    file = Path(path)
    options = [parse_input(text) for text in input_shapes]
    with _opened(file) as stream:
        kind = recognise(stream, file)
        if kind == "program":
            refuse_factory(factory, file, "an exported program")
            model = _load_program(stream, file, allow_pickle)
            if options:
                check_agrees(options, model.inputs)
            return model
        content = _load_content(stream, file, kind, allow_pickle)
    module, remarks = build_module(content, file, factory)
    if not options:
        fix = ("Give the shape of each input, as in ", Argument("input_shapes", ("1x3x224x224",)))
        raise UserError("it does not say which inputs the model takes", where=str(file), fix=fix)
    kinds = (tensor.dtype for tensor in module.parameters() if tensor.is_floating_point())
    traced = trace(module, example_inputs(options, next(kinds, torch.float32)))
    return replace(traced, name=readable(file.name), remarks=(*remarks, *traced.remarks))


def load_module(path: str | Path, factory: str, *, allow_pickle: bool = False) -> nn.Module:
    """Return the module that a factory makes, with the weights of a file.

    Args:
        path: A ``state_dict``, of torch or safetensors.
        factory: ``package.module:name`` of what builds the module, without arguments.
        allow_pickle: Whether the file may run code when it is loaded.

    Raises:
        UserError: The file cannot be read, is no ``state_dict``, or does not fit the module.
    """
    file = Path(path)
    with _opened(file) as stream:
        kind = recognise(stream, file)
        if kind == "program":
            refuse_factory(factory, file, "an exported program")
        return build_module(_load_content(stream, file, kind, allow_pickle), file, factory)[0]


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        UserError: It cannot be read.
    """
    digest = hashlib.sha256()
    with _opened(Path(path)) as stream:
        while block := stream.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file to read, or say why that is not possible."""
    try:
        stream = open_regular(file)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=str(file), fix="Check the path") from error
    except IsADirectoryError as error:
        raise UserError("it is a folder", where=str(file), fix="Name a model file") from error
    except OSError as error:
        fact = f"it cannot be read ({error.strerror})"
        raise UserError(fact, where=str(file), fix="Make it readable") from error
    with stream:
        yield stream


def _load_program(stream: IO[bytes], file: Path, allow_pickle: bool) -> TracedModel:
    """Load what ``torch.export.save`` wrote."""
    code, program = None, None
    try:
        unbacked = find_unbacked(stream)
        if unbacked is not None:
            raise _without_bytes(file, unbacked)
        if not allow_pickle:
            code = find_code(stream)
        if code is None:
            stream.seek(0)
            with quiet():
                program = torch.export.load(stream)
    except UserError:
        raise
    except Exception as error:
        fact = f"torch {torch.__version__} cannot load this exported program: {first_line(error)}"
        raise UserError(fact, where=str(file), fix=SAVE_AGAIN) from error
    if program is None:
        raise _may_run_code(file, str(code))
    if any(map(without_bytes, pytree.tree_leaves(program.example_inputs))):
        raise _without_bytes(file, "an example input")
    return from_program(program, readable(file.name))


def _load_content(stream: IO[bytes], file: Path, kind: Kind, allow_pickle: bool) -> Any:
    """Load a state_dict or a module."""
    if kind == "pickle" and not allow_pickle:
        raise _may_run_code(file, "a pickle")
    try:
        with quiet():
            return _read_content(stream, file, kind, allow_pickle)
    except (ImportError, AttributeError) as error:
        fix = "Run smartc in the folder that holds the model's code, or set PYTHONPATH"
        raise UserError(f"it needs code that is not here: {error}", where=str(file), fix=fix) from error
    except OWN_CODE_FAILURES as error:
        if found := _REFUSED.search(str(error)):
            raise _may_run_code(file, f"a pickled {found[1]}") from error
        if isinstance(error, pickle.UnpicklingError) and _is_sound_pickle(stream):
            raise _may_run_code(file, "a pickle") from error
        fix = "Copy or download it again"
        raise UserError("it is truncated or damaged", where=str(file), fix=fix) from error


def _read_content(stream: IO[bytes], file: Path, kind: Kind, allow_pickle: bool) -> Any:
    """Read a file with what suits its kind."""
    if kind == "safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    if kind == "pickle":
        return pickle.load(stream)
    return torch.load(stream, map_location="cpu", weights_only=not allow_pickle)


def _is_sound_pickle(stream: IO[bytes]) -> bool:
    """Return whether a pickle that torch's restricted unpickler refused is whole; it is not run."""
    try:
        stream.seek(0)
        record: bytes = torch._C.PyTorchFileReader(stream).get_record("data.pkl")
        return bool(list(pickletools.genops(record)))
    except (RuntimeError, ValueError):
        return False


def _without_bytes(file: Path, name: str) -> UserError:
    """Return the error for a file that declares more than it holds."""
    fact = f"it declares more elements for {name} than it holds bytes for"
    return UserError(fact, where=str(file), fix="Copy or download it again, or save the model again")


def _may_run_code(file: Path, what: str) -> UserError:
    """Return the error for a file that is loaded only where ``allow_pickle`` is true."""
    asked = "if you trust its source, or ask for an exported program or a state_dict"
    fix = ("Pass ", Argument("allow_pickle", True), f" {asked}")
    return UserError(f"it holds {what}, which can run code when it is loaded", where=str(file), fix=fix)
