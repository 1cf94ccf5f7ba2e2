"""Look for code in an exported program before torch loads it.

``torch.export.load`` unpickles whatever an archive holds, evaluates its size expressions and builds
Python source from its names.  An archive that ``torch.export.save`` made from an ordinary model needs
none of that: its pickles hold tensors only, and its names and expressions have a plain grammar.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any

import torch

_PICKLED_OBJECTS = ("data/constants/custom_obj", "data/constants/opaque_obj", "data/aotinductor/")
_WORD = re.compile(r"\w*", re.ASCII)
_PARAMETER = re.compile(r"[^\"'\\\n\r]*")
_OPERATOR = re.compile(
    r"torch\.ops\.[a-z]\w*\.\w+(\.\w+)?|torch\.(_sym_|sym_)\w+|math\.[a-z]\w*|_operator\.[a-z]\w*", re.ASCII
)
_CALLS_ANYTHING = ("_operator.call", "_operator.attrgetter", "_operator.methodcaller")
# Symbols such as s0, functions such as Mod, and Symbol('s0', integer=True); any other name in lower case
# could be one of Python's own functions.
_SIZE = re.compile(
    r"\s|[-+*/%(),<>=~&|]|\d+(?:\.\d+)?(?:e[-+]?\d+)?|'\w+'|\b[a-z]{1,4}\d+\b|\b[a-z]+=(?:True|False)\b"
    r"|\b[A-Z]\w*|\b(?:int_)?oo\b",
    re.ASCII,
)


def find_code(archive: IO[bytes]) -> str | None:
    """Return what in an archive of ``torch.export.save`` could run code when loaded, or None.

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
        return bool(_OPERATOR.fullmatch(text)) and "__" not in text and text not in _CALLS_ANYTHING
    if key == "expr_str":
        return not _SIZE.sub("", text) and "__" not in text
    if key == "in_spec":
        return all(_WORD.fullmatch(name) for name in _keyword_names(text))
    return True


def _keyword_names(in_spec: str) -> list[str]:
    """Return the names of keyword arguments in a serialised tree of inputs."""
    children = json.loads(in_spec)[1]["children_spec"]
    return [str(name) for name in json.loads(children[1]["context"])] if len(children) > 1 else []
