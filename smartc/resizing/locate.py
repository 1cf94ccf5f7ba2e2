"""Find the first module of a network that computes something else than the compiled graph."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from smartc.core.errors import OWN_CODE_FAILURES, first_line
from smartc.frontend.user_frame import user_frame
from smartc.ir.traced_model import TracedModel

Same = Callable[[torch.Tensor, torch.Tensor], bool]


@dataclass(frozen=True)
class Failure:
    """Where a network first goes wrong.

    Attributes:
        path: The module; empty for the whole network.
        text: What is wrong, which goes on from the module's name.
        done: How many modules had run before, each as it should.
    """

    path: str
    text: str
    done: int


class ModuleValues:
    """What a compiled graph computes within each module of the user's, on some inputs."""

    def __init__(self, model: TracedModel, flat: tuple[Any, ...]) -> None:
        """Run the graph, and keep the values of all nodes by the modules that they belong to."""
        self.by_path: dict[str, list[torch.Tensor]] = {"": []}
        with torch.no_grad():
            _Keeping(model.graph_module, self.by_path).run(*flat, enable_io_processing=False)

    def has(self, path: str, value: torch.Tensor, same: Same) -> bool:
        """Return whether the graph has a value in a module, or nothing of that shape there."""
        alike = self._alike(path, value)
        return not alike or any(same(one, value) for one in alike)

    def knows(self, value: torch.Tensor, same: Same) -> bool:
        """Return whether the graph has a value anywhere."""
        return any(same(one, value) for one in self._alike("", value))

    def _alike(self, path: str, value: torch.Tensor) -> list[torch.Tensor]:
        """Return the values of a shape within a module."""
        return [one for one in self.by_path.get(path, ()) if one.shape == value.shape]


class _Keeping(fx.Interpreter):
    """A run of a graph that keeps all values."""

    def __init__(self, module: fx.GraphModule, kept: dict[str, list[torch.Tensor]]) -> None:
        super().__init__(module)
        self.kept = kept

    def run_node(self, node: fx.Node) -> Any:
        """Run a node and keep what it returns under each module around it."""
        result = super().run_node(node)
        stack = node.meta.get("nn_module_stack") or {}
        paths = {"", *(re.sub(r"@\d+", "", path) for path, _ in stack.values())}
        for one in pytree.tree_leaves(result):
            if isinstance(one, torch.Tensor):
                for path in paths:
                    self.kept.setdefault(path, []).append(one)
        return result


class _Wrong(Exception):
    """Stops a run at the first module that computes something else."""


@dataclass
class _Watch:
    """The modules of a run that have begun and that are done."""

    values: ModuleValues
    same: Same
    open: list[tuple[str, Any]] = field(default_factory=list)
    done: int = 0

    @property
    def blamed(self) -> str:
        """Return the innermost module that has begun; where its inputs are wrong, the one that calls it made them."""
        if not self.open:
            return ""
        path, given = self.open[-1]
        right = all(self.values.knows(one, self.same) for one in tensors_in(given))
        return path if right else path.rpartition(".")[0]

    def before(self, path: str) -> Callable[..., None]:
        """Return a hook that notes that a module begins, and with what."""
        return lambda module, given: self.open.append((path, given))

    def after(self, path: str) -> Callable[..., None]:
        """Return a hook that compares what a module returned, and stops the run where that is something else."""

        def hook(module: nn.Module, given: Any, result: Any) -> None:
            if not all(self.values.has(path, one, self.same) for one in tensors_in(result)):
                raise _Wrong
            self.open.pop()
            self.done += 1

        return hook


def first_failure(
    module: nn.Module, arguments: tuple[tuple[Any, ...], Mapping[str, Any]], values: ModuleValues, same: Same
) -> Failure | Any:
    """Return what a network computes, or where it first computes something else than the compiled graph.

    Args:
        module: The network.
        arguments: Positional and keyword arguments.
        values: What the graph computes of them.
        same: Tells whether two tensors of one shape are equal but for rounding.
    """
    watch = _Watch(values, same)
    with torch.no_grad(), ExitStack() as hooks:
        for path, child in module.named_modules():
            if path:
                hooks.callback(child.register_forward_pre_hook(watch.before(path)).remove)
                hooks.callback(child.register_forward_hook(watch.after(path)).remove)
        try:
            return module(*arguments[0], **arguments[1])
        except _Wrong:
            text = "its output differs from what the compiled model computes there"
        except OWN_CODE_FAILURES as error:
            text = f"its forward fails: {first_line(error)}{_line(error)}"
        return Failure(watch.blamed, text, watch.done)


def _line(error: BaseException) -> str:
    """Return the user's line that an error passed through, as it stands in a text."""
    frame = user_frame(traceback.extract_tb(error.__traceback__))
    return "" if frame is None else f' (in {frame.name}, line {frame.lineno}: "{frame.line}")'


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of any structure."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
