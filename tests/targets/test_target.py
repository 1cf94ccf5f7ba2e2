"""Target descriptions: what ships, what is refused and with which words."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest

import smartc.targets
from smartc.core.errors import UserError
from smartc.targets.target import Target, load_target, target_names, without_skipping

NAMES = ("npu-8x8", "npu-16x16", "npu-32x32", "npu-8x8-dense", "npu-16x16-dense", "npu-32x32-dense")
ALL = (*NAMES, "cpu")
FOLDER = Path(smartc.targets.__file__).parent


def test_ships_these_targets() -> None:
    assert target_names() == ALL


@pytest.mark.parametrize("name", NAMES)
def test_shipped_target_round_trips(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.provenance == "generic"
    rows, cols = (int(size) for size in re.findall(r"\d+", name))
    assert (target.array.rows, target.array.cols) == (target.align.cin, target.align.cout) == (rows, cols)
    assert target.sparsity.zero_tile_skip == (not name.endswith("-dense"))
    again = Target.from_dict(json.loads(json.dumps(target.to_dict())))
    assert again == target
    assert hash(again) == hash(target)
    assert load_target(str(FOLDER / f"{name}.toml")) == target


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_key_has_its_source(name: str) -> None:
    described = load_target(name).to_dict()
    source = described.pop("source")
    keys = {f"{section}.{key}" for section, table in described.items() if section != "schema" for key in table}
    calibration = {key for key in keys if key.startswith("calibration.")}
    lone = {key for key in keys if not key.startswith("target.")} - calibration
    assert set(source) == {*lone, "calibration"}
    assert source["calibration"] == "not calibrated: 1 is the nominal rate"


def test_dense_target_only_lacks_skipping() -> None:
    skipping, dense = load_target("npu-8x8").to_dict(), load_target("npu-8x8-dense").to_dict()
    assert [key for key in skipping if skipping[key] != dense[key]] == ["target", "sparsity", "source"]


def test_without_skipping_changes_one_key() -> None:
    raw = load_target("npu-8x8").to_dict()
    raw["sparsity"]["zero_tile_skip"] = False
    assert without_skipping(load_target("npu-8x8")).to_dict() == raw


FACTOR = "ratios and rankings mean more than absolute times, which can be wrong by a factor of 2"
ASSUMPTIONS = {
    "generic": "npu-8x8 is a generic device, not a product; its cycles are counted by a model of "
    f"one 8x8 array at 500 MHz that skips zero tiles: {FACTOR}",
    "vendor-model": f"npu-8x8 is not measured; its cycles follow its vendor's own formulas: {FACTOR}",
    "calibrated": "npu-8x8 is not measured here; its cycles follow a model fitted to measurements (log.csv, 9 %)",
    "measured": "npu-8x8 is measured on this machine",
}


@pytest.mark.parametrize("provenance", ASSUMPTIONS)
def test_says_what_its_figures_mean(provenance: str) -> None:
    raw = load_target("npu-8x8").to_dict()
    raw["target"]["provenance"] = provenance
    raw["calibration"]["source"] = "log.csv, 9 %"
    assert Target.from_dict(raw).assumption == ASSUMPTIONS[provenance]


def test_knows_what_it_supports() -> None:
    target = load_target("npu-8x8")
    assert target.supports("conv2d")
    assert not target.supports("softmax")


@pytest.mark.parametrize(
    ("name", "guess"),
    [("npu-8x9", "Did you mean npu-8x8? "), ("NPU-16X16", "Did you mean npu-16x16? "), ("?", "")],
)
def test_unknown_name(name: str, guess: str) -> None:
    with pytest.raises(UserError) as refused:
        load_target(name)
    want = f"target={name!r}: unknown target. {guess}The targets are {', '.join(ALL)}"
    assert str(refused.value) == f"{want}; a file of your own ends in .toml."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file. Give a TOML file that describes a target."),
        (b"rows = = 8", "is not TOML (Invalid value (at line 1, column 8)). Mend the file at that place."),
        (
            b"a = 1\na = 2\n",
            "is not TOML (Cannot overwrite a value (at line 2, column 6)). Mend the file at that place.",
        ),
        (b"# caf\xe9", "byte 5 is not UTF-8. Save it as UTF-8 text."),
        (b"", "schema: missing. Give 1."),
    ],
)
def test_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "my.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_target(str(path))
    assert str(refused.value) == f"{path}{', ' if content == b'' else ': '}{message}"


def test_folder(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.mkdir()
    with pytest.raises(UserError) as refused:
        load_target(str(path))
    assert str(refused.value) == f"{path}: is a folder. Give a TOML file that describes a target."


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "loop.toml"
    path.symlink_to(path)
    with pytest.raises(UserError) as refused:
        load_target(str(path))
    reason = os.strerror(errno.ELOOP)
    assert str(refused.value) == f"{path}: cannot be read ({reason}). Make it readable."
