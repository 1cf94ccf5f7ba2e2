"""Make a module of the user's own class as small as the compiled model, and prove that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

from torch import nn

from smartc.core.errors import UserError
from smartc.decision.plan import Plan
from smartc.ir.traced_model import TracedModel
from smartc.resizing.layer_sizes import layer_sizes
from smartc.resizing.locate import Failure
from smartc.resizing.replay import cuts_of, replayed, with_tensors
from smartc.resizing.size_rules import Attribute, Rule, attributes_of
from smartc.resizing.trial import Sizes, Trial, copy_of, set_sizes

Chosen = Mapping[tuple[type, str], Rule]
# Runs of the network in search of how its attributes follow.
MOST_TRIES = 100


@dataclass(frozen=True, eq=False)
class Resized:
    """A smaller module of the user's own class.

    Attributes:
        module: It computes what the compiled model does.
        sizes: The attributes that are others than before.
        error: The largest difference of its outputs from the compiled model's, relative to the largest output.
        unread: Tensors that the compiled model does not read, which are the given module's.
    """

    module: nn.Module
    sizes: Sizes
    error: float
    unread: tuple[str, ...]


def resize(module: nn.Module, model: TracedModel, plan: Plan, own_weights: bool = False) -> Resized:
    """Return a module of the same class, as small as the compiled model and proved to compute the same.

    Args:
        module: Of the class that was compiled; it is left as it is.
        model: The compiled model.
        plan: How that was made.
        own_weights: Whether the weights are the module's own, without what the plan removes; else they are the
            compiled model's.

    Raises:
        UserError: The module is not what was compiled, or its class cannot express the result; the first place where
            it cannot is named.
    """
    after = replayed(module, model, plan, own_weights)
    smaller = copy_of(module)
    with_tensors(smaller, after.tensors)
    attributes = attributes_of(module, cuts_of(plan))
    sizes, error = _Search(module, Trial.of(module, after), attributes, _layers(module, smaller, plan.norms)).result()
    set_sizes(smaller, sizes)
    return Resized(smaller, sizes, error, after.unread)


@dataclass(frozen=True, eq=False)
class _Search:
    """The search for how the attributes of a module follow what its tensors lost.

    Attributes:
        module: The original.
        trial: Tells which are right.
        attributes: Those of the user's own classes.
        layers: Those of PyTorch's layers, which are known.
    """

    module: nn.Module
    trial: Trial
    attributes: Sequence[Attribute]
    layers: Sizes

    def result(self) -> tuple[Sizes, float]:
        """Return the attributes that change, and the error of a module that has them.

        Raises:
            UserError: With none of those that were tried does it compute what the compiled model does.
        """
        chosen: Chosen = {}
        error = self.trial.error(self._sizes(chosen))
        if error is not None and error <= self.trial.tolerance:
            return self._changed(chosen), error
        outcome, tries = self.trial.outcome(self._sizes(chosen)), 0
        while isinstance(outcome, Failure):
            first, better = outcome, None
            for option in islice(self._alternatives(first.path, chosen), MOST_TRIES - tries):
                tries += 1
                found = self.trial.outcome(self._sizes(option))
                if not isinstance(found, Failure) or found.done > first.done:
                    chosen, better = option, found
                    break
            if better is None:
                raise self._refusal(first)
            outcome = better
        return self._changed(chosen), outcome

    def _sizes(self, chosen: Chosen) -> Sizes:
        """Return every attribute with the value that it has by some rules."""
        sizes = {path: dict(values) for path, values in self.layers.items()}
        for one in self.attributes:
            value = one.rules[one.follows(chosen)]
            name, _, place = one.name.partition("[")
            held = sizes.setdefault(one.path, {})
            if place:
                whole = list(held.get(name, self._held(one.path, name)))
                whole[int(place[:-1])] = value
                held[name] = type(self._held(one.path, name))(whole)
            else:
                held[name] = value
        return sizes

    def _held(self, path: str, name: str) -> Any:
        """Return what an attribute is before."""
        return getattr(self.module.get_submodule(path), name)

    def _changed(self, chosen: Chosen) -> Sizes:
        """Return the attributes that are others by some rules than they were."""
        found = {}
        for path, values in self._sizes(chosen).items():
            changed = {name: value for name, value in values.items() if value != self._held(path, name)}
            if changed:
                found[path] = changed
        return found

    def _alternatives(self, path: str, chosen: Chosen) -> Iterator[Chosen]:
        """Yield other rules for the attributes of a module and of those around it, first one, then two at a time."""
        places = [path]
        while places[-1]:
            places.append(places[-1].rpartition(".")[0])
        for place in places:
            own = [one for one in self.attributes if one.path == place]
            other = {one: _others(one, chosen) for one in own}
            for one in own:
                yield from ({**chosen, (one.kind, one.name): rule} for rule in other[one])
            for one, two in combinations(own, 2):
                for rule in other[one]:
                    for beside in other[two]:
                        yield {**chosen, (one.kind, one.name): rule, (two.kind, two.name): beside}

    def _refusal(self, failure: Failure) -> UserError:
        """Return the error that names the first place where the class cannot express the result."""
        kind = type(self.module.get_submodule(failure.path)).__name__
        where = f"{failure.path} ({kind})" if failure.path else kind
        fact = f"it cannot be made as small as the compiled model: {failure.text}"
        fix = "Take the sizes from the tensors there, as x.shape[-1] or -1 do, or use the build's own module"
        return UserError(fact, where=where, fix=fix)


def _others(one: Attribute, chosen: Chosen) -> list[Rule]:
    """Return the rules that give an attribute other values than it has, one for each value."""
    now = one.rules[one.follows(chosen)]
    found: dict[int, Rule] = {}
    for rule, value in one.rules.items():
        if value != now:
            found.setdefault(value, rule)
    return list(found.values())


def _layers(module: nn.Module, smaller: nn.Module, norms: Sequence[str]) -> Sizes:
    """Return the attributes of PyTorch's own layers for the tensors that they have in a smaller module.

    Norms that may be named lose channels of every group, others whole groups.
    """
    pairs = zip(module.named_modules(), smaller.modules(), strict=True)
    found = {path: dict(layer_sizes(layer, small) or {}) for (path, layer), small in pairs}
    for path in norms:
        found.get(path, {}).pop("num_groups", None)
    return found
