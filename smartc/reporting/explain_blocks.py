"""Layers in blocks, as the modules of a network hold them; a block that is like the one before it is told to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from smartc.reporting.explain_boxes import Box

# A module with more layers is shown as the modules that it is made of.
LARGEST = 14


@dataclass(frozen=True)
class Block:
    """Layers that are drawn together.

    Attributes:
        name: The module; empty where the layers are of several.
        places: Which layers.
        like: The name of the block before it that looks the same; empty where there is none.
    """

    name: str
    places: tuple[int, ...]
    like: str = ""


def blocks_of(boxes: Sequence[Box]) -> tuple[Block, ...]:
    """Return the blocks of a network, in order; each layer is in one."""
    blocks = _joined(_split(boxes, list(range(len(boxes))), 0))
    told: list[Block] = []
    first: Block | None = None
    for block in blocks:
        if first is not None and block.name and _looks(boxes, block) == _looks(boxes, first):
            told.append(Block(block.name, block.places, first.name))
            continue
        first = block if block.name else None
        told.append(block)
    return tuple(told)


def _split(boxes: Sequence[Box], places: Sequence[int], depth: int) -> list[Block]:
    """Return layers that have their outermost modules in common, in blocks that are small enough."""
    name = ".".join(boxes[places[0]].path[:depth])
    deeper = any(len(boxes[place].path) > depth for place in places)
    if (depth and len(places) <= LARGEST) or not deeper:
        return [Block(name, tuple(places))]
    found: list[Block] = []
    for part, members in groupby(places, key=lambda place: boxes[place].path[: depth + 1]):
        inside = list(members)
        found += _split(boxes, inside, depth + 1) if len(part) > depth else [Block("", tuple(inside))]
    return found


def _joined(blocks: Sequence[Block]) -> list[Block]:
    """Return blocks in which single layers that follow each other are together."""
    found: list[Block] = []
    for block in blocks:
        single = len(block.places) == 1
        if found and single and not found[-1].name and len(found[-1].places) < LARGEST:
            found[-1] = Block("", (*found[-1].places, *block.places))
        else:
            found.append(Block("" if single else block.name, block.places))
    return found


def _looks(boxes: Sequence[Box], block: Block) -> list[tuple[object, ...]]:
    """Return what tells a block from another one: its layers without their own names, and how they are connected."""
    start = block.places[0]
    looks: list[tuple[object, ...]] = []
    for place in block.places:
        box = boxes[place]
        inside = tuple(source - start for source in box.sources if source in block.places)
        # Calls are numbered through the whole network.
        own = re.sub(r"_\d+\b", "", box.name.removeprefix(f"{block.name}."))
        looks.append((own, box.op, box.weight, len(box.reads), len(box.owns), box.stays, inside))
    return looks
