"""How the sizes that a module keeps as attributes follow from what its tensors lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from smartc.resizing.layer_sizes import layer_sizes
from smartc.resizing.replay import Cut

# What such an attribute counts is never channels.
_NO_CHANNELS = re.compile(r"kernel|stride|padding|dilation|patch|window|index|idx|depth|dropout")
_HEADS = re.compile(r"(^|_)n?_?heads?$")
_KEY_VALUE = re.compile(r"(^|_)(kv|key_?value)")
_KEYS = re.compile(r"(^|[._])(k|kv|key|value|v)(_|\.|$)")
# The layers of a module are looked at up to this depth for its own guess, as in ``attention.query.weight``.
_NEAR = 2
_SUITS = {"in": ("reads", "follows"), "out": ("owns", "follows"), "": ("owns", "reads", "follows")}


@dataclass(frozen=True)
class Rule:
    """How an attribute follows the size of one axis.

    Attributes:
        kind: ``keep`` leaves it as it is; ``size`` makes it the axis's size; ``share`` multiplies it by the share of
            the axis that is left.
        tensor: By its name within the module; ``..`` stands for the module that the module is part of.
        axis: Which axis.
    """

    kind: Literal["keep", "size", "share"]
    tensor: str = ""
    axis: int = 0


KEEP = Rule("keep")


@dataclass(frozen=True, eq=False)
class Attribute:
    """A size that a module keeps.

    Attributes:
        path: The module's.
        kind: The module's class.
        name: The attribute's; ``shape[1]`` is an element of a tuple or list.
        value: What it is.
        rules: How it can follow, each with the value that it then has; the likeliest first.
    """

    path: str
    kind: type
    name: str
    value: int
    rules: Mapping[Rule, int]

    def follows(self, chosen: Mapping[tuple[type, str], Rule]) -> Rule:
        """Return the rule that is chosen for the attribute in all modules of its class, or else its likeliest."""
        rule = chosen.get((self.kind, self.name))
        return rule if rule in self.rules else next(iter(self.rules))  # type: ignore[return-value]


def attributes_of(module: nn.Module, cuts: Sequence[Cut]) -> list[Attribute]:
    """Return the sizes that modules which are not PyTorch's own keep, where something can make them others."""
    found = []
    for path, child in module.named_modules():
        if layer_sizes(child, child) is not None:
            continue
        within = _within(path, cuts)
        beside = _within(path.rpartition(".")[0], cuts) if path and not within else []
        sources = [*within, *(Cut(f"..{cut.tensor}", cut.axis, cut.old, cut.new, cut.role) for cut in beside)]
        for name, value in _integers(child) if sources else ():
            rules = _rules(name, value, sources)
            if len(set(rules.values())) > 1:
                found.append(Attribute(path, type(child), name, value, rules))
    return found


def _within(path: str, cuts: Sequence[Cut]) -> list[Cut]:
    """Return the cuts in a module and its layers, by names within it, the nearest first."""
    prefix = f"{path}." if path else ""
    inside = [
        Cut(cut.tensor.removeprefix(prefix), cut.axis, cut.old, cut.new, cut.role)
        for cut in cuts
        if cut.tensor.startswith(prefix)
    ]
    return sorted(inside, key=lambda cut: cut.tensor.count("."))


def _integers(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers among a module's attributes, and those in tuples and lists of them."""
    for name, value in vars(module).items():
        if name.startswith("__") or name in ("training", "_version") or _NO_CHANNELS.search(name):
            continue
        if _is_size(value):
            yield name, value
        elif type(value) in (tuple, list) and value and all(map(_is_size, value)):
            yield from ((f"{name}[{place}]", one) for place, one in enumerate(value))


def _is_size(value: Any) -> bool:
    """Return whether a value can be a size."""
    return type(value) is int and value > 1


def _rules(name: str, value: int, sources: Sequence[Cut]) -> dict[Rule, int]:
    """Return how an attribute can follow, the likeliest first."""
    sized = [cut for cut in sources if cut.old == value]
    shared = [cut for cut in sources if cut.old != value and not (cut.old % value or cut.new * value % cut.old)]
    likely = _of_sizes(name, sized)
    if _HEADS.search(name):
        likely = _of_heads(name, shared) or likely
    values = {Rule("size", cut.tensor, cut.axis): cut.new for cut in sized}
    values |= {Rule("share", cut.tensor, cut.axis): cut.new * value // cut.old for cut in shared}
    return {rule: values.get(rule, value) for rule in dict.fromkeys((*likely, KEEP, *values))}


def _of_sizes(name: str, cuts: Sequence[Cut]) -> list[Rule]:
    """Return the rule that an attribute of such a name likely follows, if its new value is beyond doubt."""
    side = next((side for side in ("in", "out") if re.match(rf"{side}(_|\d|$)", name)), "")
    suited = [cut for cut in cuts if cut.role in _SUITS[side]]
    near = [Rule("size", cut.tensor, cut.axis) for cut in suited if _is_near(cut)]
    return near[:1] if len({cut.new for cut in suited}) == 1 else []


def _of_heads(name: str, cuts: Sequence[Cut]) -> list[Rule]:
    """Return the rule that a number of heads likely follows."""
    keys = bool(_KEY_VALUE.search(name))
    near = [cut for cut in cuts if cut.role != "reads" and _is_near(cut)]
    near.sort(key=lambda cut: bool(_KEYS.search(cut.tensor)) != keys)
    return [Rule("share", cut.tensor, cut.axis) for cut in near[:1]]


def _is_near(cut: Cut) -> bool:
    """Return whether a cut is of a module's own tensor or of one of its layers'."""
    return not cut.tensor.startswith("..") and cut.tensor.count(".") < _NEAR
