"""CPU time of TVM's block-sparse code against dense ONNX Runtime and others, in one process.

Random blocks of every convolution and linear layer with at least eight input channels are zero.  Rounds are
interleaved and medians printed: milliseconds, the ratio to dense ONNX Runtime, and the share of the ideal ratio,
one over the density.

    python benchmarks/runtime.py layers [--densities 1 0.5 0.3 0.1] [--block 8x8] [--rounds 15] [--others]
    python benchmarks/runtime.py resnet50 mobilenet_v2 vgg16 timm.vit_tiny_patch16_224 bert [--others]

The others are torch.compile, dense, and for single layers TVM's default lowering, dense, and PyTorch's own sparse
blocks (BSR) at each density.  ``--out FILE`` appends every row to a file of JSON lines.
Set TVM_NUM_THREADS and OMP_NUM_THREADS to the same number; with one thread the processor's time is taken, with
more the wall's.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import tvm
from torch import Tensor, nn
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import smartc
from benchmarks.runtime_networks import cases, settled, sparse
from smartc.ir.traced_model import TracedModel
from smartc.kernels.machine import machine_for
from smartc.lowering.to_onnx import to_onnx
from smartc.lowering.to_program import to_program
from smartc.lowering.to_tvm import to_tvm
from smartc.passes.fold_batch_norm import FoldBatchNorm
from smartc.passes.shared.base import run_passes
from tests.support.torchvision_models import declare_missing_operators

Run = Callable[[], Any]
THREADS = int(os.environ.get("TVM_NUM_THREADS", "1"))


def main() -> None:
    """Time every layer or network asked for and print a line for each density."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="+", help="'layers', 'bert', a torchvision network or timm.NAME")
    parser.add_argument("--densities", nargs="+", type=float, default=[1.0, 0.7, 0.5, 0.3, 0.1])
    parser.add_argument("--block", default="8x8", help="output by input channels of a block")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--others", action="store_true", help="time torch.compile too, and for layers TVM's default and BSR"
    )
    parser.add_argument("--out", type=Path, help="append the rows to this file, as JSON lines")
    options = parser.parse_args()
    declare_missing_operators()
    torch.set_num_threads(THREADS)
    title = f"{'network':<28}{'density':>14}{'ms':>10}{'ONNX Runtime':>14}{'ratio':>8}{'of ideal':>10}"
    print(f"{title}  {THREADS} thread(s)")
    for subject in options.subjects:
        for name, module, x in cases(subject):
            _compare(name, module, x, options)


def _compare(name: str, module: nn.Module, x: Tensor, options: argparse.Namespace) -> None:
    """Time one network at every density."""
    module = settled(module, x)
    runs = {"dense": _onnx(module, x)}
    single = isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d)
    if options.others:
        runs["torch.compile"] = _compiled(module, x)
    if options.others and single:
        runs["TVM default"] = _tvm_default(module, x)
    for density in options.densities:
        blocks = settled(sparse(module, density, options.block), x)
        runs[str(density)] = _tvm(blocks, x)
        if options.others and single:
            runs[f"BSR {density}"] = _bsr(blocks[0], x, options.block)
    spent = _medians(runs, options.rounds)
    for label, seconds in spent.items():
        if label != "dense":
            _report(Row(name, label, options.block, THREADS, seconds * 1e3, spent["dense"] * 1e3), options.out)


@dataclass(frozen=True)
class Row:
    """What was measured of one network in one form.

    Attributes:
        subject: The network or layer.
        form: A density of our kernels' weights, or the name of another form.
        block: Output by input channels of a block.
        milliseconds: Of one run, the median.
        onnx_runtime: Of one run of the dense network in ONNX Runtime.
    """

    subject: str
    form: str
    block: str
    threads: int
    milliseconds: float
    onnx_runtime: float


