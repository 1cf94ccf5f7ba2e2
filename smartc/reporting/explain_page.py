"""One page that explains a model: its layers, which channels go together, and what keeps the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from string import Template

from smartc.analysis.analyse import analysed
from smartc.analysis.channels.channel_groups import ChannelGroup, ChannelGroups
from smartc.frontend.leave_alone import tensor_names
from smartc.ir.traced_model import TracedModel
from smartc.reporting.explain_blocks import Block, blocks_of
from smartc.reporting.explain_boxes import Box, boxes_of, group_names, touched_groups
from smartc.reporting.explain_drawing import draw_block, hue, one_column
from smartc.reporting.html_page import asset, page, stylesheet, table


def render_explanation(model: TracedModel) -> str:
    """Return the page; it follows the reader's light or dark setting, and says everything without scripts too."""
    layers = analysed(model)
    groups, boxes = layers.groups, boxes_of(model, layers)
    body = Template(asset("explain.html")).substitute(
        title=escape(model.name),
        inputs=escape(", ".join(map(str, model.inputs))),
        channels=groups.channels,
        groups=len(groups.groups),
        layers=len(boxes),
        stay=sum(box.stays for box in boxes),
        chips="".join(_chip(index, group) for index, group in enumerate(groups.groups)),
        blocks="\n".join(_drawn(block, boxes) for block in blocks_of(boxes)),
        table=_layer_table(boxes),
        frozen=_frozen(groups),
        remarks=_remarks(model),
    )
    styles, title = stylesheet() + asset("explain.css"), f"{model.name}: what can be removed"
    return page(title, body, styles, asset("explain.js"), _data(model, groups))


def _chip(index: int, group: ChannelGroup) -> str:
    """Return the button of a group."""
    count = f"{len(group)}" if group.weight == 1 else f"{len(group)} x {group.weight}"
    text = f"G{index + 1} {group.name}: {count}"
    return (
        f'<button type="button" class="chip" data-group="{index}" aria-pressed="false">'
        f'<i class="group {hue(index)}"></i>{escape(text)}</button>\n'
    )


def _drawn(block: Block, boxes: Sequence[Box]) -> str:
    """Return a block as a part of the page that opens and closes; one like another is closed."""
    name = block.name or ", ".join(boxes[place].name for place in block.places)
    inside = f"{len(block.places)} layers" if block.name else ""
    like = f"like {block.like}" if block.like else ""
    note = escape(", ".join(filter(None, (inside, like))))
    state = "" if block.like else " open"
    picture = draw_block(block, boxes)
    kind = "block" if f'width="{one_column()}"' in picture else "block wide"
    head = f'<summary><b>{escape(name)}</b> <span class="quiet">{note}</span></summary>'
    return f'<details class="{kind}"{state}>{head}\n<div class="scroll">\n{picture}\n</div></details>'


def _layer_table(boxes: Sequence[Box]) -> str:
    """Return the table with a row for each layer and its reason."""
    titles = ("layer", "operator", "weight", "reads", "owns", "what can go, and why not more")
    lines = ["<thead><tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr></thead><tbody>"]
    for place, box in enumerate(boxes):
        name = f"{box.name} (with {', '.join(box.fused)})" if box.fused else box.name
        cells = (box.op, box.weight, group_names(box.reads), group_names(box.owns))
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        row = f'<th scope="row" title="{escape(name)}">{escape(box.name)}</th>{texts}'
        lines.append(f'<tr data-box="{place}">{row}<td class="w">{escape(box.reason)}</td></tr>')
    return "\n".join(['<table id="layers">', *lines, "</tbody></table>"])


def _frozen(groups: ChannelGroups) -> str:
    """Return the table of reasons for which channels stay."""
    found: dict[str, list[str]] = {}
    for (name, axis), reason in groups.frozen.items():
        found.setdefault(reason, []).append(f"{name} axis {axis}")
    return table((f"it {reason}", ", ".join(axes)) for reason, axes in found.items())


def _remarks(model: TracedModel) -> str:
    """Return the section of remarks, where there are any."""
    rows = [(remark.where, remark.text) for remark in model.remarks]
    return f"<section><h2>Remarks</h2>\n{table(rows)}\n</section>" if rows else ""


def _data(model: TracedModel, groups: ChannelGroups) -> str:
    """Return what the script needs, as JSON that no browser takes for tags."""
    sizes = [len(group) * group.weight for group in groups.groups]
    names = tensor_names(model)
    tensors = [[list(called), found] for called, found in touched_groups(groups, names)]
    known = sorted({part for parts in names.values() for part in parts})
    text = json.dumps({"sizes": sizes, "tensors": tensors, "names": known}, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
