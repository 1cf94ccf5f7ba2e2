"""Mutations of archives: what they hold, with checksums that fit, and what they say about it."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_value

_Members = list[tuple[str, bytes]]
_NAMES = ("", "../x", "/x", "archive/", "archive/../../x", "a" * 5000, "archive/data.pkl", "constants.pkl", "x.npy")
_SIZES = (0, 1, 2**16, 2**31 - 1, 2**32 - 1)
# Offset and form of fields of an entry of a zip archive's directory: flags, method, checksum, sizes, place.
_FIELDS = ((8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (28, "<H"), (42, "<I"))
_EMPTY = bytes(1 << 22)


@st.composite
def mutated_archive(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a zip archive with one or two members mutated by their kind, and at times a trick of the format."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(members) - 1))
        members[place] = (members[place][0], draw(_mutated_member(members[place][1])))
    trick = draw(st.sampled_from(("none", "none", "none", "members", "directory", "bomb")))
    if trick == "members":
        members = draw(_other_members(members))
    if trick == "bomb":
        members.append((draw(st.sampled_from([name for name, _ in members])), _EMPTY))
    packed = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if trick == "bomb" or draw(st.integers(0, 7)) == 0 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
        warnings.simplefilter("ignore")  # names that are there twice
        for name, member in members:
            archive.writestr(name or "x", member)
    return draw(_other_directory(packed.getvalue())) if trick == "directory" else packed.getvalue()


@st.composite
def mutated_npy(draw: st.DrawFn, content: bytes) -> bytes:
    """Return an array of NumPy whose header says something else than it holds."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": list(array.shape)}
    if draw(st.booleans()):
        header = draw(mutated_value(header))
    else:
        header["descr"] = draw(st.sampled_from(("|O", "<c16", "|V8", "<f2", ">f4", "<U9", "|b1", "<M8[s]", "|S0")))
    if isinstance(header.get("shape"), list):
        header["shape"] = tuple(header["shape"])
    text = repr(header).encode(errors="replace") + b"\n"
    version = draw(st.sampled_from((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00")))
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text) % 2**16)
    return b"\x93NUMPY" + version + length + text + array.tobytes()


@st.composite
def mutated_safetensors(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a file of safetensors whose header says something else than it holds."""
    length = int.from_bytes(content[:8], "little")
    header = draw(mutated_json(content[8 : 8 + length]))
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


@st.composite
def _mutated_member(draw: st.DrawFn, content: bytes) -> bytes:
    """Return the content of a member, mutated as what it is."""
    if content.startswith(b"PK"):
        return draw(mutated_archive(content))
    kinds = {b"PK": mutated_archive, b"\x93N": mutated_npy, b'{"': mutated_json}
    try:
        return draw(kinds.get(content[:2], mutated_bytes)(content))
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile):  # it was mutated before
        return draw(mutated_bytes(content))


@st.composite
def _other_members(draw: st.DrawFn, members: _Members) -> _Members:
    """Return members of which one is gone, there twice, or has another name or another one's content."""
    place, other = (draw(st.integers(0, len(members) - 1)) for _ in range(2))
    kind = draw(st.sampled_from(("gone", "twice", "renamed", "swapped", "added")))
    changed = list(members)
    if kind == "gone":
        del changed[place]
    elif kind == "twice":
        changed.append((changed[place][0], draw(_mutated_member(changed[place][1]))))
    elif kind == "swapped":
        changed[place] = (changed[place][0], changed[other][1])
    else:
        changed[place : place + (kind == "renamed")] = [(draw(st.sampled_from(_NAMES)), changed[place][1])]
    return changed


@st.composite
def _other_directory(draw: st.DrawFn, content: bytes) -> bytes:
    """Return an archive one entry of whose directory lies."""
    found = bytearray(content)
    entries = [place for place in range(len(found)) if found.startswith(b"PK\x01\x02", place)]
    if not entries:
        return content
    offset, form = draw(st.sampled_from(_FIELDS))
    place = draw(st.sampled_from(entries)) + offset
    most = 2 ** (8 * struct.calcsize(form))
    value = draw(st.one_of(st.sampled_from(_SIZES), st.integers(0, most - 1))) % most
    found[place : place + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(found)