def _report(row: Row, out: Path | None) -> None:
    """Print a row, and append it to a file."""
    ratio, density = row.onnx_runtime / row.milliseconds, row.form.split()[-1]
    ideal = f"{ratio * float(density):>10.0%}" if density[0].isdigit() else ""
    line = f"{row.subject:<28}{row.form:>14}{row.milliseconds:>10.3f}{row.onnx_runtime:>14.3f}{ratio:>8.2f}{ideal}"
    print(line, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def _medians(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the median seconds of each, one round that warms up left out."""
    clock = time.process_time if THREADS == 1 else time.perf_counter
    spent: dict[str, list[float]] = {label: [] for label in runs}
    for number in range(rounds + 1):
        for label, run in runs.items():
            # Once unmeasured: the code before it has filled the caches with weights of its own.
            run()
            start = clock()
            run()
            if number:
                spent[label].append(clock() - start)
    return {label: statistics.median(seconds) for label, seconds in spent.items()}


def _trace(module: nn.Module, x: Tensor) -> TracedModel:
    """Return a module captured for any batch."""
    return smartc.trace(module, (torch.cat([x, x]),))


def _onnx(module: nn.Module, x: Tensor) -> Run:
    """Return a run of the dense network in ONNX Runtime."""
    model = run_passes(_trace(module, x), (FoldBatchNorm(),)).model
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    content = to_onnx(model, to_program(model), {"version": smartc.__version__}).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feeds)


def _compiled(module: nn.Module, x: Tensor) -> Run:
    """Return a run of the dense network by torch.compile."""
    compiled = torch.compile(module)

    def run() -> Any:
        with torch.no_grad():
            return compiled(x)

    return run


def _tvm_default(module: nn.Module, x: Tensor) -> Run:
    """Return a run of the dense layer as TVM lowers it by itself."""
    program = torch.export.export(module, (x,))
    lowered = from_exported_program(program, keep_params_as_input=False, unwrap_unit_return_tuple=True)
    target = machine_for(None).target
    with target:
        executable = relax.build(lowered, target, relax_pipeline=relax.get_default_pipeline(target))
    runner, argument = relax.VirtualMachine(executable, tvm.cpu()), tvm.runtime.tensor(x.numpy())
    _check([runner["main"](argument).numpy()], module, x)
    return lambda: runner["main"](argument)


@torch.no_grad()
def _bsr(layer: nn.Module, x: Tensor, block: str) -> Run:
    """Return a run of a convolution and a ReLU as a product of PyTorch's sparse blocks with shifted images."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    weight, bias, kernel = layer.weight, layer.bias[:, None], layer.kernel_size[0]
    rows, columns = (int(size) for size in block.split("x"))
    packed = weight.permute(0, 2, 3, 1).reshape(len(weight), -1).to_sparse_bsr((rows, columns))
    height, width = x.shape[2:]

    def run() -> Tensor:
        with torch.no_grad():
            padded = nn.functional.pad(x[0], (kernel // 2,) * 4)
            shifted = [padded[:, y : y + height, z : z + width] for y in range(kernel) for z in range(kernel)]
            return torch.relu(packed @ torch.cat(shifted).reshape(-1, height * width) + bias)

    _check([run().reshape(1, -1, height, width).numpy()], nn.Sequential(layer, nn.ReLU()), x)
    return run


def _tvm(module: nn.Module, x: Tensor) -> Run:
    """Return a run of a network in TVM, checked against PyTorch."""
    compiled = to_tvm(_trace(module, x))
    _check(compiled.run((x,)), module, x)
    main_function, arguments = compiled.runner["main"], compiled.arguments((x,))
    return lambda: main_function(*arguments)


@torch.no_grad()
def _check(outputs: Sequence[np.ndarray[Any, Any]], module: nn.Module, x: Tensor) -> None:
    """Check what was computed, before it is timed: deep networks amplify rounding, in PyTorch as much as here."""
    exact = copy.deepcopy(module).double()(x.double()).numpy()
    # Of a narrow network a tenth of the blocks, at random, may let nothing through: then all is zero.
    size = max(np.abs(exact).max(), np.finfo(np.float32).tiny)
    error, rounding = (np.abs(found - exact).max() / size for found in (outputs[0], module(x).numpy()))
    if not error < max(1e-5, 4 * rounding):
        raise SystemExit(f"the output is off by {error:.1e}, and PyTorch's by {rounding:.1e}")


if __name__ == "__main__":
    main()
