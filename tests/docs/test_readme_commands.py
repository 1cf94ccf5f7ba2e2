"""Every command of the README runs, on small stand-ins for the files that it names."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from smartc.cli.main import main
from smartc.measuring import calibrate
from smartc.measuring.cost_table_file import write_table
from tests.support.cost_tables import by_work, table
from tests.support.small_networks import SHAPE, save_program, small

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(?:sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(smartc [^`]+)` \|", re.MULTILINE)
OPTIONAL = re.compile(r"\[([^]]+)\]")
# What the rows of the table of commands leave open.
STAND_INS = {"MODEL": "model.pt2", "T": "npu-8x8", "DIR": "made", "OTHER": "other", "LAYER": "3", "NAME": "npu-8x8"}
FACTORY = "from tests.support.small_networks import small as make_net\n"


def commands() -> list[str]:
    """Return the commands of the README; those of its table without options and with each of them."""
    text = README.read_text("utf-8")
    lines = [line.partition("#")[0].strip() for block in FENCE.findall(text) for line in block.splitlines()]
    found = [line for line in lines if line.startswith("smartc ")]
    for row in ROW.findall(text):
        found += list(_spelled_out(row.replace("MODEL\\|DIR", "DIR")))
    return found


def _spelled_out(row: str) -> Iterator[str]:
    """Yield the commands that a row of the table stands for."""
    plain = OPTIONAL.sub("", row)
    for option in ("", *OPTIONAL.findall(row)):
        words = [STAND_INS.get(word, word) for word in shlex.split(f"{plain} {option}")]
        yield shlex.join("written" if word == "FILE" else word for word in words)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that the commands name."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    save_program(folder / "model.pt2")
    save_file(small().state_dict(), folder / "weights.safetensors")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "nets.py").write_text(FACTORY)
    images = random.normal(size=(24, *SHAPE)).astype(np.float32)
    for name in ("train.npz", "test.npz"):
        np.savez(folder / name, inputs=images, labels=random.integers(0, 10, 24))
    np.savez(folder / "x.npz", input=images)
    (folder / "photos").mkdir()
    for place in range(4):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{place}.png")
    for build in ("made", "other"):
        assert main(["compile", str(folder / "model.pt2"), "--target=npu-8x8", "-q", "-o", str(folder / build)]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_runs(
    line: str, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop)
    monkeypatch.setenv("XDG_CACHE_HOME", str(shop / "cache"))
    monkeypatch.setattr(calibrate, "calibrate", lambda _: table(by_work))
    write_table(table(by_work))
    for name in ("build", "written"):
        shutil.rmtree(name, ignore_errors=True)
        Path(name).unlink(missing_ok=True)
    assert main(["targets", "npu-8x8", "--toml"]) == 0
    Path("my_npu.toml").write_text(capsys.readouterr().out)
    assert main(shlex.split(line)[1:]) == 0
    assert "-o build/" not in line or Path("build", "manifest.json").exists()
    assert "written" not in line or Path("written").exists()


def test_there_are_commands() -> None:
    assert len(commands()) >= 20
