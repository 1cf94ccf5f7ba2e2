"""A measurement: what each layer takes in the dense network and in what it was compiled to, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from smartc.analysis.find_layers import Layers
from smartc.lowering.lower import Lowered, Timer
from smartc.measuring.layer_times import LayerNames
from smartc.measuring.timing import Timing, rounds_for
from smartc.proof.reference import seeded_inputs

# One sample at a time, unless the model fixes its batch.
BATCH = 1
DENSE = "dense ONNX Runtime"
# The file whose code skips zero blocks.
TVM_FILE = "model.so"


@dataclass(frozen=True)
class NetworkTimes:
    """What a network takes on one thread.

    Attributes:
        layers: By the names of the report's rows.
        rest: What the runtime does besides.
        total: The whole; no less than the sum of the layers.
    """

    layers: Mapping[str, Timing]
    rest: Timing
    total: Timing

    def of(self, names: list[str]) -> Timing | None:
        """Return what some layers take together; None where one of them was not found in the network."""
        if not names or not all(name in self.layers for name in names):
            return None
        found = [self.layers[name] for name in names]
        return Timing(sum(one.ms for one in found), sum(one.spread for one in found))


@dataclass(frozen=True)
class Measurement:
    """What the dense network takes, and what each file takes; the report is on one of the files."""

    dense: NetworkTimes
    files: Mapping[str, NetworkTimes]
    file: str

    @property
    def compiled(self) -> NetworkTimes:
        """Return the times of the file that the report is on."""
        return self.files[self.file]

    @property
    def packed(self) -> NetworkTimes:
        """Return the times of the file that skips zero blocks; of the one that the report is on where there is none."""
        return self.files.get(TVM_FILE, self.compiled)

    def only(self, names: Collection[str]) -> Measurement | None:
        """Return the measurement of some of the files, on the fastest where its own is not one; None of none."""
        files = {name: times for name, times in self.files.items() if name in names}
        if not files:
            return None
        fastest = min(files, key=lambda name: files[name].total.ms)
        return Measurement(self.dense, files, self.file if self.file in files else fastest)


@dataclass(frozen=True, eq=False)
class Dense:
    """The network to compare with.

    Attributes:
        load: Loads it with inputs in ONNX Runtime.
        layers: Its layers.
        inputs: Flattened, for one run.
    """

    load: Callable[[tuple[Any, ...]], Timer]
    layers: Layers
    inputs: tuple[Any, ...]


def measure(
    dense: Dense, lowered: Mapping[str, Lowered], layers: Layers
) -> tuple[NetworkTimes, dict[str, NetworkTimes]]:
    """Return what the dense network takes, and each of the files.

    Args:
        dense: The network to compare with.
        lowered: Files that can be timed, by name.
        layers: Those of the network that was lowered.
    """
    loaded: dict[str, Timer] = {DENSE: dense.load(dense.inputs)}
    for name, part in lowered.items():
        assert part.timer is not None
        loaded[name] = part.timer(dense.inputs)
    wholes = _run_in_turns(loaded)
    names = {name: LayerNames(dense.layers if name == DENSE else layers) for name in loaded}
    times = {name: _network(timer, names[name], wholes[name]) for name, timer in loaded.items()}
    return times.pop(DENSE), times


def _run_in_turns(loaded: Mapping[str, Timer]) -> dict[str, list[float]]:
    """Run every network, whole and layer by layer, and return the seconds of the whole ones."""
    wholes: dict[str, list[float]] = {name: [] for name in loaded}
    begun = time.perf_counter()
    for timer in loaded.values():
        timer.whole()
        timer.profile()
    for _ in range(rounds_for(time.perf_counter() - begun)):
        for name, timer in loaded.items():
            wholes[name].append(timer.whole())
            timer.profile()
    return wholes


def _network(timer: Timer, names: LayerNames, wholes: list[float]) -> NetworkTimes:
    """Return the times of a network that has run, its first run left out."""
    spent, rest = names.times({name: runs[1:] for name, runs in timer.times().items()}, by_node=timer.by_node)
    layers = {name: Timing.of(runs) for name, runs in spent.items()}
    inside, total, other = sum(one.ms for one in layers.values()), Timing.of(wholes), Timing.of(rest or [0.0])
    if total.ms < inside:
        # Taking the time of each layer takes time itself, and other programs interrupt it; the whole is processor time.
        share = total.ms / inside
        layers = {name: Timing(one.ms * share, one.spread * share) for name, one in layers.items()}
        return NetworkTimes(layers, Timing(0.0, other.spread), total)
    return NetworkTimes(layers, Timing(total.ms - inside, other.spread), total)


def timing_inputs(model: Any) -> tuple[Any, ...]:
    """Return flattened inputs in float32 for one run of a model."""
    single = seeded_inputs(model, batch=BATCH)
    return tuple(
        value.to(torch.float32) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for value in single
    )
