"""Compile the networks that people use, from timm, transformers, pytorchcv and torchvision, and say what came out.

    python benchmarks/coverage.py [--family timm] [--only PATTERN] [--record FILE]
    python benchmarks/coverage.py --page docs/coverage.md [--record FILE]

Each network is compiled for npu-8x8 at half of its prunable channels and compared in float64 with its masked
original at three batch sizes, or at its own where that is fixed; and once in float32.  A line goes into the record,
results/coverage.jsonl by default, after each; what stands there already is not compiled again.  With ``--page`` the
record is written as a table.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import smartc
from benchmarks.coverage_networks import FAMILIES, Build
from smartc.core.errors import first_line
from tests.support.oracle import FLOAT32_TOLERANCE, TOLERANCE, batch_size, masked_original, relative_error, with_batch

RECORD = Path(__file__).parent / "results" / "coverage.jsonl"
# Beyond the tolerance but still rounding: the network computes a part in float32, or divides by something small.
ROUNDING = 1e-5
VERDICTS = ("exact", "rounding", "unchanged", "refused", "wrong", "crash")


def judge(build: Build, sparsity: float) -> dict[str, Any]:
    """Return what became of one network, as a row of the record."""
    try:
        module, inputs = build()
    except Exception as failure:  # of the package, not of smartc
        return {"verdict": "not built", "why": first_line(failure)}
    started = time.process_time()
    try:
        compiled = smartc.compile(module, inputs, target="npu-8x8", sparsity=sparsity, backends=())
    except smartc.UserError as refusal:
        return {"verdict": "refused", "why": first_line(refusal), "seconds": time.process_time() - started}
    except Exception as failure:
        return {"verdict": "crash", "why": f"{type(failure).__name__}: {first_line(failure)}"}
    row: dict[str, Any] = {"seconds": round(time.process_time() - started, 2), "heads": _heads(compiled)}
    dense, left = (sum(p.numel() for p in one.parameters()) for one in (module, compiled.module))
    row |= {"parameters": dense, "left": round(left / dense, 3), "error32": _single(module, inputs, compiled)}
    row["own32"] = _own_rounding(module, inputs)
    try:
        row["error"] = _double(module, inputs, compiled)
    except RuntimeError as failure:  # a network that does not run in float64 itself
        row |= {"error": row["error32"], "note": first_line(failure)}
    row["verdict"] = _verdict(row, left < dense)
    row["why"] = _main_reason(compiled) if row["verdict"] == "unchanged" else ""
    return row


def _verdict(row: dict[str, Any], smaller: bool) -> str:
    """Return a word for the errors and the reduction."""
    if row["error"] > ROUNDING or row["error32"] > 100 * max(FLOAT32_TOLERANCE, row["own32"]):
        return "wrong"
    if not smaller:
        return "unchanged"
    return "exact" if row["error"] <= TOLERANCE else "rounding"


def _double(module: nn.Module, inputs: tuple[Any, ...], compiled: Any) -> float:
    """Return the largest relative error in float64, over three batch sizes where the batch is free."""
    masked = masked_original(module, compiled.plan.to_dict())
    removed = compiled.model.to(torch.float64).graph_module
    own = batch_size(inputs)
    with torch.no_grad():
        found = [with_batch(inputs, batch) for batch in ((own, 1, 3) if compiled.model.dynamic_batch else (own,))]
        return max(relative_error(masked(*some), removed(*some)) for some in found)


def _own_rounding(module: nn.Module, inputs: tuple[Any, ...]) -> float:
    """Return how far the network itself is in float32 from what it is in float64: some of random weights underflow."""
    double = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    with torch.no_grad():
        return relative_error(masked_original(module, {"tensors": {}})(*double), module(*inputs))


def _single(module: nn.Module, inputs: tuple[Any, ...], compiled: Any) -> float:
    """Return the relative error of the compiled float32 network from the masked original in float64."""
    double = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    with torch.no_grad():
        return relative_error(masked_original(module, compiled.plan.to_dict())(*double), compiled.module(*inputs))


def _heads(compiled: Any) -> bool:
    """Return whether a product of two activations has fewer heads or channels than before."""
    products = [layer for layer in compiled.report.layers if layer.op in ("matmul", "bmm", "einsum")]
    return any(layer.compiled.macs < layer.dense.macs for layer in products)


def _main_reason(compiled: Any) -> str:
    """Return the reason that most of the layers with weights stay for."""
    reasons = Counter(layer.reason for layer in compiled.report.layers if layer.dense.weight_bytes)
    return reasons.most_common(1)[0][0] if reasons else "no layer has weights"


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a record by family and name; none where there is no file."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {f"{row['family']}/{row['network']}": row for row in rows}


def page(rows: list[dict[str, Any]]) -> str:
    """Return the record as a page: the counts of each family, and a line for each network."""
    lines = ["# Which networks it compiles", "", _INTRODUCTION, "", f"| family | networks | {' | '.join(VERDICTS)} |"]
    lines.append("|---" * (len(VERDICTS) + 2) + "|")
    for family in dict.fromkeys(row["family"] for row in rows):
        own = Counter(row["verdict"] for row in rows if row["family"] == family)
        counts = " | ".join(str(own[verdict]) for verdict in VERDICTS)
        lines.append(f"| {family} | {sum(own[verdict] for verdict in VERDICTS)} | {counts} |")
    lines += ["", "| network | parameters | left | heads | error | seconds | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if row["verdict"] in VERDICTS:
            lines.append(_line(row))
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    """Return one network's line of the table."""
    what = row["verdict"] if row["verdict"] != "exact" else ""
    why = f"{what}: {row['why']}" if row.get("why") else what
    figures = (
        f"{row.get('parameters', 0) / 1e6:.2f} M" if "parameters" in row else "",
        f"{row['left']:.2f}" if "left" in row else "",
        "fewer" if row.get("heads") else "",
        f"{row['error']:.0e}" if "error" in row else "",
        f"{row['seconds']:.1f}" if "seconds" in row else "",
        why.replace("|", "/"),
    )
    return f"| {row['family']} `{row['network']}` | {' | '.join(figures)} |"


