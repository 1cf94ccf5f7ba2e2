"""Time what TVM compiled, layer by layer, in the processor time of one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import relax

from smartc.lowering.to_tvm import TvmModule

# TVM's mode in which its threads stay on the cores that are free.
_ANY_CORE = 1


class TvmTimer:
    """Runs a compiled network and tells how long each of its layers took."""

    by_node = False

    def __init__(self, module: TvmModule, flat_inputs: Sequence[Any]) -> None:
        """Load a module and its inputs."""
        self.module = module
        self.arguments = module.arguments(flat_inputs)
        # A machine of its own: the instrument slows down every run.
        self.machine = relax.VirtualMachine(module.executable, tvm.cpu())
        self.machine.set_instrument(self._note)
        self.spent: dict[str, float] = {}
        self.started = 0.0
        self.runs: list[dict[str, float]] = []

    def profile(self) -> None:
        """Run the network once, each of its layers timed."""
        self.runs.append(self.layers())

    def times(self) -> dict[str, list[float]]:
        """Return the seconds of every layer in every run of ``profile``."""
        names = {name for run in self.runs for name in run}
        return {name: [run.get(name, 0.0) for run in self.runs] for name in sorted(names)}

    def layers(self) -> dict[str, float]:
        """Return the seconds of each layer in one run; what belongs to none goes by the name of its function."""
        self.spent = {}
        with one_thread():
            self.machine["main"](*self.arguments)
        return self.spent

    def whole(self) -> float:
        """Return the seconds of one run of the whole network, without any instrument."""
        main = self.module.runner["main"]
        with one_thread():
            begun = time.thread_time()
            main(*self.arguments)
            return time.thread_time() - begun

    def _note(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> None:
        """Take the time before and after a kernel."""
        now = time.thread_time()
        if before:
            self.started = now
            return
        layer = self.module.layers.get(name, name)
        self.spent[layer] = self.spent.get(layer, 0.0) + now - self.started


@contextmanager
def one_thread() -> Iterator[None]:
    """Run TVM's kernels on the calling thread for the time of a block."""
    threads, configure = tvm.get_global_func("runtime.NumThreads")(), tvm.get_global_func("runtime.config_threadpool")
    if threads == 1:
        yield
        return
    configure(_ANY_CORE, 1)
    try:
        yield
    finally:
        configure(_ANY_CORE, threads)
