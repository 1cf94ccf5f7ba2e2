"""Descriptions that start from another one: what is merged, what must be given anew, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import smartc
from smartc.core.errors import UserError
from smartc.targets.sources import source_of
from smartc.targets.target import Target, load_target, target_names

# A device that is narrow: 16 input channels by 4 output channels.
NARROW = """\
base = "npu-8x8"
target.name = "npu-16x4"
array = { rows = 16, cols = 4, weight_load_cycles = 16 }
align = { cin = 16, cout = 4, storage_channels = 4 }
output.per_cycle = { none = 4, relu = 4, silu = 2 }
depthwise.lanes = 4
sparsity.tile = [16, 4]
vector.lanes = 4

[source]
array.weight_load_cycles = "one row of 4 weights per cycle"
align.cin = "one tile is 16 input channels"
align.cout = "one tile is 4 output channels"
output.per_cycle = "assumption: one pixel of 4 channels per cycle, half of that with SiLU"
"""
# What it gives no source for.
NOT_SAID = ("array.rows", "array.cols", "align.storage_channels", "depthwise.lanes", "sparsity.tile", "vector.lanes")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of this test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(**texts: str) -> str:
    """Return what is said of a.toml, after some files were written."""
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_target("a.toml")
    return str(refused.value)


def test_shipped_targets_are_what_they_are_written_out(golden: Callable[[str, str], None]) -> None:
    described = [(name, load_target(name).to_dict()) for name in target_names()]
    lines = [f'"{name}.{key}": {json.dumps(value)}' for name, raw in described for key, value in raw.items()]
    golden("targets", "{\n" + ",\n".join(lines) + "\n}\n")


def test_only_what_is_given_differs(folder: Path) -> None:
    (folder / "narrow.toml").write_text(NARROW)
    square, narrow = load_target("npu-8x8").to_dict(), load_target("narrow.toml").to_dict()
    changed = {f"{key}.{name}" for key, part in square.items() if key != "schema" for name in part} - {
        f"{key}.{name}"
        for key, part in square.items()
        if key != "schema"
        for name, value in part.items()
        if narrow[key][name] == value
    }
    assert changed == {
        *("target.name", "array.rows", "array.cols", "array.weight_load_cycles"),
        *("align.cin", "align.cout", "align.storage_channels", "output.per_cycle", "depthwise.lanes"),
        *("sparsity.tile", "vector.lanes", "source.array.weight_load_cycles", "source.align.cin"),
        *("source.align.cout", "source.output.per_cycle"),
        *(f"source.{key}" for key in NOT_SAID),
    }
    assert narrow["source"]["array.rows"].startswith("not given; of 8 npu-8x8 says: the name: ")
    assert narrow["output"]["per_cycle"] == {"none": 4, "relu": 4, "silu": 2}
    assert Target.from_dict(json.loads(json.dumps(narrow))) == load_target("narrow.toml")


def test_a_device_in_twenty_lines_is_compiled_for(folder: Path) -> None:
    assert len(NARROW.splitlines()) <= 20
    (folder / "narrow.toml").write_text(NARROW)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1)).eval()
    compiled = smartc.compile(module, torch.randn(1, 16, 6, 6), target="narrow.toml", sparsity=0.5, backends=())
    assert compiled.plan.target == load_target("narrow.toml").to_dict()
    first, second = compiled.report.layers
    assert first.compiled.weight_shape == (32, 16, 3, 3)
    assert second.compiled.weight_shape == (8, 32, 3, 3)
    # By hand: 9 taps x channels / 16 x channels / 4 tiles.
    tiles = [layer.tiles for layer in (first.dense, first.compiled, second.dense, second.compiled)]
    assert tiles == [(9 * 1 * 16,) * 2, (9 * 1 * 8,) * 2, (9 * 4 * 2,) * 2, (9 * 2 * 2,) * 2]
    # A launch of 0.2 us, a load of 16 cycles, 36 pixels through each tile, 16 + 4 cycles to drain.
    assert second.dense.cycles == 100 + 16 + 72 * 36 + 20
    assert second.compiled.cycles == 100 + 16 + 36 * 36 + 20
    assert second.compiled.causes.output == 36 * 8 / 4
    assert second.compiled.causes.weights == 36 * 64 / 8


def test_a_base_may_be_a_file_with_a_base(folder: Path) -> None:
    (folder / "devices").mkdir()
    (folder / "devices" / "narrow.toml").write_text(NARROW)
    (folder / "devices" / "fast.toml").write_text(
        'base = "narrow.toml"\ntarget.name = "fast"\narray.frequency_hz = 1_000_000_000\n'
    )
    fast = load_target("devices/fast.toml")
    assert (fast.name, fast.array.rows, fast.array.cols, fast.array.frequency_hz) == ("fast", 16, 4, 1e9)


def test_sources_are_merged_however_their_names_are_written(folder: Path) -> None:
    named = 'base = "npu-8x8"\ntarget.name = "a"\n'
    (folder / "a.toml").write_text(f'{named}[source]\n"array.rows" = "page 3"\ncalibration.source = "page 4"\n')
    source = load_target("a.toml").source
    assert (source["array.rows"], source["calibration.source"]) == ("page 3", "page 4")
    assert source["calibration"] == "not calibrated: 1 is the nominal rate"


@pytest.mark.parametrize(
    ("text", "rows", "cols", "per_cycle"),
    [
        ('array.rows = 4\nsource.array = "page 3"', "page 3", None, None),
        ('array = {rows = 4, cols = 8}\nsource.array = "page 3"', "page 3", "page 3", None),
        ('array.rows = 4\n[source]\narray = "page 3"\n"array.rows" = "page 4"', "page 4", None, None),
        ("array = {rows = 4, cols = 8}", "not given; of 8 npu-8x8 says: {rows}", None, None),
        ("output.per_cycle.relu = 2", None, None, "not given; of 8.0 npu-8x8 says: {per_cycle}"),
        ('output.per_cycle.relu = 2\nsource.output = "page 3"', None, None, "page 3"),
    ],
)
def test_a_value_of_its_own_has_no_source_of_another_value(
    folder: Path, text: str, rows: str | None, cols: str | None, per_cycle: str | None
) -> None:
    """None stands for the source of the base."""
    base = load_target("npu-8x8").source
    texts = {"rows": base["array.rows"], "cols": base["array.cols"], "per_cycle": base["output.per_cycle"]}
    skips = "sparsity = {tile = [4, 8], zero_tile_skip = false}"
    (folder / "a.toml").write_text(f'base = "npu-8x8"\ntarget.name = "a"\n{skips}\n{text}\n')
    target = load_target("a.toml")
    found = [source_of(target.source, key) for key in ("array.rows", "array.cols", "output.per_cycle.relu")]
    expected = zip((rows, cols, per_cycle), texts.values(), strict=True)
    assert found == [text.format(**texts) if text else below for text, below in expected]
    assert source_of(target.source, "output.per_cycle.none") == texts["per_cycle"] or "output" in text
    assert Target.from_dict(json.loads(json.dumps(target.to_dict()))) == target


OTHER = "Give another base, or mend that one."


def test_what_is_no_base_is_refused(folder: Path) -> None:
    want = "Give the name of a target, or the path of a TOML file from this one."
    assert refusal(a="base = 8") == f"a.toml, base: cannot be 8. {want}"
    guess = "Did you mean npu-8x8? The targets are "
    assert refusal(a='base = "npu-8x9"').startswith(f'a.toml, base: unknown target "npu-8x9". {guess}npu-8x8, ')
    assert refusal(a='base = "b.toml"') == f'a.toml, base: "b.toml" is not a target (b.toml: no such file). {OTHER}'
    broken = "b.toml: is not TOML (Invalid value (at line 1, column 5))"
    assert refusal(a='base = "b.toml"', b="a = = 3") == f'a.toml, base: "b.toml" is not a target ({broken}). {OTHER}'
    missing = "b.toml, schema: missing"
    assert refusal(a='base = "b.toml"', b="") == f'a.toml, base: "b.toml" is not a target ({missing}). {OTHER}'


def test_a_circle_of_bases_is_refused(folder: Path) -> None:
    assert refusal(a='base = "a.toml"') == 'a.toml, base: "a.toml" starts from this file itself. Give another base.'
    circle = 'b.toml, base: "./a.toml" starts from this file itself'
    said = refusal(a='base = "b.toml"', b='base = "./a.toml"')
    assert said == f'a.toml, base: "b.toml" is not a target ({circle}). {OTHER}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.toml, [target] name: missing. Give a name of letters, digits and -_."),
        ('target.kind = "npu"', "a.toml, [target] name: missing. Give a name of letters, digits and -_."),
        ('target.name = "a"\narray.rowz = 3', "a.toml, [array] rowz: unknown key. Did you mean rows?"),
        ('target.name = "a"\naray.rows = 3', "a.toml, [aray]: unknown key. Did you mean array?"),
        ('target.name = "a"\narray.rows = "8"', "a.toml, [array] rows: cannot be '8'. Give a whole number from 1 to"),
        ('target.name = "a"\narray = 8', "a.toml, [array]: cannot be 8. Give a table with the keys rows, "),
        ('target.name = "a"\nsource.array.rows = 3', "a.toml, [source] array.rows: cannot be 3. Give a text of one"),
        ('target.name = "a"\nsource = 3', "a.toml, [source]: cannot be 3. Give a table of texts"),
        ('target.name = "a"\nsource.array.rowz = "x"', "a.toml, [source] array.rowz: unknown key. Name a key of"),
        ('target.name = "a"\narray.rows = 16', "a.toml, [sparsity] tile: [8, 8] is not the tile of the array, 16 x 8."),
    ],
)
def test_nothing_else_is_loosened(folder: Path, text: str, message: str) -> None:
    assert refusal(a=f'base = "npu-8x8"\n{text}\n').startswith(message)


def test_a_base_is_for_files_alone() -> None:
    with pytest.raises(UserError, match="base: unknown key"):
        Target.from_dict({"base": "npu-8x8", **load_target("npu-8x8").to_dict()})
