"""Look for code, and for sizes without bytes, in an exported program before torch loads it.

``torch.export.load`` unpickles whatever an archive holds, evaluates its size expressions, imports what its
trees of inputs and outputs name and builds Python source from its names.  An archive that
``torch.export.save`` made from an ordinary model needs none of that: its pickles hold tensors only, its
trees are containers that torch knows, and its names and expressions have a plain grammar.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

import torch

from smartc.frontend.size_expression import is_size_expression
from smartc.frontend.stored_sizes import declared_too_much
from smartc.frontend.tree_spec import is_tree_spec

_PICKLED_OBJECTS = ("data/constants/custom_obj", "data/constants/opaque_obj", "data/aotinductor/")
_WORD = re.compile(r"\w*", re.ASCII)
_PARAMETER = re.compile(r"[^\"'\\\n\r]*")
_OPERATOR = re.compile(
    r"torch\.ops\.[a-z]\w*\.\w+(\.\w+)?|torch\.(_sym_|sym_)\w+|math\.[a-z]\w*|_operator\.[a-z]\w*", re.ASCII
)
# Of all names with two underscores, ATen's own: what Python's &, |, ^, << and >> call.
_BITWISE = re.compile(r"^torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\b")
_CALLS_ANYTHING = ("_operator.call", "_operator.attrgetter", "_operator.methodcaller")


def find_code(archive: IO[bytes]) -> str | None:
    """Return the part of an archive of ``torch.export.save`` that could run code when loaded, or None.

    The archive is read by torch's own reader, so that what is checked is what will be loaded.

    Raises:
        RuntimeError: It is damaged.
        ValueError: One of its descriptions is not JSON.
    """
    archive.seek(0)
    reader = torch._C.PyTorchFileReader(archive)
    records: list[str] = reader.get_all_records()
    for record in records:
        if record.startswith(_PICKLED_OBJECTS):
            return f"the object {record}"
    for record in _pickles(reader, records):
        if not _holds_tensors_only(reader.get_record(record)):
            return f"the pickle {record}"
    for record in records:
        if record.startswith("models/"):
            texts = list(_unsafe_texts(json.loads(reader.get_record(record))))
            if texts:
                return f"the text {texts[0][:60]!r} in {record}"
    return None


def _pickles(reader: Any, records: list[str]) -> Iterator[str]:
    """Yield the records that torch would unpickle."""
    for record in records:
        if record.endswith(".pt"):
            yield record
        elif record.endswith("_config.json"):
            entries = json.loads(reader.get_record(record))["config"].values()
            folder = record.rpartition("/")[0]
            yield from (f"{folder}/{entry['path_name']}" for entry in entries if entry.get("use_pickle"))


def _holds_tensors_only(content: bytes) -> bool:
    """Return whether torch's restricted unpickler takes it."""
    if not content:
        return True
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        return False
    return True


def _unsafe_texts(value: Any, key: str = "") -> Iterator[str]:
    """Yield the texts that could end up in Python source and do not have the plain form of their kind."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name != "metadata":  # line numbers and the like, which are carried along and never run
                yield from _unsafe_texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _unsafe_texts(item, key)
    elif isinstance(value, str) and not _is_plain(key, value):
        yield value


def _is_plain(key: str, text: str) -> bool:
    """Return whether a text has the form that its key asks for."""
    if key in ("name", "as_name", "forward_arg_names"):
        return bool(_WORD.fullmatch(text))
    if key.endswith("_name"):
        return bool(_PARAMETER.fullmatch(text))
    if key in ("target", "as_operator"):
        return bool(_OPERATOR.fullmatch(text)) and "__" not in _BITWISE.sub("", text) and text not in _CALLS_ANYTHING
    if key == "expr_str":
        return is_size_expression(text)
    if key.endswith("_spec"):
        return is_tree_spec(text) and (key != "in_spec" or all(map(_WORD.fullmatch, _keyword_names(text))))
    return True


def _keyword_names(in_spec: str) -> list[str]:
    """Return the names of keyword arguments in a serialised tree of inputs; a wrong one where it has another form."""
    children = json.loads(in_spec)[1]["children_spec"]
    names = json.loads(children[1]["context"]) if len(children) > 1 else []
    return [str(name) for name in names] if isinstance(names, list) else ["-"]


def find_unbacked(archive: IO[bytes]) -> str | None:
    """Return the first record of an archive that declares more memory than it has bytes for, or None.

    Raises:
        RuntimeError: It is damaged.
        ValueError: One of its descriptions is not JSON.
    """
    archive.seek(0)
    reader = torch._C.PyTorchFileReader(archive)
    for record in reader.get_all_records():
        if record.endswith("_config.json"):
            folder = record.rpartition("/")[0]
            for name, entry in json.loads(reader.get_record(record))["config"].items():
                stored = reader.get_record_size(f"{folder}/{entry['path_name']}")
                if not entry.get("use_pickle") and declared_too_much(entry["tensor_meta"], stored):
                    return str(name)
    return None