_INTRODUCTION = """Networks with random weights, each compiled for `npu-8x8` with half of its prunable channels to go,
without any edit or hint, and compared with its masked original: in float64 (the error below; three batch sizes where
the batch is free) and in float32.  *Left* is the share of all parameters that is left, embeddings and classifiers among
them; heads are fewer where a product of activations is smaller.  *Rounding* is the verdict on networks that compute a
part in float32 whatever their type.  Transformers are made small from their configurations.  Generated by
`benchmarks/coverage.py`; processor seconds of one thread."""


def main(arguments: list[str] | None = None) -> int:
    """Compile what the arguments choose; return 1 if any of it is wrong or crashes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=FAMILIES, help="only these networks")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="only names that match")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of prunable channels to remove")
    parser.add_argument("--limit", type=int, default=600, metavar="SECONDS", help="longest time for one network")
    parser.add_argument("--record", type=Path, default=RECORD, metavar="FILE", help="where lines are kept")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the record as a page, and compile nothing")
    options = parser.parse_args(arguments)
    if options.page:
        options.page.write_text(page(list(recorded(options.record).values())), "utf-8")
        return 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    rows = [_compiled(family, name, build, options) for family, name, build in _chosen(options)]
    return int(any(row["verdict"] in ("wrong", "crash") for row in rows))


def _chosen(options: argparse.Namespace) -> list[tuple[str, str, Build]]:
    """Return the networks that the options ask for and the record lacks."""
    known = recorded(options.record)
    return [
        (family, name, build)
        for family, networks in FAMILIES.items()
        for name, build in networks.items()
        if options.family in (None, family) and fnmatch.fnmatch(name, options.only) and f"{family}/{name}" not in known
    ]


def _compiled(family: str, name: str, build: Build, options: argparse.Namespace) -> dict[str, Any]:
    """Compile one network, print and record its row, and return it."""
    torch.manual_seed(0)
    signal.alarm(options.limit)
    try:
        row = {"family": family, "network": name} | judge(build, options.sparsity)
    except TimeoutError as failure:
        row = {"family": family, "network": name, "verdict": "refused", "why": str(failure)}
    signal.alarm(0)
    print(json.dumps(row), flush=True)
    with options.record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return row


def _stop(signum: int, frame: Any) -> None:
    """End a network that takes longer than its limit."""
    raise TimeoutError("took longer than --limit")


if __name__ == "__main__":
    sys.exit(main())
