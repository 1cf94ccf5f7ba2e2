"""Every key of a target description: how a missing, unknown or unusable one is refused."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import pytest

from smartc.core.errors import UserError
from smartc.ir.operators.table import families
from smartc.targets.target import Target, load_target

SIZE = "a whole number from 1 to 65536"
COUNT = "a whole number from 0 to 65536"
BITS = "a whole number from 1 to 64"
BYTES = "a whole number from 0 to 1125899906842624"
RATE = "a number from 1e-06 to 1e+09"
SHARE = "a number from 0.001 to 1"
FLAG = "true or false"
LINE = "a text of one line"
# What each key must hold, as its errors say.
EXPECTED = {
    "target.name": "a name of letters, digits and -_.",
    "target.kind": "one of npu, cpu",
    "target.provenance": "one of generic, vendor-model, calibrated, measured",
    "array.rows": SIZE,
    "array.cols": SIZE,
    "array.dataflow": "one of ws, os, is",
    "array.reduction": "one of channel, im2col",
    "array.fill": "one of overlapped, serial, none",
    "array.tiles_per_cycle": RATE,
    "array.weight_load_cycles": COUNT,
    "array.frequency_hz": "a number from 1 to 1e+12",
    "align.cin": SIZE,
    "align.cout": SIZE,
    "align.pixels": SIZE,
    "align.storage_channels": SIZE,
    "precision.weight_bits": BITS,
    "precision.activation_bits": BITS,
    "precision.accumulator_bits": BITS,
    "output.per_cycle": "a table with the keys none, relu, silu",
    "output.per_cycle.none": RATE,
    "output.per_cycle.relu": RATE,
    "output.per_cycle.silu": RATE,
    "depthwise.lanes": SIZE,
    "depthwise.tap_quantum": SIZE,
    "memory.weight_sram_bytes": BYTES,
    "memory.activation_sram_bytes": BYTES,
    "memory.dram_bytes_per_cycle": RATE,
    "memory.overlap": FLAG,
    "sparsity.zero_tile_skip": FLAG,
    "sparsity.tile": "a list of two whole numbers from 1 to 65536, rows and cols",
    "sparsity.per_kernel_position": FLAG,
    "sparsity.index_bits": "a whole number from 0 to 64",
    "sparsity.index_cycles": COUNT,
    "sparsity.weight_compression": FLAG,
    "sparsity.nm": "none, or N:M such as 2:4",
    "sparsity.nm_gain": "a number from 1 to 100",
    "overhead.launch_us": "a number from 0 to 1e+09",
    "vector.lanes": SIZE,
    "ops.supported": f"a list of operators such as conv2d, or of their families: {', '.join(families())}",
    "ops.fallback": "a table with the keys macs_per_cycle, elements_per_cycle",
    "ops.fallback.macs_per_cycle": RATE,
    "ops.fallback.elements_per_cycle": RATE,
    "calibration.mac_efficiency": SHARE,
    "calibration.bandwidth_efficiency": SHARE,
    "calibration.source": LINE,
}
NUMERIC = [key for key, words in EXPECTED.items() if words.startswith(("a whole", "a number"))]


def described() -> dict[str, Any]:
    """Return a description that loads."""
    return copy.deepcopy(_described())


@functools.cache
def _described() -> dict[str, Any]:
    """Read the description once."""
    return load_target("npu-8x8").to_dict()


def edited(key: str, *value: object) -> dict[str, Any]:
    """Return the description with one key set, or without it where no value is given."""
    raw = described()
    *outer, last = key.split(".")
    table = raw
    for name in outer:
        table = table[name]
    if value:
        table[last] = value[0]
    else:
        del table[last]
    return raw


def refusal(raw: object) -> str:
    """Return the words with which a description is refused."""
    with pytest.raises(UserError) as refused:
        Target.from_dict(raw, where="my.toml")  # type: ignore[arg-type]
    return str(refused.value)


def place(key: str) -> str:
    """Return where an error says that a key is."""
    section, _, rest = key.partition(".")
    return f"my.toml, [{section}] {rest}"


@pytest.mark.parametrize("key", EXPECTED)
def test_missing_key(key: str) -> None:
    assert refusal(edited(key)) == f"{place(key)}: missing. Give {EXPECTED[key]}".rstrip(".") + "."


@pytest.mark.parametrize("key", EXPECTED)
@pytest.mark.parametrize(("value", "shown"), [([[]], "[[]]"), (-8, "-8"), (1e300, "1e+300"), (math.nan, "nan")])
def test_unusable_value(key: str, value: object, shown: str) -> None:
    if key in ("sparsity.tile", "ops.supported") and value == [[]]:
        shown = {"sparsity.tile": "[[]]", "ops.supported": "[]"}[key]
    want = f"{place(key)}: cannot be {shown}. Give {EXPECTED[key]}"
    assert refusal(edited(key, value)) == want.rstrip(".") + "."


@pytest.mark.parametrize("key", NUMERIC)
@pytest.mark.parametrize(("value", "shown"), [("8", "'8'"), (True, "true"), ({"a": 1}, "{'a': 1}")])
def test_number_is_not_another_type(key: str, value: object, shown: str) -> None:
    assert refusal(edited(key, value)) == f"{place(key)}: cannot be {shown}. Give {EXPECTED[key]}."


@pytest.mark.parametrize("section", [key for key in described() if key != "schema"])
def test_missing_section(section: str) -> None:
    keys = list(described()[section])
    table = f"a table with the keys {', '.join(keys)}"
    want = 'a table of texts, as in array.rows = "data sheet, page 3"' if section == "source" else table
    assert refusal(edited(section)) == f"my.toml, [{section}]: missing. Give {want}."
    assert refusal(edited(section, 8)) == f"my.toml, [{section}]: cannot be 8. Give {want}."


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 2, "my.toml, schema: cannot be 2. Give 1."),
        ("array.rowz", 8, "my.toml, [array] rowz: unknown key. Did you mean rows?"),
        ("aray", {}, "my.toml, [aray]: unknown key. Did you mean array?"),
        ("sources", 8, "my.toml, sources: unknown key. Did you mean source?"),
        ("output.per_cycle.relu6", 8, "my.toml, [output] per_cycle.relu6: unknown key. Did you mean relu?"),
        ("vector.width", 8, "my.toml, [vector] width: unknown key. Remove it; the keys here are lanes."),
        ("source.array.rows", 3, "my.toml, [source] array.rows: cannot be 3. Give a text of one line."),
        (
            "sparsity.nm",
            "4:2",
            "my.toml, [sparsity] nm: 4:2 removes nothing. Give none, or N:M with N below M.",
        ),
        (
            "sparsity.nm_gain",
            1.5,
            'my.toml, [sparsity] nm_gain: 1.5 has no effect with nm = "none". '
            "Give 1, or the pattern that is faster as nm.",
        ),
        (
            "ops.supported",
            ["activation", "conv2d", "conv9d"],
            f"my.toml, [ops] supported: cannot be 'conv9d'. Give {EXPECTED['ops.supported']}.",
        ),
        ("sparsity.nm", "24", "my.toml, [sparsity] nm: cannot be '24'. Give none, or N:M such as 2:4."),
    ],
)
def test_unknown_or_unusable(key: str, value: object, message: str) -> None:
    raw = described()
    if key == "source.array.rows":
        raw["source"]["array.rows"] = value
    else:
        raw = edited(key, value)
    assert refusal(raw) == message


def test_every_key_needs_a_source_and_every_source_a_key() -> None:
    raw = described()
    del raw["source"]["memory.overlap"]
    assert refusal(raw) == (
        "my.toml, [source] memory.overlap: missing. "
        'Say where the value comes from, as in memory.overlap = "data sheet, page 3".'
    )
    raw["source"]["memory"] = "data sheet, page 3"
    assert Target.from_dict(raw).source["memory"] == "data sheet, page 3"
    raw["source"]["array.depth"] = "data sheet, page 4"
    assert refusal(raw) == (
        "my.toml, [source] array.depth: unknown key. Name a key of this file, as in array.rows, or a section."
    )


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            {"dataflow": "os"},
            'my.toml, [array] fill: "overlapped" is not modelled for dataflow = "os". '
            'Give "serial", or dataflow = "ws".',
        ),
        (
            {"dataflow": "is", "fill": "serial"},
            'my.toml, [sparsity] zero_tile_skip: skipping is not modelled for dataflow = "is". '
            'Give false, or dataflow = "ws".',
        ),
        (
            {"rows": 16},
            "my.toml, [sparsity] tile: [8, 8] is not the tile of the array, 16 x 8. Give [16, 8].",
        ),
    ],
)
def test_keys_that_contradict_each_other(edits: dict[str, object], message: str) -> None:
    raw = described()
    raw["array"] |= edits
    assert refusal(raw) == message


def test_no_description_at_all() -> None:
    assert refusal([1]) == "my.toml: holds no tables. Give the sections of a target by name."
