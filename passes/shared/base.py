"""What every pass is: a function from one TracedModel to another, with remarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, Protocol

from smartc.core.errors import InternalError, SmartcError
from smartc.ir.traced_model import Remark, TracedModel


@dataclass(frozen=True)
class PassResult:
    """A pass's output and what it did."""

    model: TracedModel
    remarks: tuple[Remark, ...] = ()

    @property
    def modified(self) -> bool:
        """Return whether any remark tells of a change."""
        return any(remark.changed for remark in self.remarks)


class Pass(Protocol):
    """A functional graph transformation: its fields are its options."""

    name: ClassVar[str]

    def run(self, model: TracedModel) -> PassResult:
        """Return a new model; never edit the argument."""
        ...


Listener = Callable[[Pass, PassResult], None]
# Told of every pass that runs; whoever dumps a compile listens.
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of every pass that runs in the block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def run_passes(model: TracedModel, passes: Sequence[Pass]) -> PassResult:
    """Run passes in order, checking the graph after each.

    Raises:
        InternalError: A pass left a graph that is not well formed; the error names the pass.
    """
    remarks: list[Remark] = []
    for step in passes:
        result = _run_one(model, step)
        remarks += result.remarks
        model = result.model
    return PassResult(model, tuple(remarks))


def _run_one(model: TracedModel, step: Pass) -> PassResult:
    """Run one pass and check what it left."""
    try:
        result = step.run(model)
        result.model.graph.lint()
    except SmartcError:
        raise
    except Exception as error:
        raise InternalError(f"{type(error).__name__}: {error}", where=f"pass {step.name}") from error
    listener = _LISTENER.get()
    if listener is not None:
        listener(step, result)
    return result
