"""Imports go one way: core, then passes, targets and kernels, then what uses them, then the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"smartc": "smartc", "smartc.passes": "passes", "smartc.targets": "targets"}
LAYERS = (
    r"smartc\.(errors|model|records|packed_weight)",
    r"smartc\.(passes|targets|training_kernels|lowering\.tvm_kernels\.(machine|vector_math))(\..*)?",
    r"smartc\.(?!cli|__main__|commands|terminal).*",
    r"smartc\..*",
)
SPEAKING = re.compile(r"smartc\.(cli|commands\.\w+|terminal|reporting\.(terminal|layers))")
# A build is run by the runtime of what it was lowered to.
RUNTIMES = {
    "onnx": r"smartc\.lowering\.(to_onnx|packed_initializers|time_onnx)",
    "onnxscript": r"smartc\.lowering\.to_onnx",
    "onnx_graphsurgeon": r"smartc\.lowering\.to_onnx",
    "onnxruntime": r"smartc\.(lowering\.(to_onnx|time_onnx)|build_runner)",
    "tvm": r"smartc\.(lowering\.(to_tvm|time_tvm|tvm_kernels.*)|training_kernels\.\w+|build_runner)",
}


def modules() -> dict[str, ast.Module]:
    """Return every module but the package's door, by its import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"))
    return {name: tree for name, tree in found.items() if name != "smartc"}


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    """Return all that a module imports, at its top or later."""
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def layer(name: str) -> int:
    """Return the lowest layer that a module belongs to."""
    return next(place for place, pattern in enumerate(LAYERS) if re.fullmatch(pattern, name))


@pytest.mark.parametrize("name", MODULES)
def test_imports_nothing_above_itself(name: str) -> None:
    ours = {other for other in imports(MODULES[name]) if other.startswith("smartc.")}
    assert {other for other in ours if layer(other) > layer(name)} == set()


@pytest.mark.parametrize("name", MODULES)
def test_imports_a_runtime_only_where_it_is_lowered_to(name: str) -> None:
    heads = {other.partition(".")[0] for other in imports(MODULES[name])}
    assert {head for head in heads & RUNTIMES.keys() if not re.fullmatch(RUNTIMES[head], name)} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if not SPEAKING.fullmatch(name)])
def test_prints_nothing(name: str) -> None:
    names = {node.id for node in ast.walk(MODULES[name]) if isinstance(node, ast.Name)}
    heads = {other.partition(".")[0] for other in imports(MODULES[name])}
    assert "print" not in names
    assert "rich" not in heads
