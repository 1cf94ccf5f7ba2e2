"""The processor that smartc runs on, and what it has to run networks with."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

# What runs networks here: the names of their distributions.
ONNX_RUNTIME, TVM = "onnxruntime", "apache-tvm"


def processor_name() -> str:
    """Return what the processor calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def installed_versions() -> dict[str, str]:
    """Return the versions of what runs networks."""
    versions = {ONNX_RUNTIME: metadata.version(ONNX_RUNTIME)}
    return versions | ({TVM: metadata.version(TVM)} if has_tvm() else {})


def has_tvm() -> bool:
    """Return whether TVM is installed."""
    return find_spec("tvm") is not None
