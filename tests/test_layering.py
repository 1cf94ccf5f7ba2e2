"""Imports go one way: each folder may import those that are listed before it, and none that comes after."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"smartc": "smartc", "smartc.passes": "passes", "smartc.targets": "targets"}
# Every folder with code, a loose file counting as one, from what imports nothing of ours to what nothing imports.
ORDER = (
    "smartc.core",
    "smartc.ir.operators",
    "smartc.ir",
    "smartc.results",
    "smartc.kernels",
    "smartc.kernels.training",
    "smartc.kernels.inference",
    "smartc.targets",
    "smartc.analysis.channels",
    "smartc.analysis.channel_rules",
    "smartc.analysis",
    "smartc.masks",
    "smartc.passes.shared",
    "smartc.passes",
    "smartc.frontend",
    "smartc.packing",
    "smartc.data",
    "smartc.selection",
    "smartc.decision",
    "smartc.proof",
    "smartc.learning.soft_top_k",
    "smartc.learning.budgets",
    "smartc.learning.statistics",
    "smartc.learning.learners",
    "smartc.learning.objectives",
    "smartc.learning.reconstruction",
    "smartc.learning.training",
    "smartc.learning",
    "smartc.lowering",
    "smartc.measuring",
    "smartc.reporting",
    "smartc.resizing",
    "smartc.artifact",
    "smartc.request",
    "smartc.compile",
    "smartc.prepare",
    "smartc.cli",
    "smartc.__main__",
)
MOST_LOOSE_FILES = 6
SPEAKING = re.compile(r"smartc\.(cli\.\w+|reporting\.(terminal|layers))")
# A build is run by the runtime of what it was lowered to.
RUNTIMES = {
    "onnx": r"smartc\.lowering\.(to_onnx|packed_initializers|time_onnx)",
    "onnxscript": r"smartc\.lowering\.(to_onnx|onnx_recurrences)",
    "onnx_graphsurgeon": r"smartc\.lowering\.to_onnx",
    "onnxruntime": r"smartc\.(lowering\.(to_onnx|time_onnx)|artifact\.runner)",
    "tvm": r"smartc\.(lowering\.(to_tvm|time_tvm)|kernels\..*|artifact\.runner)",
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
    """Return all that a module imports, at its top or later, modules of ours by their own names."""
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    sources = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    named = {f"{node.module}.{name.name}" for node in sources for name in node.names}
    return plain | {str(node.module) for node in sources} | (named & MODULES.keys())


def room(name: str) -> str:
    """Return the folder of a module; a folder's own ``__init__`` belongs to it."""
    return name if name in ORDER else name.rpartition(".")[0]


def test_every_folder_has_its_place_in_the_order() -> None:
    assert len(set(ORDER)) == len(ORDER)
    assert {room(name) for name in MODULES} == set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_imports_nothing_that_comes_after(name: str) -> None:
    ours = {other for other in imports(MODULES[name]) if other.startswith("smartc.")}
    assert {other for other in ours if ORDER.index(room(other)) > ORDER.index(room(name))} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name != "smartc.__main__"])
def test_nothing_imports_the_door(name: str) -> None:
    assert "smartc" not in imports(MODULES[name])


def test_few_files_are_loose() -> None:
    assert len(list((ROOT / "smartc").glob("*.py"))) <= MOST_LOOSE_FILES


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
