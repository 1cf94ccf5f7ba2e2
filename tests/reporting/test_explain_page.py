"""The page that explains a model stands alone, shows every layer with a reason, and takes no name for a tag."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.analyse import analysed
from smartc.cli.main import main
from smartc.frontend.capture import trace
from smartc.frontend.leave_alone import leave_alone
from smartc.ir.traced_model import Remark, TracedModel
from smartc.reporting.explain_blocks import LARGEST, blocks_of
from smartc.reporting.explain_boxes import boxes_of
from smartc.reporting.explain_page import render_explanation
from tests.support.page import Page
from tests.support.small_networks import save_program
from tests.support.zoo import CASES

EVIL = "<script>alert('&')</script>\"$x"


class Stack(nn.Module):
    """A stem, blocks that are alike, and a head."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 4)."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def stack(count: int) -> TracedModel:
    """Return the network, captured."""
    return trace(Stack(count).eval(), torch.zeros(2, 8))


def pictures(page: str) -> list[ElementTree.Element]:
    """Return the pictures of a page, parsed."""
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_stands_alone() -> None:
    text = render_explanation(stack(3))
    page = Page(text)
    assert page.open == []
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text
    assert not re.search(r"\$[a-z]", text)


@pytest.mark.parametrize("name", ["vision_transformer", "dense_concat", "lstm", "unet_interpolate", "plain_chain"])
def test_every_layer_is_drawn_once_and_has_a_reason(name: str) -> None:
    module, inputs = CASES[name].build()
    model = trace(module, inputs)
    boxes = boxes_of(model, analysed(model))
    text = render_explanation(model)
    drawn = [group.attrib["data-box"] for one in pictures(text) for group in one.findall("g")]
    assert sorted(map(int, drawn)) == list(range(len(boxes)))
    rows = re.findall(r'<tr data-box="(\d+)"><th scope="row".*?<td class="w">(.*?)</td></tr>', text)
    assert [int(place) for place, _ in rows] == list(range(len(boxes)))
    assert all(reason for _, reason in rows)
    assert all(box.sources or box.inputs or box.op in ("embedding",) for box in boxes)
    assert all(source < place for place, box in enumerate(boxes) for source in box.sources)


def test_boxes_lie_apart() -> None:
    for picture in pictures(render_explanation(stack(1))):
        bodies = [one for one in picture.iter("rect") if one.get("class") == "body"]
        corners = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in bodies]
        size = float(picture.attrib["width"]), float(picture.attrib["height"])
        for x, y in corners:
            assert 0 <= x <= size[0] - float(bodies[0].attrib["width"])
            assert 0 <= y <= size[1] - float(bodies[0].attrib["height"])
        assert len(set(corners)) == len(corners)


def test_blocks_that_are_alike_are_closed_and_say_like_what() -> None:
    model = stack(LARGEST)
    blocks = blocks_of(boxes_of(model, analysed(model)))
    assert [place for block in blocks for place in block.places] == list(range(len(analysed(model).rows)))
    assert {block.like for block in blocks if block.name.startswith("blocks.") and block.name != "blocks.0"} == {
        "blocks.0"
    }
    text = render_explanation(model)
    assert text.count('<details class="block">') == LARGEST - 1
    assert f"<b>blocks.{LARGEST - 1}</b>" in text


def test_says_what_stays_and_why() -> None:
    text = render_explanation(leave_alone(stack(2), keep="blocks.1.*"))
    table = text[text.index('<table id="layers">') :]
    reasons = dict(re.findall(r'title="([^" ]*)[^"]*">[^<]*</th>.*?<td class="w">(.*?)</td>', table))
    assert reasons["blocks.1.0"] == "kept: named by `keep`"
    assert reasons["blocks.0.0"].startswith("32 of 32 outputs can go; axis 1 of the weight stays, because it goes with")
    assert "left alone: blocks.1.0, blocks.1.2 (named by `keep`)" in text
    assert text.count('class="box stays"') == 1 + 4


def test_the_script_knows_what_each_layer_is_called_and_part_of() -> None:
    model = stack(2)
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', render_explanation(model))
    data = json.loads(text)
    assert data["sizes"] == [len(one) * one.weight for one in analysed(model).groups.groups]
    groups = {frozenset(called): members for called, members in data["tensors"]}
    for name in ("stem", "blocks.0.2", "blocks.1.2"):
        of = next(members for called, members in groups.items() if f"{name}.weight" in called)
        assert 0 in of
    assert {"blocks", "blocks.0", "head.weight"} <= set(data["names"])


def test_names_stay_text() -> None:
    model = stack(1)
    for node in model.calls():
        node.meta["nn_module_stack"] = {"x": (EVIL, "torch.nn.modules.linear.Linear")}
    odd = replace(model, name=EVIL, remarks=(Remark(EVIL, EVIL),), untouched={"head.weight": EVIL})
    text = render_explanation(odd)
    assert text.count("<script>") == 1
    assert "<script>alert" not in text
    assert Page(text).open == []
    assert pictures(text)


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = str(save_program(tmp_path / "model.pt2")), tmp_path / "page.html"
    assert main(["explain", file, "--keep", "7", "--html", str(page)]) == 0
    assert "kept: named by `keep`" in page.read_text("utf-8")
    assert main(["explain", str(tmp_path), "--html", str(page)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"smartc: --html {page}: a build is explained by its report. Write the page of its report")
