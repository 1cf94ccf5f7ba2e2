"""A report as compiling a small residual network would give it, with figures from a plain cost model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from smartc.results.report import (
    Agreement,
    BudgetResult,
    Causes,
    Change,
    Evaluation,
    Figures,
    Latency,
    Layer,
    Learning,
    LearningMoment,
    Report,
    ReportRemark,
    Summary,
    Verification,
)

TILE = 8
CYCLES_PER_MS = 500e3
BYTES_PER_CYCLE = 8

REMOVED = "half of the channels have the smallest scores"
RESIDUAL = "its channels are summed with the shortcut's"
NO_GAIN = "a smaller cut saves no whole tile of 8"
OUTPUT = "is a model output"
NO_WEIGHT = ""


@dataclass(frozen=True)
class _Layer:
    """A layer to be priced: channels (before, after) and the side of its square output."""

    name: str
    op: str
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    side: int
    kernel: int
    decision: Literal["channel", "block", "n:m", "dense", "frozen"]
    reason: str

    def priced(self) -> Layer:
        """Return the layer with its figures before and after."""
        before = _figures(self, self.inputs[0], self.outputs[0])
        after = _figures(self, self.inputs[1], self.outputs[1])
        return Layer(self.name, self.op, self.decision, self.reason, before, after)


def _figures(layer: _Layer, cin: int, cout: int) -> Figures:
    """Price one side: the slowest of computing and moving, and a launch."""
    pixels = layer.side**2
    shape = (1, cout, layer.side, layer.side) if layer.op != "linear" else (1, cout)
    if layer.op == "flatten":
        return Figures((1, cout), None, 0, 0, 0.0, 0.0, "none", 0.0, None, Causes(0, 0, 0, 0, 0))
    moved = pixels * (cin + cout) / BYTES_PER_CYCLE
    if not layer.kernel:
        causes = Causes(0.0, pixels * cout / 32, 0.0, moved, 20.0)
        cycles = max(causes.output, moved) + 20
        return Figures(shape, None, 0, 0, cycles, cycles / CYCLES_PER_MS, "memory", 0.0, None, causes)
    taps = layer.kernel**2
    tiles = taps * math.ceil(cin / TILE) * math.ceil(cout / TILE)
    macs = taps * cin * cout * pixels
    weight = (cout, cin, layer.kernel, layer.kernel) if layer.op != "linear" else (cout, cin)
    causes = Causes(tiles * max(pixels, 8.0), pixels * cout / 8, tiles * 8.0, moved, 50.0)
    slowest = max(causes.compute, causes.output, causes.weights, causes.activations)
    bound = "compute" if slowest == causes.compute else "memory"
    cycles = slowest + causes.overhead
    used = macs / (cycles * TILE**2)
    ms = cycles / CYCLES_PER_MS
    return Figures(shape, weight, macs, tiles * 64, cycles, ms, bound, used, (tiles, tiles), causes)


def _block(stage: int, index: int, inputs: tuple[int, int], width: tuple[int, int], side: int) -> Iterator[_Layer]:
    """Yield the layers of one residual block."""
    name = f"layer{stage}.{index}"
    inner = (width[0], width[0] // 2)
    yield _Layer(f"{name}.conv1", "conv2d", inputs, inner, side, 3, "channel", REMOVED)
    yield _Layer(f"{name}.relu", "relu", inner, inner, side, 0, "dense", NO_WEIGHT)
    yield _Layer(f"{name}.conv2", "conv2d", inner, width, side, 3, "channel", RESIDUAL)
    if inputs != width:
        yield _Layer(f"{name}.downsample.0", "conv2d", inputs, width, side, 1, "channel", RESIDUAL)
    yield _Layer(f"{name}.add", "add", width, width, side, 0, "dense", NO_WEIGHT)


def _network(blocks: int) -> Iterator[_Layer]:
    """Yield the layers of a residual network of three stages."""
    width = (16, 16)
    yield _Layer("conv1", "conv2d", (1, 1), width, 28, 3, "dense", NO_GAIN)
    yield _Layer("maxpool", "max_pool2d", width, width, 28, 0, "dense", NO_WEIGHT)
    for stage, side in enumerate((28, 14, 7), start=1):
        after = (16 * 2 ** (stage - 1), 16 if stage == 1 else 12 * 2 ** (stage - 1))
        for index in range(blocks):
            yield from _block(stage, index, width, after, side)
            width = after
    yield _Layer("avgpool", "adaptive_avg_pool2d", width, width, 1, 0, "dense", NO_WEIGHT)
    yield _Layer("flatten", "flatten", width, width, 1, 0, "dense", NO_WEIGHT)
    yield _Layer("fc", "linear", width, (10, 10), 1, 1, "frozen", OUTPUT)


def residual_report(blocks: int = 3) -> Report:
    """Return the report of a network with 3 x ``blocks`` residual blocks on a simulated npu-8x8."""
    layers = tuple(layer.priced() for layer in _network(blocks))
    dense, compiled = [layer.dense for layer in layers], [layer.compiled for layer in layers]
    weights = Change(sum(f.weight_bytes for f in dense), sum(f.weight_bytes for f in compiled))
    latency = Latency("simulated", "ms", sum(f.ms for f in dense), sum(f.ms for f in compiled), None)
    return Report(
        schema=1,
        smartc="0.1.0",
        model="resnet20.pt2",
        target="npu-8x8",
        provenance="generic",
        assumption="The target is taken to skip 8 x 8 weight tiles that are all zero.",
        latency=replace(latency, without_skipping=1.1 * latency.compiled),
        budget=BudgetResult("sparsity", "0.5", "0.497 of the prunable channels"),
        summary=Summary(
            parameters=weights,
            macs=Change(sum(f.macs for f in dense), sum(f.macs for f in compiled)),
            weight_bytes=weights,
            prunable_channels=688,
            removed_channels=342,
            target_macs_peak=64,
        ),
        layers=layers,
        verify=(
            Verification("removed", 3.1e-14, 4.4e-16, 1e-10, "8 seeded inputs"),
            Verification("onnx", 2.1e-6, 3.9e-7, 1e-4, "256 calibration images"),
        ),
        agreement=Agreement(256, "calibration images", 0.964, 0.99231, 0.413),
        evaluation=Evaluation("fashion-mnist-test.npz", "accuracy", 1000, 0.917, 0.9053),
        remarks=(ReportRemark("layer2.0.conv1", "its input is read twice"),),
        artifacts={"model.onnx": 142_336, "model.pt2": 151_009, "plan.json": 20_113},
        seconds={"analysis": 0.0213, "planning": 0.184, "removal": 0.0412, "lowering": 2.31},
    )


def learned(layers: int = 9, steps: int = 200, moments: int = 100) -> Learning:
    """Return how masks over so many layers were learned: they harden at three quarters of the steps."""
    search = steps * 3 // 4
    curve = tuple(_moment(round(index * steps / moments), search, layers) for index in range(moments))
    return Learning(
        learner="smart",
        objective="distillation",
        source="photos/",
        samples=640,
        steps=steps,
        search_steps=search,
        batch=64,
        seed=7,
        precision="bfloat16",
        fractional=0.0031,
        layers=tuple(f"layer{index // 6 + 1}.{index // 2 % 3}.conv{index % 2 + 1}" for index in range(layers)),
        curve=curve,
    )


def _moment(step: int, search: int, layers: int) -> LearningMoment:
    """Return a moment: the temperature falls a hundredfold, each layer goes to a share of its own."""
    progress = min(step / search, 1.0)
    loss = 0.3 + 2.1 * math.exp(-4 * progress) + 0.05 * math.sin(step)
    density = tuple(1 - progress * (0.15 + 0.8 * abs(math.sin(index))) for index in range(layers))
    heat = 10 ** (-2.3 * progress) if step < search else None
    return LearningMoment(step, loss, heat, 0.97 * (1 - progress) ** 2 if step < search else 0.0, density)
