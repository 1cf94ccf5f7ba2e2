"""Time ONNX Runtime on one thread: single operators, and a network layer by layer."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

# The opset of the operators that are timed alone.
_OPSET = 20
_SUFFIX = "_kernel_time"
# Runs from which the share of an operator in the time of a run is taken.
_SHARE_RUNS = 5
# What ONNX Runtime adds to the name of a convolution that it lays out in blocks of channels.
_BLOCKED = "_nchwc"
# The operators that give a kernel its layer; what is fused with them does not.
_HOT = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def session_options() -> onnxruntime.SessionOptions:
    """Return the options of a session on the calling thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


@dataclass(frozen=True, eq=False)
class OperatorRun:
    """A run of one operator.

    Attributes:
        run: Runs it.
        share: Its share of the run's time: changes of layout around it take the rest.
        touch: Goes through its inputs and its output, which are in the caches when a network comes to it.
        weight_bytes: Of its weights.
    """

    run: Callable[[], None]
    share: float
    touch: Callable[[], None]
    weight_bytes: int


def convolution_run(kernel: int, pixels: int, cin: int, cout: int, groups: int = 1) -> OperatorRun:
    """Return a run of a square convolution; ``kernel`` counts taps, ``pixels`` those of the output."""
    side, edge = math.isqrt(kernel), math.isqrt(pixels)
    weights = {"w": _random(cout, cin // groups, side, side), "b": _random(cout)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=groups, pads=[side // 2] * 4)
    return _run([node], {"x": _random(1, cin, edge, edge)}, weights, (1, cout, edge, edge))


def linear_run(rows: int, cin: int, cout: int) -> OperatorRun:
    """Return a run of a linear layer."""
    weights = {"w": _random(cout, cin), "b": _random(cout)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    return _run([node], {"x": _random(rows, cin)}, weights, (rows, cout))


def vector_run(elements: int, additions: int = 1) -> OperatorRun:
    """Return a run of an addition, or of several one after another."""
    sums = ["x", *(f"sum{number}" for number in range(1, additions)), "y"]
    nodes = [helper.make_node("Add", [before, "z"], [after]) for before, after in itertools.pairwise(sums)]
    return _run(nodes, {"x": _random(1, elements), "z": _random(1, elements)}, {}, (1, elements))


def _random(*shape: int) -> np.ndarray[Any, Any]:
    """Return normal numbers."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _run(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray[Any, Any]],
    weights: Mapping[str, np.ndarray[Any, Any]],
    shape: Sequence[int],
) -> OperatorRun:
    """Return a run of operators on tensors that stay in their places."""
    graph = helper.make_graph(
        nodes,
        "kernel",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    content = model.SerializeToString()
    session = _opened(content, session_options())
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    output = np.zeros(shape, np.float32)
    # On a processor both share their memory.
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(output))

    def touch() -> None:
        for array in inputs.values():
            array.sum()
        output.fill(0)

    weight_bytes = sum(array.nbytes for array in weights.values())
    share = _share(content, dict(inputs))
    return OperatorRun(lambda: session.run_with_iobinding(binding), share, touch, weight_bytes)


def _share(content: bytes, feeds: dict[str, np.ndarray[Any, Any]]) -> float:
    """Return the longest node's share of the time of all, each in its shortest run."""
    with tempfile.TemporaryDirectory(prefix="smartc-") as folder:
        options = session_options()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = _opened(content, options)
        for _ in range(_SHARE_RUNS):
            session.run(None, feeds)
        shortest: dict[str, float] = {}
        for event in _node_events(session):
            name = event["name"]
            shortest[name] = min(shortest.get(name, math.inf), event["dur"])
    total = sum(shortest.values())
    return max(shortest.values()) / total if len(shortest) > 1 and total else 1.0


def _node_events(session: onnxruntime.InferenceSession) -> list[dict[str, Any]]:
    """Return what a session that is profiled noted of its nodes; it runs no more."""
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]


def _opened(content: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Return a session on the processor."""
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxTimer:
    """Runs an ONNX model and tells how long each of its layers took."""

    by_node = True

    def __init__(self, content: bytes, flat_inputs: Sequence[Any]) -> None:
        """Load a model, once to be timed as a whole and once to be timed by its nodes."""
        self.graph = onnx.load_model_from_string(content).graph
        self.session = _opened(content, session_options())
        arrays = [leaf.detach().numpy() for leaf in flat_inputs if isinstance(leaf, torch.Tensor)]
        names = [spec.name for spec in self.session.get_inputs()]
        self.feeds = dict(zip(names, arrays, strict=True))
        self.folder = tempfile.TemporaryDirectory(prefix="smartc-")
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self.folder.name) / "profile")
        options.optimized_model_filepath = str(Path(self.folder.name) / "optimised.onnx")
        self.profiled = _opened(content, options)
        self.busy: list[float] = []  # processor time of each run

    def whole(self) -> float:
        """Return the seconds of processor time of one run of the whole network."""
        begun = time.thread_time()
        self.session.run(None, self.feeds)
        return time.thread_time() - begun

    def profile(self) -> None:
        """Run the network once, each of its nodes timed."""
        begun = time.thread_time()
        self.profiled.run(None, self.feeds)
        self.busy.append(time.thread_time() - begun)

    def times(self) -> dict[str, list[float]]:
        """Return the seconds of every node in every run of ``profile``, by the node of the model that it computes.

        What computes no node of the model, such as a change of layout, goes under an empty name.  There are
        no runs after this.
        """
        timed = _node_events(self.profiled)
        optimised = onnx.load(Path(self.folder.name) / "optimised.onnx", load_external_data=False)
        kernels = kernel_nodes(self.graph, optimised.graph, {event["name"].removesuffix(_SUFFIX) for event in timed})
        self.folder.cleanup()
        runs: Counter[str] = Counter()
        spent = {node: np.zeros(len(self.busy)) for node in sorted({*kernels.values(), ""})}
        for event in timed:
            name = event["name"].removesuffix(_SUFFIX)
            spent[kernels.get(name, "")][runs[name]] += event["dur"] * 1e-6
            runs[name] += 1
        table = without_pauses(np.stack(list(spent.values()), axis=1), np.array(self.busy))
        return {node: table[:, place].tolist() for place, node in enumerate(spent)}


def without_pauses(times: np.ndarray[Any, Any], busy: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return times of nodes by the clock less those in which the processor did something else.

    ONNX Runtime's profiler knows the wall's clock only.  By how much a run lasted longer than it kept the
    processor busy is known, and is taken off the nodes that lasted longest beyond what they take elsewhere.

    Args:
        times: Seconds, shape (runs, nodes).
        busy: Seconds of processor time, shape (runs,).
    """
    # Where others keep the processor busy, a long node is interrupted in most of the runs.
    usual = times.min(axis=0)
    result = times.copy()
    for run, seconds in zip(result, busy, strict=True):
        pause = float(run.sum() - seconds)
        excess = np.maximum(run - usual, 0.0)
        for node in np.argsort(-excess):
            taken = min(pause, float(excess[node]))
            if taken <= 0:
                break
            run[node] -= taken
            pause -= taken
    return result


def kernel_nodes(graph: onnx.GraphProto, optimised: onnx.GraphProto, kernels: set[str]) -> dict[str, str]:
    """Return for kernels of ONNX Runtime, by their names, the name of the node of the model that each computes.

    A kernel that computes several is named after the one with a weight, or the last.  Kernels that
    compute none are left out.
    """
    producers = {output: node for node in graph.node for output in node.output}
    names = {node.name: node for node in graph.node}
    outputs = {node.name: list(node.output) for node in optimised.node}
    ends: dict[str, str] = {}
    # A change of layout after a kernel gives the value that the kernel is named after: the name comes first.
    for kernel in sorted(kernels):
        candidates = [*(names[kernel].output if kernel in names else ()), kernel.removesuffix(_BLOCKED)]
        ends |= {value: kernel for value in candidates[:1] if value in producers}
    for kernel in sorted(kernels - set(ends.values())):
        free = (value for value in outputs.get(kernel, ()) if value in producers and value not in ends)
        ends |= dict.fromkeys(list(free)[:1], kernel)
    found = {kernel: producers[end].name for end, kernel in ends.items()}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    for node in graph.node:
        end = _end_of(node, readers, ends)
        if node.op_type in _HOT and end is not None:
            found[ends[end]] = node.name
    return found


def _end_of(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], ends: Mapping[str, str]) -> str | None:
    """Return the value that the kernel which computes a node ends in."""
    while True:
        value = next((output for output in node.output if output in ends), None)
        if value is not None:
            return value
        after = [reader for output in node.output for reader in readers.get(output, [])]
        if len(after) != 1:
            return None
        node = after[0]
